"""Float training, pruning and quantization-aware training, one behind the other on the same model."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
import tensorflow as tf
from absl import logging

import keras_mobilenet as km
from training import data, losses, network, optimizers
from training.checkpoints import Checkpoints
from training.cluster import Cluster
from training.history import History
from training.loop import Evaluate, Plan, Trainer
from training.metrics import evaluate
from training.pictures import Pictures
from training.recipe import Recipe

MODEL_FILE = "model.keras"


@dataclass(frozen=True)
class Stage:
    """What distinguishes one stage from another.

    Args:
        name: "float", "prune" or "quantize".
        epochs: Epochs of training.
        learning_rate: Highest learning rate.
        prepare: From the model before and the number of steps to the model that is trained.
    """

    name: str
    epochs: int
    learning_rate: float
    prepare: Callable[[keras.Model | None, int], keras.Model]


def stages(recipe: Recipe, pictures: Pictures) -> list[Stage]:
    """The stages that a recipe names, in their order."""

    def build(model: keras.Model | None = None, steps: int = 0) -> keras.Model:
        del model, steps
        return network.build(recipe, pictures.classes)

    def prune(model: keras.Model | None, steps: int) -> keras.Model:
        end = max(1, round(recipe.prune_ramp * steps))
        # tfmot's schedule prunes at multiples of the frequency up to `end`: with ten of them or more the last one
        # comes within 0.1 % of the sparsity that was asked for.
        frequency = min(recipe.prune_frequency, max(1, end // 10))
        schedule = km.PolynomialDecay(0.0, recipe.sparsity, 0, end, frequency=frequency)
        return km.prune(model or build(), schedule)

    def quantize(model: keras.Model | None, steps: int) -> keras.Model:
        aware = km.quantize_aware(model or build(), freeze_after=round(recipe.quantize_freeze * steps))
        km.calibrate(aware, calibration_batches(recipe, pictures.train))
        return aware

    known = {
        "float": Stage("float", recipe.epochs, recipe.learning_rate, build),
        "prune": Stage("prune", recipe.prune_epochs, recipe.prune_learning_rate, prune),
        "quantize": Stage("quantize", recipe.quantize_epochs, recipe.quantize_learning_rate, quantize),
    }
    return [known[name] for name in recipe.stage_names]


def run(recipe: Recipe, pictures: Pictures, output_dir: Path, cluster: Cluster) -> dict[str, Path]:
    """Runs the stages that are not done yet; a run that was killed goes on where its last checkpoint is.

    Every stage starts from the file of the one before, also where both run in one go: a model is then the same one,
    however often the run was killed.

    Args:
        recipe: What to do.
        pictures: On which pictures.
        output_dir: Each stage has a folder there.
        cluster: On which devices.

    Returns:
        Stage -> its finished model, a `.keras` file.
    """
    if recipe.early_stop and pictures.validation is None:
        raise ValueError(f"early_stop={recipe.early_stop} looks at a validation split: give --validation_share, or 0.")
    finished: dict[str, Path] = {}
    previous: Path | None = None
    for stage in stages(recipe, pictures):
        folder = output_dir / stage.name
        path = folder / MODEL_FILE
        if path.exists():
            logging.info("Stage %s is done: %s", stage.name, path)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            _train(stage, previous, recipe, pictures, folder, cluster)
        finished[stage.name] = previous = path
    return finished


def _train(
    stage: Stage, previous: Path | None, recipe: Recipe, pictures: Pictures, folder: Path, cluster: Cluster
) -> None:
    """Trains a stage from the model file of the one before, and publishes its own."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(recipe.seed)
    keras.config.set_dtype_policy(recipe.precision if stage.name == "float" else "float32")
    steps_per_epoch = data.steps_per_epoch(pictures.train.count, recipe.batch_size)
    steps = stage.epochs * steps_per_epoch
    with cluster.strategy.scope():
        model = stage.prepare(network.load(previous) if previous else None, steps)
        optimizer = optimizers.build(
            recipe,
            model,
            learning_rate=stage.learning_rate,
            steps=steps,
            steps_per_epoch=steps_per_epoch,
            warmup_epochs=recipe.warmup_epochs if stage.name == "float" else 0.0,
        )
    trainer = Trainer(model, optimizer, _loss(recipe, pictures.classes), cluster.strategy)
    checkpoints = Checkpoints(folder / "checkpoints", model, optimizer, write=cluster.chief)
    trainer.train(
        lambda step: cluster.distribute(pictures.train, input_config(recipe), step),
        Plan(stage.epochs, steps_per_epoch, recipe.batch_size, recipe.checkpoint_seconds, recipe.early_stop),
        checkpoints=checkpoints,
        history=History(folder, write=cluster.chief),
        evaluate=_validation(recipe, pictures.validation, cluster),
        label=stage.name,
        quiet=not cluster.chief,
        first_step=cluster.agree(checkpoints.newest()),
    )
    trainer.take_average()
    cluster.check_equal(model.variables)

    def save(path: str) -> None:
        mixed = keras.config.dtype_policy().name != "float32"
        (network.in_float32(model, recipe, pictures.classes) if mixed else model).save(path)

    cluster.publish(save, folder / MODEL_FILE)


def input_config(recipe: Recipe) -> data.Input:
    """What the model is fed, as the data pipeline takes it."""
    return data.Input(
        image_size=(recipe.image_size, recipe.image_size),
        batch_size=recipe.batch_size,
        seed=recipe.seed,
        evaluation_crop=recipe.evaluation_crop or None,
        augmentation=data.Augmentation(
            crop_scale=(recipe.crop_min_area, 1.0) if recipe.crop_min_area else None,
            flip=recipe.flip,
            reflect=recipe.reflect,
            rand_augment=recipe.rand_augment,
            magnitude=recipe.magnitude,
            mixup=recipe.mixup,
            cutmix=recipe.cutmix,
        ),
    )


def calibration_batches(recipe: Recipe, train: data.Split) -> tf.data.Dataset:
    """Batches of images, as evaluation sees them, that the first ranges are taken from."""
    steps = max(1, recipe.calibration_pictures // recipe.batch_size)
    first = train.select(_spread(train.count, steps * recipe.batch_size))
    return data.batches(first, input_config(recipe), training=False).map(lambda images, labels: images)


def _spread(count: int, wanted: int) -> list[int]:
    """Positions spread over a split, whose pictures may lie class by class."""
    return [round(i * count / wanted) for i in range(wanted)] if wanted < count else list(range(count))


def _loss(recipe: Recipe, classes: int) -> losses.Loss:
    loss = losses.cross_entropy(classes, recipe.label_smoothing)
    if recipe.teacher is None:
        return loss
    teacher = network.load(recipe.teacher)
    return losses.distillation(loss, teacher, recipe.distillation, recipe.temperature)


def _validation(recipe: Recipe, split: data.Split | None, cluster: Cluster) -> Evaluate | None:
    """Each process evaluates its share of the pictures, and all get the figures of the whole."""
    if split is None:
        return None
    share = {"num_workers": cluster.workers, "worker": cluster.worker}
    return lambda predict: evaluate(
        predict, data.batches(split, input_config(recipe), training=False, **share), cluster.total
    )
