"""Pictures with a class for each pixel: batches of them.

As in `pipeline`, a training batch is a pure function of the seed and the step.
"""

import io
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from PIL import Image

from keras_mobilenet.segmentation import PADDING, VOID
from training.data import pipeline
from training.data.pictures import Split

SCALE, PLACE, FLIP = range(4, 7)
"""What a picture's random numbers are for."""

STEP = 0.25  # from one random scale to the next, as DeepLab has it


@dataclass(frozen=True)
class MaskInput(pipeline.Input):
    """What a segmenter is fed. Pictures keep their shape: what is larger than its size is shrunk, and all are padded.

    Attributes:
        scale: least and largest factor of training pictures, in steps of 0.25, before a piece of the network's size is
            cut out of them.
        evaluation_scales: of `segmentation.multi_scale`, at evaluation of a Keras model; nothing for pictures as they
            are.
        evaluation_flip: whether mirrored pictures are looked at too, at evaluation of a Keras model.
    """

    scale: tuple[float, float] = (0.5, 2.0)
    evaluation_scales: tuple[float, ...] = ()
    evaluation_flip: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale is {self.scale}; allowed are two factors, 0 < least <= largest.")


def read_mask(contents: bytes) -> np.ndarray:
    """The classes of a mask file, uint8 [H, W]: grey values, or the numbers of a palette as in PASCAL VOC.

    Raises:
        ValueError: it is no picture, or one of colours.
    """
    try:
        with Image.open(io.BytesIO(contents)) as image:
            if image.mode not in ("L", "P", "1", "I", "I;16"):
                raise ValueError(f"a mask is grey or has a palette; this picture is {image.mode}.")
            return np.asarray(image).astype(np.uint8)
    except OSError as error:
        raise ValueError(f"a mask can't be read: {error}") from error


def batches(split: Split, config: MaskInput, *, training: bool, **place: int | None) -> tf.data.Dataset:
    """Batches of normalised pictures and their masks; the arguments are those of `data.batches`.

    Args:
        split: pictures whose labels are encoded masks.
        config: sizes, seed and changes: `augmentation.flip` and, of a `MaskInput`, `scale`.
        training: shuffled, changed and without end, or in order, unchanged and once.
        **place: `start_step`, `steps`, `num_workers` and `worker`.

    Returns:
        A dataset of images, float32 [N, height, width, 3] in [-1, 1], and masks, int32 [N, height, width], with `VOID`
        for what counts for no class, the padding among it.
    """

    def read(index: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        contents, mask = _read(split, index)
        image = pipeline.whole_picture(split, index, contents)
        image, mask = _scaled(image, mask, config, seed if training else None)
        image, mask = _cut(image, mask, config.image_size, seed if training else None)
        if training and config.augmentation.flip:
            mirrored = tf.random.stateless_uniform([], seed + FLIP) < 0.5
            image, mask = tf.cond(mirrored, lambda: (image[:, ::-1], mask[:, ::-1]), lambda: (image, mask))
        return image, tf.cast(mask[..., 0], tf.int32)

    return pipeline.one_by_one(read, split, config, training=training, **place)


def _read(split: Split, index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The encoded picture and its mask, uint8 [H, W, 1]."""

    def read(position: int) -> tuple[bytes, np.ndarray]:
        contents, mask = split.read(int(position))
        try:
            return contents, read_mask(mask)[..., None]
        except ValueError as error:
            raise ValueError(f"{split.where(int(position))}: {error}") from error

    contents, mask = tf.numpy_function(read, [index], (tf.string, tf.uint8), stateful=False)
    return tf.ensure_shape(contents, []), tf.ensure_shape(mask, [None, None, 1])


def _scaled(
    image: tf.Tensor, mask: tf.Tensor, config: MaskInput, seed: tf.Tensor | None
) -> tuple[tf.Tensor, tf.Tensor]:
    """Picture and mask shrunk to what fits, and in training made larger or smaller at random."""
    sides = tf.cast(tf.shape(image)[:2], tf.float32)
    factor = tf.minimum(1.0, tf.reduce_min(tf.constant(config.image_size, tf.float32) / sides))
    if seed is not None:
        least, largest = config.scale
        factors = np.arange(least, largest + 1e-6, STEP).astype(np.float32)
        chance = tf.random.stateless_uniform([], seed + SCALE, 0, len(factors), tf.int32)
        factor *= tf.gather(tf.constant(factors), chance)
    size = tf.maximum(1, tf.cast(tf.round(sides * factor), tf.int32))
    scaled = tf.image.resize(image, size, antialias=True)
    return tf.round(scaled), tf.image.resize(mask, size, method="nearest")


def _cut(
    image: tf.Tensor, mask: tf.Tensor, size: tuple[int, int], seed: tf.Tensor | None
) -> tuple[tf.Tensor, tf.Tensor]:
    """A piece of the network's size, in training from a random place; what is smaller is padded below and right."""
    room = tf.shape(image)[:2] - size
    if seed is not None:
        chance = tf.random.stateless_uniform([2], seed + PLACE)
        first = tf.cast(chance * tf.cast(tf.maximum(room, 0) + 1, tf.float32), tf.int32)
        image, mask = (x[first[0] : first[0] + size[0], first[1] : first[1] + size[1]] for x in (image, mask))
    lacking = tf.maximum(-room, 0)
    widths = [[0, lacking[0]], [0, lacking[1]], [0, 0]]
    image = tf.pad(image, widths, constant_values=PADDING)
    mask = tf.pad(mask, widths, constant_values=VOID)
    return tf.ensure_shape(image, [*size, 3]), tf.ensure_shape(mask, [*size, 1])
