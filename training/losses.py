"""Losses of classification, on logits, and what is counted beside them."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

Loss = Callable[[tf.Tensor, Any, Any], tf.Tensor]  # images [N, ...], labels, outputs (any structure) -> [N]
Count = Callable[[Any, Any], tf.Tensor]  # labels, outputs -> a sum over the batch


def cross_entropy(classes: int, label_smoothing: float = 0.0) -> Loss:
    """Softmax cross-entropy.

    Args:
        classes: Number of classes.
        label_smoothing: Share of the target that is spread over all classes, 0 to below 1.

    Returns:
        Loss of each picture; labels are int64 [N] or float32 [N, classes].
    """

    def loss(images: tf.Tensor, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        del images
        target = tf.one_hot(labels, classes) if labels.shape.rank == 1 else labels
        target = target * (1 - label_smoothing) + label_smoothing / classes
        return tf.nn.softmax_cross_entropy_with_logits(target, tf.cast(logits, tf.float32))

    return loss


def distillation(loss: Loss, teacher: keras.Model, weight: float, temperature: float) -> Loss:
    """Adds what a teacher says of the same pictures (Hinton et al., arXiv:1503.02531, section 2).

    Args:
        loss: Loss on the labels.
        teacher: Model of the same input and classes; logits or probabilities.
        weight: Of the teacher's part, 0 to 1.
        temperature: Both distributions are softened by it, > 0.

    Returns:
        (1 - weight) x loss + weight x temperature^2 x KL(teacher, student), for each picture.
    """
    probabilities = getattr(teacher.layers[-1], "activation", None) is keras.activations.softmax

    def combined(images: tf.Tensor, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        outputs = tf.cast(teacher(images, training=False), tf.float32)
        soft = tf.nn.softmax((tf.math.log(outputs + 1e-7) if probabilities else outputs) / temperature)
        student = tf.cast(logits, tf.float32) / temperature
        divergence = tf.nn.softmax_cross_entropy_with_logits(soft, student) + tf.reduce_sum(
            tf.math.xlogy(soft, soft), axis=-1
        )
        return (1 - weight) * loss(images, labels, logits) + weight * temperature**2 * divergence

    return combined


def hits(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """How many pictures' right class has the highest logit, float32 scalar.

    Args:
        labels: int64 [N], or float32 [N, classes], whose highest is the right one.
        logits: [N, classes].
    """
    target = labels if labels.shape.rank == 1 else tf.argmax(labels, axis=-1)
    return tf.reduce_sum(tf.cast(tf.argmax(logits, axis=-1) == tf.cast(target, tf.int64), tf.float32))
