"""What a detector is trained on: where the boxes of matched anchors lie, and the classes of all anchors."""

from collections.abc import Callable, Mapping, Sequence

import tensorflow as tf

from keras_mobilenet.detection import box_coding
from keras_mobilenet.detection.head import Head
from keras_mobilenet.detection.matching import match

NEGATIVES = 3  # anchors without a box that count, for each one with a box
_LEAST_NEGATIVES = 3  # of a picture without boxes

DetectionLoss = Callable[[Mapping[str, tf.Tensor], Sequence[tf.Tensor]], tf.Tensor]


def multibox_loss(head: Head, *, box_weight: float = 1.0) -> DetectionLoss:
    """The loss of a detector: Smooth L1 on boxes, and on classes focal loss (sigmoid) or hard negatives (softmax).

    Args:
        head: What the model's outputs mean, `detection.head_of(model)`.
        box_weight: Of the boxes' part, > 0.

    Returns:
        `loss(labels, outputs)`, float32 [N]: the loss of each picture, over the mean number of matched anchors in a
        picture of the batch. `labels` are `boxes`, float32 [N, M, 4] (ymin, xmin, ymax, xmax as shares of the
        picture's sides), and `classes`, integers [N, M] from 0 on, with -1 in rows that only fill up; `outputs` are
        the model's.

    Example:
    ```python
    loss = detection.multibox_loss(detection.head_of(model))
    losses = loss({"boxes": boxes, "classes": classes}, model(images, training=True))
    ```

    Source: arXiv:1512.02325, section 2.2; arXiv:1708.02002, section 3.2.
    """
    anchors = head.anchors.boxes
    of_classes = focal if head.scores == "sigmoid" else hard_negatives

    def loss(labels: Mapping[str, tf.Tensor], outputs: Sequence[tf.Tensor]) -> tf.Tensor:
        encodings, logits = (tf.cast(output, tf.float32) for output in outputs)
        matches = match(labels["boxes"], labels["classes"] >= 0, box_coding.corners(anchors))
        positive = tf.cast(matches.positive, tf.float32)
        wanted = box_coding.encode(matches.gather(labels["boxes"]), anchors)
        box_losses = tf.reduce_sum(smooth_l1(encodings, wanted) * positive, -1)
        classes = tf.where(matches.positive, matches.gather(tf.cast(labels["classes"], tf.int32)), -1)
        matched = tf.maximum(tf.reduce_mean(tf.reduce_sum(positive, -1)), 1.0)
        return (box_weight * box_losses + of_classes(logits, classes)) / matched

    return loss


def smooth_l1(encodings: tf.Tensor, wanted: tf.Tensor) -> tf.Tensor:
    """Half the square up to a difference of 1 and linear from there on, summed over a box's four numbers.

    Args:
        encodings: float32 [N, anchors, 4].
        wanted: The same.

    Returns:
        float32 [N, anchors].

    Source: arXiv:1504.08083, equation 3.
    """
    difference = tf.abs(encodings - wanted)
    return tf.reduce_sum(tf.where(difference < 1, 0.5 * difference**2, difference - 0.5), -1)


def focal(logits: tf.Tensor, classes: tf.Tensor, alpha: float = 0.25, gamma: float = 2.0) -> tf.Tensor:
    """Focal loss: cross-entropy of each class's sigmoid, small where the answer is right already.

    Args:
        logits: float32 [N, anchors, classes].
        classes: int32 [N, anchors]; -1 for none.
        alpha: Weight of what is there, 0 to 1; what is not there has 1 - alpha.
        gamma: Exponent of 1 - the probability of the right answer, >= 0.

    Returns:
        float32 [N], the sum over a picture's anchors and classes.

    Source: arXiv:1708.02002, equation 5.
    """
    there = tf.one_hot(classes, logits.shape[-1])
    entropy = tf.nn.sigmoid_cross_entropy_with_logits(there, logits)
    right = tf.exp(-entropy)
    weight = there * alpha + (1 - there) * (1 - alpha)
    return tf.reduce_sum(weight * (1 - right) ** gamma * entropy, (1, 2))


def hard_negatives(logits: tf.Tensor, classes: tf.Tensor, ratio: int = NEGATIVES) -> tf.Tensor:
    """Softmax cross-entropy of the anchors with a box, and of those without that are most wrong.

    Args:
        logits: float32 [N, anchors, 1 + classes]; the first is the background's.
        classes: int32 [N, anchors]; -1 for none.
        ratio: How many anchors without a box count, for each one with a box.

    Returns:
        float32 [N], the sum over a picture's anchors that count.

    Source: arXiv:1512.02325, section 2.2, hard negative mining.
    """
    entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(classes + 1, logits)
    positive = classes >= 0
    count = tf.maximum(ratio * tf.reduce_sum(tf.cast(positive, tf.int32), -1), _LEAST_NEGATIVES)
    # The rank of each among the picture's negatives, by what the network says now; it has no gradient.
    hardness = tf.where(positive, -1.0, tf.stop_gradient(entropy))
    rank = tf.argsort(tf.argsort(hardness, direction="DESCENDING", stable=True), stable=True)
    counts = positive | (rank < count[:, None])
    return tf.reduce_sum(entropy * tf.cast(counts, tf.float32), -1)
