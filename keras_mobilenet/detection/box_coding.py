"""Boxes as a detector learns them: where a box lies and how large it is, seen from an anchor."""

from typing import Any

import tensorflow as tf

SCALES = (10.0, 10.0, 5.0, 5.0)  # of y, x, height, width
_LEAST = 1e-6  # side of a box; the logarithm of 0 has no end


def encode(boxes: Any, anchors: Any) -> tf.Tensor:
    """Encodes boxes as seen from anchors.

    Args:
        boxes: float32 [..., 4]: ymin, xmin, ymax, xmax.
        anchors: float32 [..., 4]: centre y, centre x, height, width; shapes broadcast.

    Returns:
        float32 [..., 4]: 10 x the shift of the centre over the anchor's sides (y, x), and 5 x the logarithm of the
        sides over the anchor's (height, width).

    Example:
        >>> from keras_mobilenet import detection
        >>> detection.encode([0.4, 0.4, 0.6, 0.6], [0.5, 0.4, 0.2, 0.2]).numpy().round(3)
        array([0., 5., 0., 0.], dtype=float32)

    Source: arXiv:1506.01497, equation 2; the factors are those of the TensorFlow object detection API.
    """
    ymin, xmin, ymax, xmax = tf.unstack(tf.convert_to_tensor(boxes, tf.float32), axis=-1)
    y, x, height, width = tf.unstack(tf.convert_to_tensor(anchors, tf.float32), axis=-1)
    own_height, own_width = tf.maximum(ymax - ymin, _LEAST), tf.maximum(xmax - xmin, _LEAST)
    encoded = (
        ((ymin + ymax) / 2 - y) / height,
        ((xmin + xmax) / 2 - x) / width,
        tf.math.log(own_height / height),
        tf.math.log(own_width / width),
    )
    return tf.stack([value * scale for value, scale in zip(encoded, SCALES, strict=True)], axis=-1)


def decode(encodings: Any, anchors: Any) -> tf.Tensor:
    """Turns encodings back into boxes; the inverse of `encode`.

    Args:
        encodings: float32 [..., 4], as `encode` returns them.
        anchors: float32 [..., 4]: centre y, centre x, height, width; shapes broadcast.

    Returns:
        float32 [..., 4]: ymin, xmin, ymax, xmax.
    """
    anchors = tf.convert_to_tensor(anchors, tf.float32)
    values = tf.cast(encodings, tf.float32) / tf.constant(SCALES)
    centres = values[..., :2] * anchors[..., 2:] + anchors[..., :2]
    halves = tf.exp(values[..., 2:]) * anchors[..., 2:] / 2
    return tf.concat([centres - halves, centres + halves], axis=-1)


def corners(boxes: Any) -> tf.Tensor:
    """Turns centre y, centre x, height, width into ymin, xmin, ymax, xmax, float32 [..., 4]."""
    boxes = tf.convert_to_tensor(boxes, tf.float32)
    return tf.concat([boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2], axis=-1)
