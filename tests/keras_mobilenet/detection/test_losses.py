import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_mobilenet.detection import Anchors, Head, box_coding, encode, losses, match, multibox_loss
from tests.keras_mobilenet.detection.test_box_coding import random_boxes

GENERATOR = np.random.default_rng(0)
LOGITS = GENERATOR.normal(size=(2, 12, 4)).astype(np.float32)
CLASSES = np.where(np.arange(24).reshape(2, 12) % 7 == 3, GENERATOR.integers(0, 3, (2, 12)), -1)


def test_focal_loss_is_keras_s():
    peer = keras.losses.BinaryFocalCrossentropy(
        apply_class_balancing=True, alpha=0.25, gamma=2.0, from_logits=True, reduction=None
    )
    there = tf.one_hot(CLASSES, 4)
    expected = tf.reduce_sum(peer(there[..., None], LOGITS[..., None]), (1, 2))
    np.testing.assert_allclose(losses.focal(LOGITS, CLASSES), expected, rtol=1e-4)


def test_smooth_l1_is_huber_s():
    one, other = GENERATOR.normal(size=(2, 2, 5, 4)).astype(np.float32) * 2
    expected = keras.losses.Huber(1.0, reduction=None)(other, one) * 4  # Keras takes the mean of the four
    np.testing.assert_allclose(losses.smooth_l1(one, other), expected, rtol=1e-5)


def test_negatives_that_count_are_the_hardest_three_for_each_positive():
    entropy = keras.losses.sparse_categorical_crossentropy(CLASSES + 1, LOGITS, from_logits=True).numpy()
    expected = []
    for row, classes in zip(entropy, CLASSES, strict=True):
        positive, negative = row[classes >= 0], np.sort(row[classes < 0])[::-1]
        assert 0 < 3 * len(positive) < len(negative)
        expected.append(positive.sum() + negative[: 3 * len(positive)].sum())
    np.testing.assert_allclose(losses.hard_negatives(LOGITS, CLASSES), expected, rtol=1e-5)


def test_a_picture_without_boxes_has_three_negatives():
    found = losses.hard_negatives(LOGITS, np.full((2, 12), -1))
    entropy = keras.losses.sparse_categorical_crossentropy(np.zeros((2, 12)), LOGITS, from_logits=True).numpy()
    np.testing.assert_allclose(found, np.sort(entropy)[:, -3:].sum(1), rtol=1e-5)


@pytest.mark.parametrize("scores", ["sigmoid", "softmax"])
def test_right_outputs_have_almost_no_loss(scores):
    head = Head(Anchors((4, 2, 1)), scores, 3)
    boxes, classes = random_boxes(6).reshape(2, 3, 4), np.array([[0, 2, 1], [1, -1, -1]])
    matches = match(boxes, classes >= 0, box_coding.corners(head.anchors.boxes))
    encodings = encode(matches.gather(tf.constant(boxes)), head.anchors.boxes)
    wanted = np.where(matches.positive, matches.gather(tf.constant(classes)), -1)
    logits = np.where(tf.one_hot(wanted + head.background, 3 + head.background), 12.0, -12.0).astype(np.float32)
    loss = multibox_loss(head)
    labels = {"boxes": tf.constant(boxes), "classes": tf.constant(classes)}
    assert np.all(loss(labels, [encodings, logits]) < 0.01)
    assert np.all(loss(labels, [encodings, -logits]) > 1)
    assert np.all(loss(labels, [encodings + 2.0, logits]) > 1)


def test_rows_that_fill_up_change_nothing():
    head = Head(Anchors((4, 2, 1)), "sigmoid", 3)
    boxes, classes = random_boxes(2).reshape(1, 2, 4), np.array([[0, 2]])
    anchors = len(head.anchors.boxes)
    outputs = [GENERATOR.normal(size=(1, anchors, n)).astype(np.float32) for n in (4, 3)]
    short = multibox_loss(head)({"boxes": tf.constant(boxes), "classes": tf.constant(classes)}, outputs)
    filled = {
        "boxes": tf.constant(np.pad(boxes, [(0, 0), (0, 5), (0, 0)])),
        "classes": tf.constant(np.pad(classes, [(0, 0), (0, 5)], constant_values=-1)),
    }
    np.testing.assert_allclose(multibox_loss(head)(filled, outputs), short, rtol=1e-6)
