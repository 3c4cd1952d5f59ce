"""The few layers that Keras lacks."""

from typing import Any

import keras
import tensorflow as tf

_FUSED_DTYPES = ("float32", "float16", "bfloat16")


@keras.saving.register_keras_serializable(package="keras_mobilenet")
class BatchNormalization(keras.layers.BatchNormalization):
    """Keras's batch normalization, trained over TensorFlow's fused op.

    Keras 3 composes batch normalization from primitive operations; in training the fused kernel takes a fraction of
    their time. Weights, names, arguments and moving statistics are Keras's, so files written with either layer load
    into the other. Inference is Keras's computation, which is as fast as the fused one, so that a network's outputs are
    those of `keras.applications` to the last bit. So is training on inputs that the fused op does not take: other than
    4-D channels-last float32, float16 or bfloat16; a mask; `renorm`; `synchronized`.

    Args:
        **kwargs: Those of `keras.layers.BatchNormalization`.

    Example:
    ```python
    layer = km.BatchNormalization(momentum=0.9)
    y = layer(np.ones((2, 8, 8, 16), "float32"), training=True)
    ```

    Reference: [Ioffe and Szegedy, 2015](https://arxiv.org/abs/1502.03167).
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:  # noqa: D102
        if not (training and self.trainable and self._takes_fused(inputs, mask)):
            return super().call(inputs, training=training, mask=mask)
        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            inputs,
            scale=tf.convert_to_tensor(self.gamma) if self.scale else tf.ones_like(self.moving_mean),
            offset=tf.convert_to_tensor(self.beta) if self.center else tf.zeros_like(self.moving_mean),
            epsilon=self.epsilon,
            is_training=True,
        )
        # The fused op returns the unbiased variance; Keras averages the biased one.
        pixels = tf.cast(tf.size(inputs) / tf.shape(inputs)[-1], variance.dtype)
        variance *= (pixels - 1) / pixels
        self.moving_mean.assign(self.moving_mean * self.momentum + mean * (1 - self.momentum))
        self.moving_variance.assign(self.moving_variance * self.momentum + variance * (1 - self.momentum))
        return outputs

    def _takes_fused(self, inputs: Any, mask: Any) -> bool:
        return (
            mask is None
            and not (self.renorm or self.synchronized)
            and len(inputs.shape) == 4
            and self.axis in (-1, 3)
            and keras.backend.standardize_dtype(inputs.dtype) in _FUSED_DTYPES
            and keras.backend.standardize_dtype(self.moving_mean.dtype) == "float32"
        )


@keras.saving.register_keras_serializable(package="keras_mobilenet")
class SamePadding2D(keras.layers.Layer):
    """Zero padding that makes a strided "valid" convolution equal to a "same" one, at every input size.

    keras.applications puts a padding layer before each strided depthwise convolution and fixes its widths when the
    model is built, which is off by one pixel for inputs of unknown odd size. This layer keeps the name and place of
    those and takes the widths from the input that arrives.

    Args:
        kernel_size: Height and width of the convolution that follows, in pixels.
        strides: Its stride, in pixels.
        **kwargs: Those of `keras.layers.Layer`.

    Example:
    ```python
    x = SamePadding2D(kernel_size=3, strides=2)(x)
    x = keras.layers.DepthwiseConv2D(3, strides=2, padding="valid")(x)
    ```
    """

    def __init__(self, kernel_size: int = 3, strides: int = 2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.kernel_size = int(kernel_size)
        self.strides = int(strides)

    def call(self, inputs: Any) -> Any:  # noqa: D102
        dynamic = tf.shape(inputs)
        sizes = [inputs.shape[axis] if inputs.shape[axis] is not None else dynamic[axis] for axis in (1, 2)]
        return tf.pad(inputs, [(0, 0), *(self.widths(size) for size in sizes), (0, 0)])

    def widths(self, size: Any) -> tuple[Any, Any]:
        """The pixels of padding before and after a side of `size` pixels (a whole number or a scalar tensor)."""
        outputs = -(-size // self.strides)
        total = (outputs - 1) * self.strides + self.kernel_size - size
        total = max(total, 0) if isinstance(total, int) else tf.maximum(total, 0)
        return total // 2, total - total // 2

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:  # noqa: D102
        batch, height, width, channels = input_shape
        return batch, *(size and size + sum(self.widths(size)) for size in (height, width)), channels

    def get_config(self) -> dict[str, Any]:  # noqa: D102
        return super().get_config() | {"kernel_size": self.kernel_size, "strides": self.strides}


@keras.saving.register_keras_serializable(package="keras_mobilenet")
class ResizeLike(keras.layers.Layer):
    """Bilinear resizing to the height and width of another tensor, the corner pixels of both on one another.

    It is how DeepLab enlarges: of 33 x 33 values, 513 x 513 are the same values 16 pixels apart and what lies between
    them, where `keras.layers.Resizing` would move them by half a pixel. The size is taken from the tensor that arrives,
    so that a network with this layer takes pictures of any size.

    Args:
        **kwargs: Those of `keras.layers.Layer`.

    Example:
    ```python
    scores = ResizeLike()([scores, image])  # [N, 33, 33, 21] and [N, 513, 513, 3] -> [N, 513, 513, 21]
    ```

    Source: arXiv:1606.00915, section 3.1 (scores enlarged bilinearly).
    """

    def call(self, inputs: Any) -> Any:  # noqa: D102
        x, like = inputs
        dynamic = tf.shape(like)
        size = [like.shape[axis] if like.shape[axis] is not None else dynamic[axis] for axis in (1, 2)]
        # tf.image.resize has no aligned corners. The op puts out float32 whatever it gets.
        return tf.cast(tf.raw_ops.ResizeBilinear(images=x, size=size, align_corners=True), self.compute_dtype)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:  # noqa: D102
        (batch, _, _, channels), (_, height, width, _) = input_shape
        return batch, height, width, channels
