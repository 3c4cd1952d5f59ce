"""MobileNetV2 (Sandler et al., 2018, arXiv:1801.04381)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import keras
from keras import KerasTensor, layers

from keras_mobilenet import arguments, blocks
from keras_mobilenet import weights as weight_files


@dataclass(frozen=True)
class Stage:
    """A row of the paper's table 2: factor t, channels c, repeats n, and stride s of the first repeat."""

    expansion: int
    filters: int
    repeats: int
    stride: int


STEM_FILTERS = 32  # 3x3, stride 2
LAST_FILTERS = 1280  # 1x1; not narrowed for alpha < 1

# arXiv:1801.04381, table 2. The paper's text counts 19 bottlenecks; its table holds 17.
STAGES = (
    Stage(1, 16, 1, 1),
    Stage(6, 24, 2, 2),
    Stage(6, 32, 3, 2),
    Stage(6, 64, 4, 2),
    Stage(6, 96, 3, 1),
    Stage(6, 160, 3, 2),
    Stage(6, 320, 1, 1),
)


def MobileNetV2(
    input_shape: Sequence[int | None] | None = None,
    alpha: float = 1.0,
    include_top: bool = True,
    weights: str | PathLike[str] | None = None,
    input_tensor: KerasTensor | None = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: str | Callable[..., Any] | None = "softmax",
    name: str | None = None,
    *,
    output_stride: int = 32,
    stages: Sequence[Stage] = STAGES,
    bottleneck_activation: str | None = None,
    shortcut: str | None = "bottleneck",
    divisor: int = 8,
    dropout: float = 0.0,
    batch_norm_momentum: float = 0.9,
) -> keras.Model:
    """Builds MobileNetV2: layer for layer and name for name the model of `keras.applications.MobileNetV2`.

    Args:
        input_shape: (height, width, channels) in pixels, each side at least 32 or None. Default (224, 224, 3) with the
            top, (None, None, 3) without.
        alpha: Width multiplier, > 0. Published weights: 0.35, 0.5, 0.75, 1.0, 1.3, 1.4.
        include_top: Whether to end in the classifier.
        weights: None (random), "imagenet", or a file: `.keras`, `.weights.h5`, `.h5`, quantized `.tflite`.
        input_tensor: Keras tensor [N, H, W, C] to use as the image.
        pooling: Without the top: None gives the last feature map, "avg" or "max" its global pooling.
        classes: Number of classes.
        classifier_activation: Of the classifier; None gives logits.
        name: Name of the model.
        output_stride: 32, 16 or 8; below 32, dilation replaces stride.
        stages: Rows of table 2; `Stage(expansion, filters, repeats, stride)` each.
        bottleneck_activation: None for linear bottlenecks, "relu6" for the variant of figure 6a.
        shortcut: "bottleneck" between bottlenecks, "expansion" between the expansions of consecutive blocks, or None
            (figure 6b).
        divisor: What channel counts are rounded to multiples of, >= 1. The published classifiers have 8; DeepLab's
            narrow backbones have 1.
        dropout: Dropped share before the classifier, 0 to below 1; keras.applications has none.
        batch_norm_momentum: Momentum of the moving statistics, 0 to below 1. The default follows a fine-tuning of a few
            hundred steps; training on ImageNet from scratch wants 0.997.

    Returns:
        A functional `keras.Model`: float images [N, H, W, C] in [-1, 1] -> [N, classes], or the feature map.

    Raises:
        ValueError: An argument is out of its range, or the weights don't fit; the message says what does.

    Example:
    ```python
    model = km.MobileNetV2(alpha=0.5)
    probabilities = model(km.preprocess_input(np.zeros((1, 224, 224, 3), "uint8")))
    ```

    Source: arXiv:1801.04381, table 2.
    """
    arguments.check_network(
        alpha=alpha,
        classes=classes,
        include_top=include_top,
        pooling=pooling,
        output_stride=output_stride,
        batch_norm_momentum=batch_norm_momentum,
    )
    arguments.check_choice("bottleneck_activation", bottleneck_activation, (None, "relu6"))
    arguments.check_choice("shortcut", shortcut, ("bottleneck", "expansion", None))
    arguments.check_whole("divisor", divisor)
    arguments.check_share("dropout", dropout)
    arguments.check_imagenet_top(weights, include_top, classes, classifier_activation)
    rows = _unroll(stages)

    image = arguments.image_input(input_shape, input_tensor, default_size=224 if include_top else None)
    x = blocks.convolution(
        image,
        blocks.make_divisible(STEM_FILTERS * alpha, divisor),
        3,
        stride=2,
        name="Conv1",
        batch_norm="bn_Conv1",
        relu6="Conv1_relu",
        momentum=batch_norm_momentum,
    )
    expanded = None
    strides = arguments.dilate([stride for _, stride in rows], output_stride)
    for number, ((stage, _), (stride, dilation)) in enumerate(zip(rows, strides, strict=True)):
        x, expanded = blocks.inverted_residual(
            x,
            blocks.make_divisible(int(stage.filters * alpha), divisor),
            expansion=stage.expansion,
            prefix=f"block_{number}_" if number else "expanded_conv_",
            stride=stride,
            dilation=dilation,
            bottleneck_activation=bottleneck_activation,
            shortcut=shortcut,
            previous_expansion=expanded,
            momentum=batch_norm_momentum,
        )
        expanded = expanded if stride == 1 else None  # the next one has another resolution
    last_filters = blocks.make_divisible(LAST_FILTERS * max(1.0, alpha), divisor)
    x = blocks.convolution(
        x, last_filters, name="Conv_1", batch_norm="Conv_1_bn", relu6="out_relu", momentum=batch_norm_momentum
    )
    if include_top:
        x = layers.GlobalAveragePooling2D()(x)
        x = layers.Dropout(dropout, name="dropout")(x) if dropout else x
        x = layers.Dense(classes, activation=classifier_activation, name="predictions")(x)
    else:
        x = blocks.global_pooling(x, pooling)

    name = name or f"mobilenetv2_{alpha:0.2f}_{image.shape[1]}"
    model = keras.Model(arguments.source_inputs(image), x, name=name)
    weight_files.initialize(model, weights, network="mobilenet_v2", alpha=alpha, include_top=include_top)
    return model


def _unroll(stages: Sequence[Stage]) -> list[tuple[Stage, int]]:
    """(stage, stride) of each block: a stage's stride is that of its first repeat."""
    if not stages or not all(isinstance(stage, Stage) for stage in stages):
        raise ValueError(
            f"`stages={stages!r}` is not a list of rows: pass `Stage(expansion, filters, repeats, stride)`s from "
            "keras_mobilenet.mobilenet_v2, such as STAGES."
        )
    for stage in stages:
        for field in ("expansion", "filters", "repeats", "stride"):
            arguments.check_whole(f"stages: {stage!r}.{field}", getattr(stage, field))
    return [(stage, stage.stride if repeat == 0 else 1) for stage in stages for repeat in range(stage.repeats)]
