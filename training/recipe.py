"""What a training run is made of: the fields of a recipe, which are the flags of `training.train` too."""

import dataclasses
import importlib
import pkgutil
from dataclasses import dataclass, field
from typing import Any

TASKS = ("classification", "detection", "segmentation")
STAGES = ("float", "prune", "quantize")


def _field(default: Any, help_text: str, choices: tuple[str, ...] | None = None) -> Any:
    """A field with the text of its flag, and what may stand in it."""
    return field(default=default, metadata={"help": help_text, "choices": choices})


@dataclass(frozen=True)
class Recipe:
    """One run of `training.train`, from data to exported version. Each field is a flag of the same name."""

    task: str = _field("classification", "What the network is trained for.", TASKS)

    # The network.
    model: str = _field("mobilenet_v2", "Network.", ("mobilenet_v1", "mobilenet_v2"))
    alpha: float = _field(1.0, "Width multiplier, > 0.")
    image_size: int = _field(224, "Height and width of the input, in pixels.")
    weights: str | None = _field(None, "Where training starts: nothing for random, imagenet, or a weights file.")
    dropout: float = _field(0.0, "Dropped share before the classifier.")
    batch_norm_momentum: float = _field(0.9, "Momentum of batch norm's moving statistics.")

    freeze_batch_norm: bool = _field(False, "Batch norm keeps its statistics, scale and offset, for fine-tuning.")

    # The pictures.
    dataset: str = _field(
        "digits",
        "digits, folder, tfrecord; with boxes shapes, coco_json; with masks shapes, mask_folder; or the name of a "
        "tensorflow-datasets data set.",
    )
    data_dir: str | None = _field(None, "Folder of the pictures.")
    train_files: str | None = _field(
        None, "tfrecord: file pattern of the training pictures; coco_json: their JSON file; mask_folder: their masks."
    )
    validation_files: str | None = _field(
        None, "tfrecord: file pattern of the validation pictures; coco_json: their JSON file; mask_folder: their masks."
    )
    test_files: str | None = _field(
        None, "tfrecord: file pattern of the test pictures; coco_json: their JSON file; mask_folder: their masks."
    )
    labels_file: str | None = _field(None, "tfrecord, mask_folder: text file of class names, one a line.")
    validation_share: float = _field(0.1, "Share of the training pictures held out where there is no validation split.")
    max_bad_share: float = _field(0.01, "Share of pictures that may be unreadable before the run stops.")
    cache: bool = _field(False, "Keep the decoded pictures in memory.")
    evaluation_crop: float = _field(0.875, "Side of the centre crop at evaluation, 224/256 as published; 0 resizes.")
    crop_min_area: float = _field(0.0, "Least area share of the random resized crop; 0 for none.")
    flip: bool = _field(True, "Mirror half of the training pictures.")
    reflect: int = _field(0, "Shift training pictures by up to so many pixels, reflecting at the edges.")
    rand_augment: int = _field(0, "Operations of RandAugment; 0 for none.")
    magnitude: float = _field(9.0, "Strength of RandAugment, 0 to 10.")
    mixup: float = _field(0.0, "Alpha of mixup's Beta distribution; 0 for none.")
    cutmix: float = _field(0.0, "Alpha of CutMix's Beta distribution; 0 for none.")

    box_crop: bool = _field(False, "detection: cut random pieces with objects out of half of the training pictures.")

    # The detector.
    ssd_heads: str = _field("separable", "detection: heads of SSDLite, or of SSD.", ("separable", "standard"))
    scores: str = _field(
        "sigmoid", "detection: sigmoid with focal loss, or softmax with hard negatives.", ("sigmoid", "softmax")
    )
    box_weight: float = _field(1.0, "detection: weight of the boxes' part of the loss.")

    # The segmenter.
    output_stride: int = _field(16, "segmentation: picture pixels per pixel of the network's map, 16 or 8.")
    aspp: bool = _field(False, "segmentation: atrous spatial pyramid pooling.")
    scale_min: float = _field(0.5, "segmentation: least random scale of training pictures.")
    scale_max: float = _field(2.0, "segmentation: largest random scale of training pictures.")

    # Optimisation.
    epochs: int = _field(20, "Epochs of float training.")
    batch_size: int = _field(64, "Pictures in a step, over all workers.")
    optimizer: str = _field("sgd", "Optimizer.", ("sgd", "rmsprop", "adamw"))
    learning_rate: float = _field(0.02, "Highest learning rate of float training.")
    momentum: float = _field(0.9, "Momentum of SGD and RMSprop.")
    schedule: str = _field("cosine", "Learning rate over time.", ("cosine", "exponential", "poly"))
    decay_rate: float = _field(0.98, "Factor of the exponential schedule.")
    decay_epochs: float = _field(1.0, "Epochs from one factor to the next.")
    warmup_epochs: float = _field(0.0, "Epochs of float training in which the learning rate rises from 0.")
    weight_decay: float = _field(0.0, "Weight decay; batch norm, biases and depthwise kernels are exempt.")
    label_smoothing: float = _field(0.0, "Label smoothing, 0 to below 1.")
    ema: float = _field(0.0, "Momentum of the weights' moving average that is evaluated and kept; 0 for none.")
    teacher: str | None = _field(None, "Keras file of a model to distil from.")
    distillation: float = _field(0.5, "Weight of the teacher's part of the loss, 0 to 1.")
    temperature: float = _field(2.0, "Temperature of distillation.")
    validate_every: int = _field(
        1, "Epochs from one look at the validation pictures to the next; the last is looked at."
    )
    early_stop: int = _field(0, "Stop after so many epochs without a better figure in validation; 0 never.")

    # The stages after float training.
    stages: str = _field("float", "Comma list of float, prune, quantize, in this order.")
    sparsity: float = _field(0.5, "Share of zeros that pruning ends at, 0 to below 1.")
    prune_epochs: int = _field(2, "Epochs of pruning.")
    prune_learning_rate: float = _field(0.01, "Highest learning rate of pruning.")
    prune_ramp: float = _field(0.5, "Share of pruning's steps in which the sparsity rises.")
    prune_allocation: str = _field(
        "uniform", "Every kernel has that sparsity, or all together have it and large ones more.", ("uniform", "lamp")
    )
    prune_frequency: int = _field(10, "Steps between two changes of the masks.")
    quantize_epochs: int = _field(2, "Epochs of quantization-aware training.")
    quantize_learning_rate: float = _field(0.002, "Highest learning rate of quantization-aware training.")
    quantize_freeze: float = _field(0.75, "Share of its steps after which ranges and batch norm stand still.")
    calibration_pictures: int = _field(512, "Training pictures that the first ranges are taken from.")

    # The run.
    seed: int = _field(0, "Seed of weights, order and random changes.")
    deterministic: bool = _field(False, "Op determinism: the same weights from run to run on a GPU, at a cost.")
    precision: str = _field("float32", "Precision of float training.", ("float32", "mixed_float16", "mixed_bfloat16"))
    strategy: str = _field("one", "Devices.", ("one", "mirrored", "multi_worker"))
    checkpoint_seconds: float = _field(60.0, "Seconds between two checkpoints.")

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            choices = item.metadata["choices"]
            if choices and getattr(self, item.name) not in choices:
                raise ValueError(f"{item.name}={getattr(self, item.name)!r} is not one of {', '.join(choices)}.")
        if not self.stage_names or list(self.stage_names) != [s for s in STAGES if s in self.stage_names]:
            raise ValueError(f"stages={self.stages!r} is not some of {','.join(STAGES)}, in this order.")
        for name in ("epochs", "prune_epochs", "quantize_epochs"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)} is not a number of epochs: give 0 or more.")
        if self.validate_every < 1:
            raise ValueError(f"validate_every={self.validate_every} is not a number of epochs: give 1 or more.")
        for name in ("sparsity", "label_smoothing", "ema", "dropout", "validation_share"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} is not a share: give 0 to below 1.")

    @property
    def stage_names(self) -> tuple[str, ...]:
        """The stages to run, in their order."""
        return tuple(name.strip() for name in self.stages.split(",") if name.strip())


def names() -> list[str]:
    """Names of the recipes in `training/recipes`."""
    from training import recipes

    return sorted(module.name for module in pkgutil.iter_modules(recipes.__path__))


def load(name: str) -> Recipe:
    """The recipe `training/recipes/NAME.py`.

    Raises:
        ValueError: There is none of this name.
    """
    if name not in names():
        raise ValueError(f"There is no recipe {name!r}; training/recipes has {', '.join(names())}.")
    recipe: Recipe = importlib.import_module(f"training.recipes.{name}").RECIPE
    return recipe
