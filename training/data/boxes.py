"""Pictures with boxes: what their labels are, and batches of them.

As in `pipeline`, a training batch is a pure function of the seed and the step.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from training.data import decode, pipeline
from training.data.pictures import Split

MOST = 100  # boxes of a picture that are trained on; COCO's pictures have up to 93
CROP, FLIP = range(2, 4)
"""What a picture's random numbers are for."""

COVERED = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Least share of an object that a random crop has to hold, one of them at a time."""


@dataclass(frozen=True, eq=False)
class Boxes:
    """The objects of a picture.

    Attributes:
        corners: float32 [n, 4]: ymin, xmin, ymax, xmax as shares of the picture's sides.
        classes: int64 [n], from 0 on.
        crowd: bool [n]: a box around many objects, or a difficult one, that is not trained on and counts neither way
            in evaluation.
        size: height and width of the picture in pixels, where its source tells; evaluation sorts objects by their area.
    """

    corners: np.ndarray
    classes: np.ndarray
    crowd: np.ndarray
    size: tuple[int, int] | None = None

    @classmethod
    def of(cls, corners: Any, classes: Any, crowd: Any = None, size: tuple[int, int] | None = None) -> "Boxes":
        """Boxes from lists; those without area are left out, and what reaches over the picture's edges is cut off."""
        corners = np.clip(np.asarray(corners, np.float32).reshape(-1, 4), 0, 1)
        classes = np.asarray(classes, np.int64).reshape(-1)
        crowd = np.zeros(len(classes), bool) if crowd is None else np.asarray(crowd, bool).reshape(-1)
        there = (corners[:, 2:] > corners[:, :2]).all(axis=1)
        return cls(corners[there], classes[there], crowd[there], size)


@dataclass(frozen=True)
class BoxInput(pipeline.Input):
    """What a detector is fed. Pictures are stretched to its size, whole at evaluation.

    Attributes:
        crop: cut a random piece out of training pictures, with the boxes whose centre it holds; half of them stay
            whole.
    """

    crop: bool = False


def batches(split: Split, config: BoxInput, *, training: bool, **place: int | None) -> tf.data.Dataset:
    """Batches of normalised pictures and their boxes; the arguments are those of `data.batches`.

    Args:
        split: pictures whose labels are `Boxes`.
        config: sizes, seed and changes: `augmentation.flip` and, of a `BoxInput`, `crop`.
        training: shuffled, changed and without end, or in order, unchanged and once.
        **place: `start_step`, `steps`, `num_workers` and `worker`.

    Returns:
        A dataset of images, float32 [N, height, width, 3] in [-1, 1], and labels: `boxes` float32 [N, 100, 4] and
        `classes` int64 [N, 100], with -1 in rows that only fill up.
    """

    def read(index: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        contents, boxes, classes = _read(split, index)
        image = pipeline.whole_picture(split, index, contents)
        if training:
            image, boxes, classes = _changed(image, boxes, classes, config, seed)
        return decode.resize(image, config.image_size), _filled(boxes, classes)

    return pipeline.one_by_one(read, split, config, training=training, **place)


def _read(split: Split, index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The encoded picture and the boxes that are trained on."""

    def read(position: int) -> tuple[bytes, np.ndarray, np.ndarray]:
        contents, label = split.read(int(position))
        single = ~label.crowd
        return contents, label.corners[single], label.classes[single]

    types = (tf.string, tf.float32, tf.int64)
    contents, boxes, classes = tf.numpy_function(read, [index], types, stateful=False)
    return tf.ensure_shape(contents, []), tf.ensure_shape(boxes, [None, 4]), tf.ensure_shape(classes, [None])


def _changed(
    image: tf.Tensor, boxes: tf.Tensor, classes: tf.Tensor, config: BoxInput, seed: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    if config.crop:
        image, boxes, classes = _cropped(image, boxes, classes, seed + CROP)
    if config.augmentation.flip:
        mirrored = tf.random.stateless_uniform([], seed + FLIP) < 0.5
        image = tf.cond(mirrored, lambda: image[:, ::-1], lambda: image)
        boxes = tf.where(mirrored, tf.stack([boxes[:, 0], 1 - boxes[:, 3], boxes[:, 2], 1 - boxes[:, 1]], 1), boxes)
    return image, boxes, classes


def _cropped(
    image: tf.Tensor, boxes: tf.Tensor, classes: tf.Tensor, seed: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """A piece of the picture that holds enough of some object, in half of the cases.

    Source: arXiv:1512.02325, section 2.2, data augmentation.
    """
    chance = tf.random.stateless_uniform([2], seed)
    pieces = [lambda share=share: _piece(tf.shape(image), boxes, share, seed) for share in COVERED]
    begin, end = tf.switch_case(tf.cast(chance[1] * len(COVERED), tf.int32), pieces)
    whole = chance[0] < 0.5
    begin, end = tf.where(whole, 0, begin), tf.where(whole, tf.shape(image)[:2], end)
    sides = tf.cast(tf.shape(image)[:2], tf.float32)
    first, side = tf.cast(begin, tf.float32) / sides, tf.cast(end - begin, tf.float32) / sides
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    kept = tf.reduce_all((centres >= first) & (centres < first + side), axis=1)
    moved = (tf.boolean_mask(boxes, kept) - tf.tile(first, [2])) / tf.tile(side, [2])
    image = image[begin[0] : end[0], begin[1] : end[1]]
    return image, tf.clip_by_value(moved, 0.0, 1.0), tf.boolean_mask(classes, kept)


def _piece(shape: tf.Tensor, boxes: tf.Tensor, covered: float, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """First pixel and the one behind the last, int32 [2] each: row and column."""
    begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
        shape,
        boxes[None],
        seed=seed + 1,
        min_object_covered=covered,
        aspect_ratio_range=(0.5, 2.0),
        area_range=(0.1, 1.0),
        max_attempts=50,
        use_image_if_no_bounding_boxes=True,
    )
    return begin[:2], begin[:2] + size[:2]


def _filled(boxes: tf.Tensor, classes: tf.Tensor) -> dict[str, tf.Tensor]:
    boxes, classes = boxes[:MOST], classes[:MOST]
    lacking = MOST - tf.shape(classes)[0]
    boxes = tf.ensure_shape(tf.pad(boxes, [[0, lacking], [0, 0]]), [MOST, 4])
    return {"boxes": boxes, "classes": tf.ensure_shape(tf.pad(classes, [[0, lacking]], constant_values=-1), [MOST])}
