"""What an exported segmenter puts out: the class of each pixel, and the probabilities that it was chosen by."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

CLASS_MAP = "class_map"
PROBABILITIES = "probabilities"


def answer(outputs: list[tf.Tensor], labels: Sequence[str] | None) -> dict[str, tf.Tensor]:
    """The outputs of a signature from those of `segmentation.with_scores`.

    Args:
        outputs: Logits float32 [N, h, w, classes] and [N, H, W, classes].
        labels: Name of each class, or None.

    Returns:
        `class_map` uint8, or int32 where there are more than 256 classes, [N, H, W]; `probabilities` float32
        [N, h, w, classes]; and with labels `class_names` string [N, classes], the same in each row.
    """
    scores, enlarged = outputs
    dtype = tf.uint8 if scores.shape[-1] <= 256 else tf.int32
    found = {
        CLASS_MAP: tf.cast(tf.argmax(enlarged, -1, output_type=tf.int32), dtype),
        PROBABILITIES: tf.nn.softmax(scores),
    }
    if labels is not None:
        found["class_names"] = tf.repeat(tf.constant([list(labels)]), tf.shape(scores)[0], axis=0)
    return found


def with_class_map(model: keras.Model) -> keras.Model:
    """The segmenter with the class of each pixel as its output, for a .tflite file.

    Args:
        model: Static form of a segmenter.

    Returns:
        Float32 pictures [1, H, W, 3] -> int32 [1, H, W].
    """
    return keras.Model(model.input, _ClassMap(name=CLASS_MAP)(model.outputs[0]), name=model.name)


class _ClassMap(keras.layers.Layer):
    def call(self, inputs: Any) -> Any:
        return tf.argmax(inputs, -1, output_type=tf.int32)
