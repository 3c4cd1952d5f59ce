"""DeepLabv3 (Chen et al., 2017, arXiv:1706.05587) on a MobileNet, as in section 6.3 of the MobileNetV2 paper."""

from collections.abc import Sequence
from os import PathLike
from typing import Any

import keras
from keras import KerasTensor, layers

from keras_mobilenet import arguments
from keras_mobilenet import weights as weight_files
from keras_mobilenet.layers import BatchNormalization, ResizeLike
from keras_mobilenet.mobilenet_v1 import MobileNetV1
from keras_mobilenet.mobilenet_v2 import MobileNetV2

# The layer whose output the head reads. Of V2 it is the 320-channel map: its last convolution, to 1280, is left out.
FEATURES = {"mobilenet_v1": "conv_pw_13_relu", "mobilenet_v2": "block_16_project_BN"}
FILTERS = 256  # of each branch and of what joins them
RATES = {16: (6, 12, 18), 8: (12, 24, 36)}  # output stride -> dilation of ASPP's 3x3 convolutions, in pixels
EPSILON = 1e-5  # of the head's batch norms, as in the published checkpoints


def DeepLabV3(
    backbone: str = "mobilenet_v2",
    alpha: float = 1.0,
    image_size: int | Sequence[int | None] | None = 513,
    output_stride: int = 16,
    aspp: bool = False,
    classes: int = 21,
    weights: str | PathLike[str] | None = None,
    name: str | None = None,
    *,
    divisor: int | None = None,
    dropout: float = 0.1,
    batch_norm_momentum: float = 0.9,
) -> keras.Model:
    """Builds DeepLabv3, which finds a class for each pixel.

    Over the backbone's last map lie a branch of 1x1 convolutions and one that pools the whole picture; with `aspp`
    three atrous 3x3 convolutions stand beside them. Their scores are enlarged to the size of the picture.

    Args:
        backbone: "mobilenet_v2" or "mobilenet_v1".
        alpha: Width multiplier of the backbone, > 0; the head's is always 1.
        image_size: Side of the picture, or (height, width), in pixels, at least 32 each; None, for one or for both, for
            any. A multiple of the output stride and 1 over lays the scores' corners on the picture's: 257, 321, 513.
        output_stride: 16, or 8 for finer maps at three to four times the cost: picture pixels per pixel of the map.
        aspp: Whether to add ASPP's atrous convolutions. The paper prefers the network without: 0.4 points of mIoU less,
            at half the cost.
        classes: Number of classes, the background among them.
        weights: None (random); "imagenet" for the backbone alone; or a file: a whole DeepLabv3 or a backbone, `.keras`,
            `.weights.h5`, `.h5` or quantized `.tflite`. Where it holds only the backbone a warning says so.
        name: Name of the model.
        divisor: What V2's channel counts are rounded to multiples of, >= 1. By default 8, as in the classifiers, unless
            `weights` is a `.tflite` file of other widths, such as DeepLab's own for alpha 0.5, which has 1.
        dropout: Dropped share before the last convolution, 0 to below 1.
        batch_norm_momentum: Momentum of the moving statistics, 0 to below 1.

    Returns:
        A functional `keras.Model`: float images [N, H, W, 3] in [-1, 1] -> logits [N, H, W, classes].

    Raises:
        ValueError: An argument is out of its range, or the weights don't fit; the message says what does.

    Example:
    ```python
    model = km.DeepLabV3(alpha=0.5, weights="deeplabv3_mnv2_dm05_pascal_quant.tflite")
    logits = model(km.preprocess_input(np.zeros((1, 513, 513, 3), "uint8")))
    class_map = np.argmax(logits, -1)
    ```

    Source: arXiv:1801.04381, section 6.3 and table 7; arXiv:1706.05587, section 3.3.
    """
    arguments.check_choice("backbone", backbone, tuple(FEATURES))
    arguments.check_choice("output_stride", output_stride, tuple(RATES))
    arguments.check_choice("aspp", aspp, (False, True))
    arguments.check_whole("classes", classes)
    arguments.check_share("dropout", dropout)
    options: dict[str, Any] = {
        "input_shape": _image_shape(image_size),
        "alpha": alpha,
        "weights": "imagenet" if weights == "imagenet" else None,
        "output_stride": output_stride,
        "batch_norm_momentum": batch_norm_momentum,
    }
    image, features = _backbone(backbone, options, divisor, weights)
    x = _pyramid(features, RATES[output_stride] if aspp else (), batch_norm_momentum)
    x = layers.Dropout(dropout, name="dropout")(x)
    x = layers.Conv2D(classes, 1, name="logits")(x)
    x = ResizeLike(name="enlarged")([x, image])
    name = name or f"deeplab_v3_{backbone}_{alpha:0.2f}_{image.shape[1]}"
    model = keras.Model(image, x, name=name)
    if weights != "imagenet":
        weight_files.initialize(model, weights, network=backbone, alpha=alpha, include_top=False)
    return model


def _image_shape(image_size: Any) -> tuple[Any, Any, int]:
    if image_size is None or (isinstance(image_size, int) and not isinstance(image_size, bool)):
        return image_size, image_size, 3
    if not isinstance(image_size, Sequence) or isinstance(image_size, str) or len(image_size) != 2:
        raise ValueError(
            f"`image_size={image_size!r}` is neither the side of the picture in pixels, such as 513, nor "
            "(height, width), nor None for any size."
        )
    return image_size[0], image_size[1], 3


def _backbone(
    backbone: str, options: dict[str, Any], divisor: int | None, weights: Any
) -> tuple[KerasTensor, KerasTensor]:
    """The picture, and the feature map that the head reads."""
    if backbone == "mobilenet_v2":
        divisor = weight_files.divisor(weights) if divisor is None else divisor
        network = MobileNetV2(include_top=False, divisor=divisor, **options)
    elif divisor is None:
        network = MobileNetV1(include_top=False, **options)
    else:
        raise ValueError(f'`divisor={divisor!r}` is for `backbone="mobilenet_v2"`; V1 rounds no channel counts.')
    return network.input, network.get_layer(FEATURES[backbone]).output


def _pyramid(features: KerasTensor, rates: Sequence[int], momentum: float) -> KerasTensor:
    """The branches over the feature map, joined: atrous spatial pyramid pooling, or without rates its cheapest parts.

    Source: arXiv:1706.05587, section 3.3 and figure 5; layer names of the published checkpoints.
    """
    pooled = layers.GlobalAveragePooling2D(keepdims=True, name="image_mean")(features)
    pooled = _convolution(pooled, 1, name="image_pooling", momentum=momentum)
    branches = [ResizeLike(name="image_pooling_enlarged")([pooled, features])]
    branches.append(_convolution(features, 1, name="aspp0", momentum=momentum))
    for number, rate in enumerate(rates, start=1):
        branches.append(_convolution(features, 3, name=f"aspp{number}", dilation=rate, momentum=momentum))
    x = layers.Concatenate(name="concat")(branches)
    return _convolution(x, 1, name="concat_projection", momentum=momentum)


def _convolution(x: KerasTensor, kernel_size: int, *, name: str, dilation: int = 1, momentum: float) -> KerasTensor:
    """Convolution, batch norm and ReLU, which unlike the backbone's has no end at 6."""
    convolution = layers.Conv2D(FILTERS, kernel_size, dilation_rate=dilation, padding="same", use_bias=False, name=name)
    x = BatchNormalization(epsilon=EPSILON, momentum=momentum, name=f"{name}_bn")(convolution(x))
    return layers.ReLU(name=f"{name}_relu")(x)
