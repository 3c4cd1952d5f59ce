"""Which anchor learns which box."""

from dataclasses import dataclass
from typing import Any

import tensorflow as tf

THRESHOLD = 0.5


@dataclass(frozen=True)
class Matches:
    """What each anchor has to learn.

    Attributes:
        positive: bool [N, anchors]: the anchor has a box.
        box: int32 [N, anchors]: number of its box; of no meaning where it has none.
    """

    positive: tf.Tensor
    box: tf.Tensor

    def gather(self, values: tf.Tensor) -> tf.Tensor:
        """What belongs to each anchor's box, [N, anchors, ...], of what belongs to the boxes, [N, boxes, ...]."""
        return tf.gather(values, self.box, batch_dims=1)


def intersection_over_union(one: Any, other: Any) -> tf.Tensor:
    """How far boxes cover one another.

    Args:
        one: float32 [..., M, 4]: ymin, xmin, ymax, xmax.
        other: float32 [..., A, 4], or [A, 4] for all.

    Returns:
        float32 [..., M, A], 0 to 1; 0 for boxes without area.
    """
    one, other = tf.expand_dims(one, -2), tf.expand_dims(other, -3)
    sides = tf.minimum(one[..., 2:], other[..., 2:]) - tf.maximum(one[..., :2], other[..., :2])
    common = tf.reduce_prod(tf.maximum(sides, 0.0), -1)
    areas = [tf.reduce_prod(tf.maximum(boxes[..., 2:] - boxes[..., :2], 0.0), -1) for boxes in (one, other)]
    return tf.math.divide_no_nan(common, areas[0] + areas[1] - common)


def match(boxes: Any, there: Any, anchors: Any, threshold: float = THRESHOLD) -> Matches:
    """Gives each anchor the box that it covers best, from `threshold` on; and each box its best anchor in any case.

    Args:
        boxes: float32 [N, M, 4]: ymin, xmin, ymax, xmax.
        there: bool [N, M]; False for rows that only fill up.
        anchors: float32 [A, 4]: ymin, xmin, ymax, xmax.
        threshold: Least intersection over union.

    Returns:
        What each anchor has to learn. Of two boxes with the same best anchor the first has it.

    Source: arXiv:1512.02325, section 2.2, matching strategy.
    """
    there = tf.convert_to_tensor(there)
    covered = intersection_over_union(boxes, anchors) * tf.cast(there, tf.float32)[..., None]  # [N, M, A]
    best = tf.argmax(covered, axis=1, output_type=tf.int32)
    positive = tf.reduce_max(covered, axis=1) >= threshold
    # A box that no anchor touches has no best one.
    forcing = there & (tf.reduce_max(covered, axis=2) > 0)
    forced = tf.one_hot(tf.argmax(covered, axis=2), tf.shape(covered)[2], on_value=True, off_value=False)
    forced &= forcing[..., None]
    any_forced = tf.reduce_any(forced, axis=1)
    first = tf.argmax(tf.cast(forced, tf.int32), axis=1, output_type=tf.int32)
    return Matches(positive | any_forced, tf.where(any_forced, first, best))
