"""RandAugment (Cubuk et al., arXiv:1909.13719): a few operations, drawn at random, of one strength.

Keras' RandAugment layer draws one operation for a whole batch, runs all of its operations for every picture, and keeps
its random state in a variable, from which a run cannot be taken up again. Here each picture has its own operations,
keyed by a seed.
"""

import functools
from collections.abc import Callable

import keras
import tensorflow as tf

Operation = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]

GREY = 128.0
"""What is moved into the picture from beyond its edge."""

_equalize = keras.layers.Equalization(value_range=(0, 255), data_format="channels_last", dtype="float32")
_auto_contrast = keras.layers.AutoContrast(value_range=(0, 255), data_format="channels_last", dtype="float32")


def rand_augment(image: tf.Tensor, operations: int, magnitude: float, seed: tf.Tensor) -> tf.Tensor:
    """Applies random operations, one after the other.

    Args:
        image: float32 [H, W, 3], values 0 to 255.
        operations: how many (the paper's N).
        magnitude: their strength, 0 to 10 (the paper's M).
        seed: int64 [2]; the same seed gives the same operations.

    Returns:
        float32 [H, W, 3], values 0 to 255.
    """
    step = _random_operation(tuple(image.shape), magnitude)
    for chance in tf.unstack(tf.random.stateless_uniform([operations, 2], seed)):
        image = step(image, chance)
    return image


@functools.cache
def _random_operation(shape: tuple[int, int, int], magnitude: float) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """A graph of the fourteen operations, of which it runs one; built once for all of its uses."""

    def clipped(operation: Operation, image: tf.Tensor, level: tf.Tensor) -> tf.Tensor:
        return tf.ensure_shape(tf.clip_by_value(operation(image, level), 0.0, 255.0), shape)

    def step(image: tf.Tensor, chance: tf.Tensor) -> tf.Tensor:
        level = magnitude / 10 * tf.where(chance[1] < 0.5, -1.0, 1.0)
        branches = [functools.partial(clipped, operation, image, level) for operation in OPERATIONS]
        return tf.switch_case(tf.cast(chance[0] * len(OPERATIONS), tf.int32), branches)

    signature = [tf.TensorSpec(shape, tf.float32), tf.TensorSpec([2], tf.float32)]
    return tf.function(step, input_signature=signature, autograph=False)


def _transformed(image: tf.Tensor, matrix: list) -> tf.Tensor:
    """Output (x, y) takes input (a x + b y + c, d x + e y + f), bilinear, grey beyond the edge."""
    transform = tf.stack([tf.cast(value, tf.float32) for value in (*matrix, 0.0, 0.0)])
    return keras.ops.image.affine_transform(
        image, transform, "bilinear", fill_mode="constant", fill_value=GREY, data_format="channels_last"
    )


def _rotate(image: tf.Tensor, level: tf.Tensor) -> tf.Tensor:
    angle = level * (30 / 180 * 3.14159265)
    cos, sin = tf.cos(angle), tf.sin(angle)
    x, y = (image.shape[1] - 1) / 2, (image.shape[0] - 1) / 2
    return _transformed(image, [cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y])


def _shear_x(image: tf.Tensor, level: tf.Tensor) -> tf.Tensor:
    return _transformed(image, [1, 0.3 * level, 0, 0, 1, 0])


def _shear_y(image: tf.Tensor, level: tf.Tensor) -> tf.Tensor:
    return _transformed(image, [1, 0, 0, 0.3 * level, 1, 0])


def _translate_x(image: tf.Tensor, level: tf.Tensor) -> tf.Tensor:
    return _transformed(image, [1, 0, 0.3 * level * image.shape[1], 0, 1, 0])


def _translate_y(image: tf.Tensor, level: tf.Tensor) -> tf.Tensor:
    return _transformed(image, [1, 0, 0, 0, 1, 0.3 * level * image.shape[0]])


def _blend(image: tf.Tensor, other: tf.Tensor, level: tf.Tensor) -> tf.Tensor:
    """Between `other` (level -1, nearly) and the picture (0), and as far beyond it (1)."""
    return other + (1 + 0.9 * level) * (image - other)


def _color(image: tf.Tensor, level: tf.Tensor) -> tf.Tensor:
    return _blend(image, tf.image.rgb_to_grayscale(image), level)


def _contrast(image: tf.Tensor, level: tf.Tensor) -> tf.Tensor:
    return _blend(image, tf.reduce_mean(tf.image.rgb_to_grayscale(image)), level)


def _brightness(image: tf.Tensor, level: tf.Tensor) -> tf.Tensor:
    return _blend(image, tf.constant(0.0), level)


def _sharpness(image: tf.Tensor, level: tf.Tensor) -> tf.Tensor:
    kernel = tf.constant([[1.0, 1, 1], [1, 5, 1], [1, 1, 1]])[:, :, None, None] / 13
    padded = tf.pad(image[None], [[0, 0], [1, 1], [1, 1], [0, 0]], "SYMMETRIC")
    smooth = tf.nn.depthwise_conv2d(padded, tf.tile(kernel, [1, 1, 3, 1]), [1, 1, 1, 1], "VALID")[0]
    return _blend(image, smooth, level)


def _posterize(image: tf.Tensor, level: tf.Tensor) -> tf.Tensor:
    step = tf.pow(2.0, tf.round(4 * tf.abs(level)))  # takes away up to 4 of the 8 bits
    return tf.floor(image / step) * step


def _solarize(image: tf.Tensor, level: tf.Tensor) -> tf.Tensor:
    return tf.where(image < 256 * (1 - tf.abs(level)), image, 255 - image)


OPERATIONS: tuple[Operation, ...] = (
    lambda image, level: tf.identity(image),
    lambda image, level: _auto_contrast(image),
    lambda image, level: _equalize(image),
    _rotate,
    _solarize,
    _color,
    _posterize,
    _contrast,
    _brightness,
    _sharpness,
    _shear_x,
    _shear_y,
    _translate_x,
    _translate_y,
)
"""The paper's fourteen, section 4; each takes the picture and a level of -1 to 1."""
