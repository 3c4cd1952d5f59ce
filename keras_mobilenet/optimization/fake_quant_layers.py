"""Keras's layers with 8-bit kernels and outputs, one for each kind that stands in a MobileNet.

Each keeps the name, the arguments and the float weights of the layer that it stands for, and can be used in its place.
"""

from typing import Any, ClassVar

import keras
import tensorflow as tf
from keras import layers

from keras_mobilenet.layers import BatchNormalization
from keras_mobilenet.optimization import fake_quant
from keras_mobilenet.optimization.fake_quant import FakeQuant

_register = keras.saving.register_keras_serializable(package="keras_mobilenet")

# What a layer's own activation may be, and the name of it as a layer of its own.
RELUS = {keras.activations.relu: None, keras.activations.relu6: 6.0}  # activation -> where it clips
FIXED_RANGES = {  # activation -> the range of its outputs that TFLite prescribes
    keras.activations.softmax: (0.0, 255 / 256),
    keras.activations.sigmoid: (0.0, 255 / 256),
    keras.activations.tanh: (-1.0, 127 / 128),
}


class FakeQuantLayer(layers.Layer):
    """A layer whose output is fake-quantized. Subclasses put it before the Keras layer that they stand for.

    Args:
        *args: Those of the Keras layer.
        quantize_output: Whether the int8 file has a tensor behind this layer: not where it fuses the next one into it.
        freeze_after: Training steps after which the range stands still; None for never.
        **kwargs: Those of the Keras layer.
    """

    float_class: ClassVar[type[layers.Layer]]  # the layer that it stands for

    def __init__(
        self, *args: Any, quantize_output: bool = True, freeze_after: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.freeze_after = freeze_after
        self.output_range = None
        if quantize_output:
            nonnegative = isinstance(self, layers.ReLU) or getattr(self, "activation", None) in RELUS
            self.output_range = FakeQuant(freeze_after, nonnegative, name="output_range", dtype="float32")

    def build(self, input_shape: Any) -> None:  # noqa: D102
        super().build(input_shape)
        if self.output_range is not None:
            self.output_range.build(())

    def call(self, inputs: Any, training: bool | None = None) -> Any:  # noqa: D102
        return self._quantized(super().call(inputs), training)

    def _quantized(self, outputs: Any, training: bool | None) -> Any:
        return outputs if self.output_range is None else self.output_range(outputs, training=training)

    def float_config(self) -> dict[str, Any]:
        """Configuration of the Keras layer that this one stands for."""
        config = self.get_config()
        del config["quantize_output"], config["freeze_after"]
        return config

    def get_config(self) -> dict[str, Any]:  # noqa: D102
        return super().get_config() | {
            "quantize_output": self.output_range is not None,
            "freeze_after": self.freeze_after,
        }


class FakeQuantKernelLayer(FakeQuantLayer):
    """A layer with a kernel that is fake-quantized; its activation, where it has one, is fused as TFLite fuses it."""

    def fake_quantized_kernel(self) -> Any:
        """The kernel as the int8 file will hold it, in float32."""
        return fake_quant.fake_quantize_kernel(self.kernel)

    def linear(self, inputs: Any) -> Any:
        """The layer's outputs without its bias."""
        raise NotImplementedError

    def call(self, inputs: Any, training: bool | None = None) -> Any:  # noqa: D102
        outputs = self.linear(inputs)
        if self.use_bias:
            outputs = tf.nn.bias_add(outputs, tf.convert_to_tensor(self.bias))
        if self.output_range is not None and self.activation in RELUS:
            return self.output_range.relu(outputs, RELUS[self.activation], training)
        return self.activation(self._quantized(outputs, training))


@_register
class FakeQuantConv2D(FakeQuantKernelLayer, layers.Conv2D):
    """`keras.layers.Conv2D` with an 8-bit kernel."""

    float_class = layers.Conv2D

    def linear(self, inputs: Any) -> Any:  # noqa: D102
        return self.convolution_op(inputs, self.fake_quantized_kernel())


@_register
class FakeQuantDepthwiseConv2D(FakeQuantKernelLayer, layers.DepthwiseConv2D):
    """`keras.layers.DepthwiseConv2D` with an 8-bit kernel."""

    float_class = layers.DepthwiseConv2D

    def fake_quantized_kernel(self) -> Any:  # noqa: D102
        return fake_quant.fake_quantize_depthwise_kernel(self.kernel)

    def linear(self, inputs: Any) -> Any:  # noqa: D102
        return keras.ops.depthwise_conv(
            inputs,
            self.fake_quantized_kernel(),
            strides=self.strides,
            padding=self.padding,
            dilation_rate=self.dilation_rate,
        )


@_register
class FakeQuantDense(FakeQuantKernelLayer, layers.Dense):
    """`keras.layers.Dense` with an 8-bit kernel."""

    float_class = layers.Dense

    def linear(self, inputs: Any) -> Any:  # noqa: D102
        return keras.ops.matmul(inputs, self.fake_quantized_kernel())


@_register
class FakeQuantBatchNormalization(FakeQuantLayer, BatchNormalization):
    """`km.BatchNormalization` with a fake-quantized output, whose statistics stand still after `freeze_after` steps.

    From then on it normalizes with the moving statistics in training too, as it will at inference.
    """

    float_class = BatchNormalization

    def build(self, input_shape: Any) -> None:  # noqa: D102
        super().build(input_shape)
        self.steps = fake_quant.add_step_counter(self) if self.freeze_after is not None else None

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:  # noqa: D102
        def normalized(training: bool | None) -> Any:
            return BatchNormalization.call(self, inputs, training=training, mask=mask)

        if training and self.trainable and self.steps is not None:
            frozen = fake_quant.count_step(self.steps, self.freeze_after)
            outputs = tf.cond(frozen, lambda: normalized(False), lambda: normalized(True))
        else:
            outputs = normalized(training)
        return self._quantized(outputs, training)


@_register
class FakeQuantReLU(FakeQuantLayer, layers.ReLU):
    """`keras.layers.ReLU` up to 6 or without end, with a fake-quantized output."""

    float_class = layers.ReLU

    def call(self, inputs: Any, training: bool | None = None) -> Any:  # noqa: D102
        if self.output_range is None:
            return layers.ReLU.call(self, inputs)
        return self.output_range.relu(inputs, self.max_value, training)


@_register
class FakeQuantAdd(FakeQuantLayer, layers.Add):
    """`keras.layers.Add` with a fake-quantized output."""

    float_class = layers.Add


@_register
class FakeQuantMultiply(FakeQuantLayer, layers.Multiply):
    """`keras.layers.Multiply` with a fake-quantized output."""

    float_class = layers.Multiply


@_register
class FakeQuantConcatenate(FakeQuantLayer, layers.Concatenate):
    """`keras.layers.Concatenate` with a fake-quantized output."""

    float_class = layers.Concatenate


@_register
class FakeQuantGlobalAveragePooling2D(FakeQuantLayer, layers.GlobalAveragePooling2D):
    """`keras.layers.GlobalAveragePooling2D` with a fake-quantized output."""

    float_class = layers.GlobalAveragePooling2D
