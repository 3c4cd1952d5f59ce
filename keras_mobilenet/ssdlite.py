"""SSD and SSDLite detectors over both networks (arXiv:1512.02325; arXiv:1801.04381, section 6.2)."""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import keras
from keras import KerasTensor, layers

from keras_mobilenet import arguments, blocks, tflite_file
from keras_mobilenet import weights as weight_files
from keras_mobilenet.detection import head
from keras_mobilenet.detection.anchors import Anchors
from keras_mobilenet.mobilenet_v1 import MobileNetV1
from keras_mobilenet.mobilenet_v2 import MobileNetV2


@dataclass(frozen=True)
class Backbone:
    """A network below a detector: its builder, and the layers that the first two maps come from."""

    builder: Callable[..., keras.Model]
    stride_16: str
    stride_32: str


# The last layer of output stride 16 (V1's layer 11; the expansion of V2's layer 15) and the last layer of all.
BACKBONES = {
    "mobilenet_v1": Backbone(MobileNetV1, "conv_pw_11_relu", "conv_pw_13_relu"),
    "mobilenet_v2": Backbone(MobileNetV2, "block_13_expand_relu", "out_relu"),
}
EXTRA_FILTERS = (
    512,
    256,
    256,
    128,
)  # of the four maps behind the network; a 1x1 convolution to half as many stands before each
_LEAST_FILTERS = 16  # of a narrowed extra layer
_PRIOR = 0.01  # score of every class before training, so that the many anchors without a box don't drown the others


def SSDLite(
    backbone: str = "mobilenet_v2",
    alpha: float = 1.0,
    image_size: int = 320,
    classes: int = 90,
    weights: str | PathLike[str] | None = None,
    name: str | None = None,
    *,
    convolution: str = "depthwise_separable",
    scores: str = "sigmoid",
    anchor_scales: tuple[float, float] = (0.2, 0.95),
    aspect_ratios: Sequence[float] = (1.0, 2.0, 1 / 2, 3.0, 1 / 3),
    reduce_lowest: bool = True,
    batch_norm_momentum: float = 0.9,
) -> keras.Model:
    """Builds SSDLite: a single-shot detector whose heads are depthwise separable.

    Six feature maps are looked at: the last one of output stride 16, the network's last one, and four more behind it.

    Args:
        backbone: "mobilenet_v1" or "mobilenet_v2".
        alpha: Width multiplier of the network and of the four extra maps, > 0.
        image_size: Height and width of the picture in pixels, at least 32.
        classes: Number of classes, the background not counted; COCO's labels go to 90, 80 of them in use.
        weights: None (random), "imagenet" for the network alone, or a file: of the network, or of a detector.
        name: Name of the model.
        convolution: "depthwise_separable", or "standard" for the heads and extra maps of SSD.
        scores: "sigmoid": one logit a class, trained with focal loss; an Edge TPU computes its scores. "softmax": one
            more for the background before them, trained with hard negatives, as in the paper of SSD.
        anchor_scales: Side of the square anchors of the first and the last map, over the picture's.
        aspect_ratios: Width over height of the anchors.
        reduce_lowest: Whether the first map has three small anchors a cell only, as in the TensorFlow object detection
            API.
        batch_norm_momentum: Momentum of the moving statistics, 0 to below 1.

    Returns:
        A functional `keras.Model`: float images [N, image_size, image_size, 3] in [-1, 1] -> `box_encodings` [N,
        anchors, 4] and `class_logits` [N, anchors, classes], with "softmax" [N, anchors, 1 + classes], the background
        first. What they mean, `detection.head_of(model)` says; `km.detect` gives boxes.

    Raises:
        ValueError: An argument is out of its range, or the weights don't fit; the message says what does.

    Example:
    ```python
    model = km.SSDLite(alpha=0.35, image_size=320, classes=80)
    found = km.detect(model, km.preprocess_input(np.zeros((1, 320, 320, 3), "uint8")))
    ```

    Source: arXiv:1801.04381, section 6.2 and tables 5 and 6.
    """
    _check(alpha, image_size, classes)
    arguments.check_choice("backbone", backbone, tuple(BACKBONES))
    arguments.check_choice("convolution", convolution, ("depthwise_separable", "standard"))
    arguments.check_choice("scores", scores, head.SCORES)
    network = BACKBONES[backbone]
    base = network.builder(
        input_shape=(image_size, image_size, 3),
        alpha=alpha,
        include_top=False,
        weights=weights,
        batch_norm_momentum=batch_norm_momentum,
    )
    maps = [base.get_layer(layer).output for layer in (network.stride_16, network.stride_32)]
    build = _Building(convolution == "standard", batch_norm_momentum)
    for number, filters in enumerate(EXTRA_FILTERS, start=1):
        maps.append(build.extra(maps[-1], filters * alpha, f"extra_{number}"))
    anchors = Anchors(tuple(x.shape[1] for x in maps), *anchor_scales, tuple(aspect_ratios), reduce_lowest)
    boxes = build.head(maps, anchors, "boxes", 4, 0.0)
    boxes = layers.Concatenate(axis=1, name="boxes")(boxes)
    boxes = head.AnchoredBoxes(anchors.config(), scores, name=head.BOXES)(boxes)
    prior = -math.log((1 - _PRIOR) / _PRIOR) if scores == "sigmoid" else 0.0
    logits = build.head(maps, anchors, "classes", classes + int(scores == "softmax"), prior)
    logits = layers.Concatenate(axis=1, name=head.CLASSES)(logits)
    kind = "ssd" if convolution == "standard" else "ssdlite"
    model = keras.Model(base.input, [boxes, logits], name=name or f"{kind}_{backbone}_{alpha:0.2f}_{image_size}")
    _load_heads(model, weights)
    return model


def SSD(*args: Any, **kwargs: Any) -> keras.Model:
    """Builds SSD: `km.SSDLite` with regular convolutions in its heads, which table 5 compares it with.

    Args:
        *args: Those of `km.SSDLite`.
        **kwargs: Those of `km.SSDLite`.

    Returns:
        A functional `keras.Model` with the outputs of `km.SSDLite`.

    Raises:
        ValueError: An argument is out of its range, or the weights don't fit; the message says what does.

    Example:
    ```python
    model = km.SSD(alpha=0.35, image_size=320, classes=80)
    ```

    Source: arXiv:1512.02325, section 2.1; arXiv:1801.04381, table 5.
    """
    return SSDLite(*args, **(kwargs | {"convolution": "standard"}))


@dataclass(frozen=True)
class _Building:
    """The layers behind the network.

    Attributes:
        standard: Regular convolutions, not depthwise separable ones.
        momentum: Of batch norm.
    """

    standard: bool
    momentum: float

    def extra(self, x: KerasTensor, filters: float, name: str) -> KerasTensor:
        """A map of half the size: 1x1 to half of the channels, then 3x3 with stride 2."""
        x = self._convolution(x, max(int(filters / 2), _LEAST_FILTERS), 1, f"{name}_reduce")
        return self._convolution(x, max(int(filters), _LEAST_FILTERS), 3, name, stride=2)

    def head(
        self, maps: Sequence[KerasTensor], anchors: Anchors, kind: str, values: int, bias: float
    ) -> list[KerasTensor]:
        """`values` numbers for each anchor: [N, anchors, values] of each map."""
        outputs = []
        for number, (x, per_cell) in enumerate(zip(maps, anchors.per_cell, strict=True)):
            name = f"head_{number}_{kind}"
            kernel_size = 3
            if not self.standard:
                x, kernel_size = self._depthwise(x, f"{name}_depthwise"), 1
            start = keras.initializers.Constant(bias)
            x = layers.Conv2D(per_cell * values, kernel_size, padding="same", bias_initializer=start, name=name)(x)
            rows = x.shape[1] * x.shape[2] * per_cell
            outputs.append(layers.Reshape((rows, values), name=f"{name}_rows")(x))
        return outputs

    def _convolution(self, x: KerasTensor, filters: int, kernel_size: int, name: str, stride: int = 1) -> KerasTensor:
        if kernel_size > 1 and not self.standard:
            x, kernel_size, stride = self._depthwise(x, f"{name}_depthwise", stride), 1, 1
        return blocks.convolution(
            x,
            filters,
            kernel_size,
            stride=stride,
            name=name,
            batch_norm=f"{name}_bn",
            relu6=f"{name}_relu",
            momentum=self.momentum,
        )

    def _depthwise(self, x: KerasTensor, name: str, stride: int = 1) -> KerasTensor:
        return blocks.depthwise(
            x,
            stride=stride,
            name=name,
            batch_norm=f"{name}_bn",
            relu6=f"{name}_relu",
            padding=f"{name}_pad",
            momentum=self.momentum,
        )


def _check(alpha: float, image_size: int, classes: int) -> None:
    arguments.check_whole("image_size", image_size)
    if image_size < arguments.MIN_SIZE:
        raise ValueError(f"`image_size={image_size}` is too small: pass at least {arguments.MIN_SIZE} pixels.")
    arguments.check_network(
        alpha=alpha, classes=classes, include_top=True, pooling=None, output_stride=32, batch_norm_momentum=0.9
    )


def _load_heads(model: keras.Model, weights: str | PathLike[str] | None) -> None:
    """Loads the heads of a detector's file; the network was loaded when it was built, and such a file has none."""
    if weights is None or weights == "imagenet":
        return
    with Path(weights).expanduser().open("rb") as stream:
        if stream.read(8)[4:] == tflite_file.IDENTIFIER:
            return
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        weight_files.load_weights(model, weights)
    heads = [layer.name for layer in model.layers if layer.weights and layer.name.startswith(("extra_", "head_"))]
    for warning in caught:
        if not all(f"`{name}`" in str(warning.message) for name in heads):  # else it is a file of the network
            warnings.warn(str(warning.message), warning.category, stacklevel=3)
