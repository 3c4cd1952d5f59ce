"""8-bit fake quantization: tfmot's quantizers as Keras 3 layers and functions.

Values are rounded to the grid that the int8 file will hold, and stay float32. Gradients pass through the rounding.
"""

import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_mobilenet.optimization import tfmot

DECAY = 0.999  # of the moving averages: what tfmot's MovingAverageQuantizer has
_SMALLEST_RANGE = 1e-6  # a range of no width has no grid


@functools.cache
def _activation_quantizer() -> Callable[..., Any]:
    quantizers = tfmot.load().quantization.keras.quantizers
    return quantizers.MovingAverageQuantizer(num_bits=8, per_axis=False, symmetric=False, narrow_range=False)


@functools.cache
def _kernel_quantizer() -> Callable[..., Any]:
    quantizers = tfmot.load().quantization.keras.quantizers
    return quantizers.LastValueQuantizer(num_bits=8, per_axis=True, symmetric=True, narrow_range=True)


class _PassedOn:
    """In the place of the variable in which tfmot's LastValueQuantizer stores a range: hands it on unstored."""

    def assign(self, value: Any, name: str | None = None) -> Any:
        return value


def fake_quantize_kernel(kernel: Any) -> Any:
    """Rounds a kernel to 8 bits, symmetrically and per output channel, with tfmot's LastValueQuantizer.

    The range is that of the kernel as it is, in training and at inference alike. tfmot stores it in a variable while it
    trains and reads that at inference, when it is a step old: the kernel moved after it was taken.

    Args:
        kernel: [..., output channels], float32, of 2 or 4 dimensions.

    Returns:
        The kernel on the grid -127 .. 127 times the largest weight of the channel / 127. Zero stays zero. The gradient
        is that of the identity, since the range leaves no weight out.
    """

    @tf.custom_gradient
    def straight_through(kernel: Any) -> Any:
        passed_on = _PassedOn()
        return _kernel_quantizer()(
            kernel, True, {"min_var": passed_on, "max_var": passed_on}
        ), lambda gradient: gradient

    return straight_through(tf.convert_to_tensor(kernel))


def fake_quantize_depthwise_kernel(kernel: Any) -> Any:
    """`fake_quantize_kernel` for a depthwise kernel [height, width, C, depth_multiplier], per each of its channels."""
    kernel = tf.convert_to_tensor(kernel)
    height, width, channels, multiplier = kernel.shape
    flat = tf.reshape(kernel, (height, width, 1, channels * multiplier))
    return tf.reshape(fake_quantize_kernel(flat), kernel.shape)


def nudge(low: float, high: float) -> tuple[float, float]:
    """The range that the int8 grid really covers: [low, high] with zero on a whole step, as the fake-quant op nudges.

    Args:
        low: At most 0.
        high: At least 0.

    Returns:
        (low, high); never without width.
    """
    bottom = np.float32(min(low, 0.0))
    step = (np.float32(max(high, 0.0, float(bottom) + _SMALLEST_RANGE)) - bottom) / np.float32(255)
    zero_point = np.floor(np.clip(-bottom / step, 0, 255) + np.float32(0.5))
    return float(-zero_point * step), float((255 - zero_point) * step)


@keras.saving.register_keras_serializable(package="keras_mobilenet")
class FakeQuant(keras.layers.Layer):
    """Fake quantization of an activation: 8 bits, asymmetric, one range, with tfmot's MovingAverageQuantizer.

    In training the range follows the smallest and the largest value of each batch as a moving average of decay 0.999;
    at inference it stands. It stands in training as well where the layer is not trainable, and after `freeze_after`
    steps: tfmot's quantizer can't stop within a graph, so that the averages are taken here, with its arithmetic.

    Args:
        freeze_after: Training steps after which the range stands still; None for never.
        nonnegative: Whether no value is below zero, as after ReLU: the range starts at [0, 6] instead of [-6, 6], and
            no time goes into looking for a minimum.
        **kwargs: Those of `keras.layers.Layer`.
    """

    def __init__(self, freeze_after: int | None = None, nonnegative: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.freeze_after = freeze_after
        self.nonnegative = nonnegative

    def build(self, input_shape: Any = None) -> None:  # noqa: D102
        def scalar(name: str, value: float) -> keras.Variable:
            start = keras.initializers.Constant(value)
            return self.add_weight(
                shape=(), initializer=start, trainable=False, dtype="float32", aggregation="mean", name=name
            )

        self.low = scalar("low", 0.0 if self.nonnegative else -6.0)
        self.high = scalar("high", 6.0)
        self.steps = add_step_counter(self) if self.freeze_after is not None else None

    def call(self, inputs: Any, training: bool | None = None) -> Any:  # noqa: D102
        x = tf.cast(inputs, "float32")
        if not (training and self.trainable):
            return self._quantize(x, self.low.value, self.high.value)
        smallest = 0.0 if self.nonnegative else tf.minimum(tf.reduce_min(x), 0.0)
        return self._quantize(x, *self._follow(smallest, tf.maximum(tf.reduce_max(x), 0.0)))

    def relu(self, inputs: Any, max_value: float | None, training: bool | None) -> Any:
        """ReLU and fake quantization in one: the quantizer's range clips, so that ReLU needs no pass of its own.

        Args:
            inputs: What ReLU would get.
            max_value: Where ReLU clips: 6, or None.
            training: Whether the range moves.

        Returns:
            What the fake quantization of ReLU's output is. In training the gradient is ReLU's: unlike the fake-quant
            op's it passes values between the top of the range, which is an average of tops, and `max_value`.
        """
        relu, relu_gradient = (
            (tf.nn.relu, tf.raw_ops.ReluGrad) if max_value is None else (tf.nn.relu6, tf.raw_ops.Relu6Grad)
        )
        if not (training and self.trainable):
            return self._quantize(relu(inputs), self.low.value, self.high.value)
        low, high = self._follow(0.0, relu(tf.reduce_max(inputs)))

        @tf.custom_gradient
        def clipped(x: Any) -> Any:
            return self._quantize(x, low, high), lambda gradient: relu_gradient(gradients=gradient, features=x)

        return clipped(inputs)

    def _quantize(self, x: Any, low: Any, high: Any) -> Any:
        return _activation_quantizer()(x, False, {"min_var": low, "max_var": high})

    def _follow(self, smallest: Any, largest: Any) -> tuple[Any, Any]:
        """Moves the range by one step and returns it."""
        frozen = count_step(self.steps, self.freeze_after)
        low = tf.convert_to_tensor(self.low) if self.nonnegative else _moved(self.low, smallest, frozen)
        return low, _moved(self.high, largest, frozen)

    def compute_output_shape(self, input_shape: Any) -> Any:  # noqa: D102
        return input_shape

    def get_config(self) -> dict[str, Any]:  # noqa: D102
        return super().get_config() | {"freeze_after": self.freeze_after, "nonnegative": self.nonnegative}


@keras.saving.register_keras_serializable(package="keras_mobilenet")
class FixedFakeQuant(keras.layers.Layer):
    """Fake quantization of an activation with a range that stands in the configuration; it needs no tfmot.

    Args:
        low: Low end of the range, at most 0.
        high: High end, above `low`.
        **kwargs: Those of `keras.layers.Layer`.
    """

    def __init__(self, low: float, high: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.low, self.high = float(low), float(high)

    def call(self, inputs: Any) -> Any:  # noqa: D102
        return tf.quantization.fake_quant_with_min_max_args(tf.cast(inputs, "float32"), self.low, self.high)

    def compute_output_shape(self, input_shape: Any) -> Any:  # noqa: D102
        return input_shape

    def get_config(self) -> dict[str, Any]:  # noqa: D102
        return super().get_config() | {"low": self.low, "high": self.high}


def add_step_counter(layer: keras.layers.Layer) -> keras.Variable:
    """Gives a layer a weight that counts its training steps; it is saved and resumes with the others."""
    return layer.add_weight(
        shape=(), initializer="zeros", trainable=False, dtype="int64", aggregation="only_first_replica", name="steps"
    )


def count_step(steps: keras.Variable | None, freeze_after: int | None) -> Any:
    """Counts a training step.

    Returns:
        Whether `freeze_after` steps went before it, as a scalar tensor; None where nothing ever freezes.
    """
    if steps is None:
        return None
    before = tf.convert_to_tensor(steps)
    steps.assign(before + 1)
    return before >= freeze_after


def _moved(average: keras.Variable, value: Any, frozen: Any) -> Any:
    old = tf.convert_to_tensor(average)
    new = old - (old - tf.stop_gradient(value)) * tf.constant(1.0 - DECAY)
    if frozen is not None:
        new = tf.where(frozen, old, new)
    average.assign(new)
    return new
