"""The building blocks of both papers: convolution with batch norm, depthwise separable block, inverted residual.

Layer names are arguments, because weight files find their layers by name.
"""

from typing import Any

from keras import KerasTensor, layers

from keras_mobilenet.layers import BatchNormalization, SamePadding2D

EPSILON = 1e-3  # of every batch norm, as in the published checkpoints


def make_divisible(channels: float, divisor: int = 8) -> int:
    """Rounds a channel count to a multiple of `divisor`, at most 10 % below the exact count.

    Args:
        channels: Exact channel count, > 0.
        divisor: What the result is a multiple of.

    Returns:
        The nearest multiple of `divisor`, at least `divisor`; the next one up where that is below 0.9 x `channels`.

    Example: `make_divisible(32 * 0.35)` is 16.

    Source: the published MobileNetV2 checkpoints (TF-Slim), which every V2 width follows.
    """
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * channels else rounded + divisor


def convolution(
    x: KerasTensor,
    filters: int,
    kernel_size: int = 1,
    *,
    name: str,
    batch_norm: str,
    relu6: str | None = None,
    stride: int = 1,
    dilation: int = 1,
    momentum: float,
) -> KerasTensor:
    """Standard convolution, batch norm and, where `relu6` names it, ReLU6.

    Args:
        x: Feature map [N, H, W, C].
        filters: Output channels.
        kernel_size: Kernel height and width.
        name: Name of the convolution.
        batch_norm: Name of its batch norm.
        relu6: Name of its ReLU6; None leaves it linear.
        stride: 1 or 2.
        dilation: Distance of the kernel's taps, in pixels.
        momentum: Batch norm momentum, 0 to 1.

    Returns:
        Feature map [N, ceil(H / stride), ceil(W / stride), filters].
    """
    options: dict[str, Any] = {"strides": stride, "dilation_rate": dilation, "padding": "same", "use_bias": False}
    x = layers.Conv2D(filters, kernel_size, name=name, **options)(x)
    return _normalize(x, batch_norm, relu6, momentum)


def depthwise(
    x: KerasTensor,
    kernel_size: int = 3,
    *,
    name: str,
    batch_norm: str,
    relu6: str | None,
    padding: str,
    stride: int = 1,
    dilation: int = 1,
    depth_multiplier: int = 1,
    momentum: float,
) -> KerasTensor:
    """Depthwise convolution, batch norm and, where `relu6` names it, ReLU6.

    Args:
        x: Feature map [N, H, W, C].
        kernel_size: Kernel height and width.
        name: Name of the depthwise convolution.
        batch_norm: Name of its batch norm.
        relu6: Name of its ReLU6; None leaves it linear.
        padding: Name of the padding layer that stands before a strided depthwise convolution, as in keras.applications.
        stride: 1 or 2.
        dilation: Distance of the kernel's taps, in pixels.
        depth_multiplier: Output channels per input channel.
        momentum: Batch norm momentum, 0 to 1.

    Returns:
        Feature map [N, ceil(H / stride), ceil(W / stride), C x depth_multiplier].
    """
    if stride > 1:
        x = SamePadding2D(kernel_size, stride, name=padding)(x)
    x = layers.DepthwiseConv2D(
        kernel_size,
        strides=stride,
        dilation_rate=dilation,
        depth_multiplier=depth_multiplier,
        padding="same" if stride == 1 else "valid",
        use_bias=False,
        name=name,
    )(x)
    return _normalize(x, batch_norm, relu6, momentum)


def depthwise_separable(
    x: KerasTensor,
    filters: int,
    *,
    block: int | str,
    stride: int = 1,
    dilation: int = 1,
    depth_multiplier: int = 1,
    momentum: float,
) -> KerasTensor:
    """Depthwise separable block: depthwise 3x3, then pointwise 1x1, each with batch norm and ReLU6.

    Args:
        x: Feature map [N, H, W, C].
        filters: Output channels.
        block: Number of the block, in its layers' names.
        stride: 1 or 2, of the depthwise convolution.
        dilation: Of the depthwise convolution, in pixels.
        depth_multiplier: Depthwise output channels per input channel.
        momentum: Batch norm momentum, 0 to 1.

    Returns:
        Feature map [N, ceil(H / stride), ceil(W / stride), filters].

    Source: arXiv:1704.04861, section 3.1 and figure 3.
    """
    dw, pw = f"conv_dw_{block}", f"conv_pw_{block}"
    x = depthwise(
        x,
        name=dw,
        batch_norm=f"{dw}_bn",
        relu6=f"{dw}_relu",
        padding=f"conv_pad_{block}",
        stride=stride,
        dilation=dilation,
        depth_multiplier=depth_multiplier,
        momentum=momentum,
    )
    return convolution(x, filters, name=pw, batch_norm=f"{pw}_bn", relu6=f"{pw}_relu", momentum=momentum)


def inverted_residual(
    x: KerasTensor,
    filters: int,
    *,
    expansion: int,
    prefix: str,
    stride: int = 1,
    dilation: int = 1,
    bottleneck_activation: str | None = None,
    shortcut: str | None = "bottleneck",
    previous_expansion: KerasTensor | None = None,
    momentum: float,
) -> tuple[KerasTensor, KerasTensor]:
    """Inverted residual: expand 1x1, depthwise 3x3, project 1x1, with a shortcut between the thin ends.

    Args:
        x: Bottleneck [N, H, W, C].
        filters: Channels of the bottleneck that comes out.
        expansion: Factor t; the expansion has t x C channels. With 1 there is no expanding convolution.
        prefix: Start of its layers' names.
        stride: 1 or 2, of the depthwise convolution.
        dilation: Of the depthwise convolution, in pixels.
        bottleneck_activation: None for the paper's linear bottleneck, "relu6" for the one it argues against.
        shortcut: "bottleneck" adds the bottlenecks where stride is 1 and their shapes are equal; "expansion" adds the
            expansion of the block before to this one's where their shapes are equal; None adds nothing.
        previous_expansion: Expansion of the block before, for `shortcut="expansion"`.
        momentum: Batch norm momentum, 0 to 1.

    Returns:
        The bottleneck [N, ceil(H / stride), ceil(W / stride), filters], and this block's expansion [N, H, W, t x C].

    Source: arXiv:1801.04381, section 3.4, table 1; the variants: section 6, figure 6.
    """
    bottleneck = x
    if expansion != 1:
        x = convolution(
            x,
            expansion * x.shape[-1],
            name=f"{prefix}expand",
            batch_norm=f"{prefix}expand_BN",
            relu6=f"{prefix}expand_relu",
            momentum=momentum,
        )
    if shortcut == "expansion" and previous_expansion is not None and previous_expansion.shape == x.shape:
        x = layers.Add(name=f"{prefix}expand_add")([previous_expansion, x])
    expanded = x
    x = depthwise(
        x,
        name=f"{prefix}depthwise",
        batch_norm=f"{prefix}depthwise_BN",
        relu6=f"{prefix}depthwise_relu",
        padding=f"{prefix}pad",
        stride=stride,
        dilation=dilation,
        momentum=momentum,
    )
    relu6 = f"{prefix}project_relu" if bottleneck_activation == "relu6" else None
    x = convolution(
        x, filters, name=f"{prefix}project", batch_norm=f"{prefix}project_BN", relu6=relu6, momentum=momentum
    )
    if shortcut == "bottleneck" and stride == 1 and bottleneck.shape[-1] == filters:
        x = layers.Add(name=f"{prefix}add")([bottleneck, x])
    return x, expanded


def global_pooling(x: KerasTensor, pooling: str | None) -> KerasTensor:
    """Global pooling as keras.applications names it: "avg", "max" or None for none.

    Args:
        x: Feature map [N, H, W, C].
        pooling: "avg", "max" or None.

    Returns:
        [N, C], or the feature map itself.
    """
    if pooling is None:
        return x
    return {"avg": layers.GlobalAveragePooling2D, "max": layers.GlobalMaxPooling2D}[pooling]()(x)


def _normalize(x: KerasTensor, name: str, relu6: str | None, momentum: float) -> KerasTensor:
    x = BatchNormalization(epsilon=EPSILON, momentum=momentum, name=name)(x)
    return layers.ReLU(6.0, name=relu6)(x) if relu6 else x
