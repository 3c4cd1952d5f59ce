"""MobileNetV1 (Howard et al., 2017, arXiv:1704.04861)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import keras
from keras import KerasTensor, layers

from keras_mobilenet import arguments, blocks
from keras_mobilenet import weights as weight_files


@dataclass(frozen=True)
class Block:
    """A row of the paper's body: output channels at width multiplier 1, and stride."""

    filters: int
    stride: int


STEM_FILTERS = 32  # 3x3, stride 2

# arXiv:1704.04861, table 1. The paper prints stride 2 for the last depthwise convolution; only 1 fits its 7 x 7 output.
BLOCKS = (
    Block(64, 1),
    Block(128, 2),
    Block(128, 1),
    Block(256, 2),
    Block(256, 1),
    Block(512, 2),
    *(Block(512, 1),) * 5,
    Block(1024, 2),
    Block(1024, 1),
)

# Table 5: the five 14 x 14 x 512 blocks taken out.
SHALLOW_BLOCKS = tuple(block for block in BLOCKS if block != Block(512, 1))


def MobileNetV1(
    input_shape: Sequence[int | None] | None = None,
    alpha: float = 1.0,
    depth_multiplier: int = 1,
    dropout: float = 1e-3,
    include_top: bool = True,
    weights: str | PathLike[str] | None = None,
    input_tensor: KerasTensor | None = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: str | Callable[..., Any] | None = "softmax",
    name: str | None = None,
    *,
    output_stride: int = 32,
    convolution: str = "depthwise_separable",
    shallow: bool = False,
    batch_norm_momentum: float = 0.9,
) -> keras.Model:
    """Builds MobileNetV1: layer for layer and name for name the model of `keras.applications.MobileNet`.

    Args:
        input_shape: (height, width, channels) in pixels, each side at least 32 or None. Default (224, 224, 3) with the
            top, (None, None, 3) without.
        alpha: Width multiplier, > 0. Published weights: 0.25, 0.5, 0.75, 1.0.
        depth_multiplier: Depthwise output channels per input channel, >= 1; the paper's networks have 1.
        dropout: Dropped share before the classifier, 0 to below 1.
        include_top: Whether to end in the classifier.
        weights: None (random), "imagenet", or a file: `.keras`, `.weights.h5`, `.h5`, quantized `.tflite`.
        input_tensor: Keras tensor [N, H, W, C] to use as the image.
        pooling: Without the top: None gives the last feature map, "avg" or "max" its global pooling.
        classes: Number of classes.
        classifier_activation: Of the classifier; None gives logits.
        name: Name of the model.
        output_stride: 32, 16 or 8; below 32, dilation replaces stride.
        convolution: "depthwise_separable", or "standard" for the Conv MobileNet of table 4.
        shallow: Whether to leave out the five 14 x 14 x 512 blocks (table 5).
        batch_norm_momentum: Momentum of the moving statistics, 0 to below 1. The default follows a fine-tuning of a few
            hundred steps; training on ImageNet from scratch wants 0.997.

    Returns:
        A functional `keras.Model`: float images [N, H, W, C] in [-1, 1] -> [N, classes], or the feature map.

    Raises:
        ValueError: An argument is out of its range, or the weights don't fit; the message says what does.

    Example:
    ```python
    model = km.MobileNetV1(alpha=0.25, input_shape=(128, 128, 3))
    probabilities = model(km.preprocess_input(np.zeros((1, 128, 128, 3), "uint8")))
    ```

    Source: arXiv:1704.04861, table 1.
    """
    arguments.check_network(
        alpha=alpha,
        classes=classes,
        include_top=include_top,
        pooling=pooling,
        output_stride=output_stride,
        batch_norm_momentum=batch_norm_momentum,
    )
    arguments.check_choice("convolution", convolution, ("depthwise_separable", "standard"))
    arguments.check_whole("depth_multiplier", depth_multiplier)
    arguments.check_share("dropout", dropout)
    arguments.check_imagenet_top(weights, include_top, classes, classifier_activation)

    image = arguments.image_input(input_shape, input_tensor, default_size=224 if include_top else None)
    x = blocks.convolution(
        image,
        _width(STEM_FILTERS, alpha),
        3,
        stride=2,
        name="conv1",
        batch_norm="conv1_bn",
        relu6="conv1_relu",
        momentum=batch_norm_momentum,
    )
    rows = SHALLOW_BLOCKS if shallow else BLOCKS
    strides = arguments.dilate([row.stride for row in rows], output_stride)
    for number, (row, (stride, dilation)) in enumerate(zip(rows, strides, strict=True), start=1):
        filters = _width(row.filters, alpha)
        if convolution == "standard":
            x = blocks.convolution(
                x,
                filters,
                3,
                name=f"conv_{number}",
                batch_norm=f"conv_{number}_bn",
                relu6=f"conv_{number}_relu",
                stride=stride,
                dilation=dilation,
                momentum=batch_norm_momentum,
            )
        else:
            x = blocks.depthwise_separable(
                x,
                filters,
                block=number,
                stride=stride,
                dilation=dilation,
                depth_multiplier=depth_multiplier,
                momentum=batch_norm_momentum,
            )
    if include_top:
        x = _classifier(x, classes, dropout, classifier_activation)
    else:
        x = blocks.global_pooling(x, pooling)

    name = name or f"mobilenet_{alpha:0.2f}_{image.shape[1]}"
    model = keras.Model(arguments.source_inputs(image), x, name=name)
    weight_files.initialize(model, weights, network="mobilenet_v1", alpha=alpha, include_top=include_top)
    return model


def _width(filters: int, alpha: float) -> int:
    return max(1, int(filters * alpha))


def _classifier(
    x: KerasTensor, classes: int, dropout: float, activation: str | Callable[..., Any] | None
) -> KerasTensor:
    """Global average pooling and a 1x1 convolution, in keras.applications' layers and names."""
    x = layers.GlobalAveragePooling2D(keepdims=True)(x)
    x = layers.Dropout(dropout, name="dropout")(x)
    x = layers.Conv2D(classes, 1, padding="same", name="conv_preds")(x)
    x = layers.Reshape((classes,), name="reshape_2")(x)
    return layers.Activation(activation, name="predictions")(x)
