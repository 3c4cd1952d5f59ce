"""What both builders ask of their arguments; each error names the value, what is allowed and the way out."""

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import keras

MIN_SIZE = 32  # pixels; the networks halve their input five times
IMAGENET_CLASSES = 1000


def check_choice(name: str, value: object, choices: Sequence[object]) -> None:
    """Raises ValueError unless `value` is one of `choices`."""
    if not any(value == choice and isinstance(value, type(choice)) for choice in choices):
        allowed = ", ".join(repr(choice) for choice in choices)
        raise ValueError(f"`{name}={value!r}` is not one of {allowed}.")


def check_whole(name: str, value: object, way_out: str = "") -> None:
    """Raises ValueError unless `value` is a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < 1:
        raise ValueError(f"`{name}={value!r}` is not a whole number of at least 1{way_out}.")


def check_share(name: str, value: object) -> None:
    """Raises ValueError unless 0 <= `value` < 1."""
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= float(value) < 1:
        raise ValueError(f"`{name}={value!r}` is not a share: pass a number from 0 to below 1.")


def check_network(
    *,
    alpha: float,
    classes: int,
    include_top: bool,
    pooling: str | None,
    output_stride: int,
    batch_norm_momentum: float,
) -> None:
    """Checks what both networks take.

    Args:
        alpha: Width multiplier, > 0.
        classes: Number of classes, >= 1; ignored where `include_top` is False.
        include_top: Whether the classifier is part of the network.
        pooling: None, "avg" or "max".
        output_stride: 32, 16 or 8.
        batch_norm_momentum: Momentum of the moving statistics, 0 to below 1.

    Raises:
        ValueError: One of them is not as it should be.
    """
    if isinstance(alpha, bool) or not isinstance(alpha, Real) or not 0 < alpha < float("inf"):
        raise ValueError(f"`alpha={alpha!r}` is not a width multiplier: pass a number above 0, such as 1.0 or 0.35.")
    if include_top:
        check_whole("classes", classes, "; `include_top=False` builds a network without a classifier")
    check_choice("pooling", pooling, (None, "avg", "max"))
    check_choice("output_stride", output_stride, (32, 16, 8))
    check_share("batch_norm_momentum", batch_norm_momentum)
    if keras.config.image_data_format() != "channels_last":
        raise ValueError(
            f"Keras is set to image_data_format={keras.config.image_data_format()!r}, but the networks are "
            'channels-last: call `keras.config.set_image_data_format("channels_last")`.'
        )


def check_imagenet_top(weights: Any, include_top: bool, classes: int, classifier_activation: Any) -> None:
    """Raises ValueError where the published classifier is asked for in a form that it does not have."""
    if weights != "imagenet" or not include_top:
        return
    if classes != IMAGENET_CLASSES:
        raise ValueError(
            f'`classes={classes}` does not fit `weights="imagenet"`, whose classifier has {IMAGENET_CLASSES}: build '
            "with `include_top=False` and add your own classifier, or leave `classes` out."
        )
    if keras.activations.get(classifier_activation) not in (keras.activations.softmax, keras.activations.linear):
        raise ValueError(
            f'`classifier_activation={classifier_activation!r}` does not fit `weights="imagenet"`: pass "softmax", or '
            "None for logits."
        )


def image_input(
    input_shape: Sequence[int | None] | None, input_tensor: Any, *, default_size: int | None
) -> keras.KerasTensor:
    """Makes or takes the image that the network reads.

    Args:
        input_shape: (height, width, channels) in pixels, each side None or at least 32; None for the default.
        input_tensor: Keras tensor [N, H, W, C] to use as the image, or None.
        default_size: Side of the image where neither says it, in pixels; None leaves it open.

    Returns:
        A Keras tensor [N, H, W, C].

    Raises:
        ValueError: The shape or the tensor can't be an image for these networks, or they contradict each other.
    """
    if input_tensor is not None and not keras.backend.is_keras_tensor(input_tensor):
        raise ValueError(
            f"`input_tensor` is a {type(input_tensor).__name__}, not a Keras tensor: pass the output of `keras.Input` "
            "or of a layer called on one."
        )
    if input_tensor is None:
        shape = (default_size, default_size, 3) if input_shape is None else input_shape
        return keras.layers.Input(shape=_checked_shape(shape, "input_shape"))
    shape = _checked_shape(input_tensor.shape[1:], "input_tensor.shape[1:]")
    if input_shape is not None and _checked_shape(input_shape, "input_shape") != shape:
        raise ValueError(
            f"`input_shape={tuple(input_shape)}` contradicts `input_tensor`, whose images are {shape}: leave one of "
            "them out."
        )
    return input_tensor


def _checked_shape(shape: Any, name: str) -> tuple[int | None, int | None, int]:
    help_text = (
        f"pass (height, width, channels), channels last, each side at least {MIN_SIZE} pixels or None for any size, "
        "such as (224, 224, 3)."
    )
    try:
        height, width, channels = (side if side is None else int(side) for side in shape)
        whole = all(side is None or side == given for side, given in zip((height, width, channels), shape, strict=True))
    except (TypeError, ValueError):
        raise ValueError(f"`{name}={shape!r}` is not an image shape: {help_text}") from None
    if not whole or channels is None or channels < 1 or any(s is not None and s < MIN_SIZE for s in (height, width)):
        raise ValueError(f"`{name}={tuple(shape)}` is not an image shape for these networks: {help_text}")
    return height, width, channels


def source_inputs(input_tensor: keras.KerasTensor) -> Any:
    """The `keras.Input`s that `input_tensor` is computed from, which a model's `inputs` have to be."""
    inputs = keras.utils.get_source_inputs(input_tensor)
    return inputs[0] if len(inputs) == 1 else inputs


def dilate(strides: Sequence[int], output_stride: int, stem_stride: int = 2) -> list[tuple[int, int]]:
    """Replaces stride by dilation so that the network's output stride is `output_stride`.

    Args:
        strides: Stride of each block.
        output_stride: Input pixels per pixel of the last feature map.
        stem_stride: Stride of the convolution before the blocks.

    Returns:
        (stride, dilation) of each block. A block whose stride is taken away keeps the dilation it had; those after it
        are dilated further.

    Example: `dilate([2, 2, 1], output_stride=4)` is `[(2, 1), (1, 1), (1, 2)]`.
    """
    reached, dilation, blocks = stem_stride, 1, []
    for stride in strides:
        if reached * stride > output_stride:
            blocks.append((1, dilation))
            dilation *= stride
        else:
            blocks.append((stride, dilation))
            reached *= stride
    return blocks
