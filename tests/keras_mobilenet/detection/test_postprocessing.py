import numpy as np
import pytest
import tensorflow as tf

import keras_mobilenet as km
from keras_mobilenet.detection import Anchors, Head, encode, suppress

ANCHORS = Anchors((2, 1))
BOXES = np.array([[0.1, 0.1, 0.4, 0.4], [0.1, 0.1, 0.4, 0.42], [0.5, 0.5, 0.9, 1.2]], np.float32)


def outputs(scores):
    """What a network puts out that sees BOXES with scores [3, classes] at its first three anchors."""
    encodings = np.zeros((1, len(ANCHORS.boxes), 4), np.float32)
    encodings[0, :3] = encode(BOXES, ANCHORS.boxes[:3])
    logits = np.full((1, len(ANCHORS.boxes), 2), -20.0, np.float32)
    logits[0, :3] = np.log(scores) - np.log1p(-np.array(scores))
    return encodings, logits


def test_the_worse_of_two_boxes_of_a_class_goes():
    found = suppress(*outputs([[0.6, 0.02], [0.8, 0.02], [0.02, 0.7]]), Head(ANCHORS, "sigmoid", 2))
    count = int(found["num_detections"][0])
    kept = [(float(c), round(float(s), 2)) for c, s in zip(found["classes"][0], found["scores"][0], strict=True)]
    # What is left of class 1 at the first two anchors, and of class 0 at the third.
    assert kept[:2] == [(0.0, 0.8), (1.0, 0.7)]
    assert count == 4
    assert sorted(kept[2:count]) == [(0.0, 0.02), (1.0, 0.02)]
    np.testing.assert_allclose(found["boxes"][0, 0], BOXES[1], atol=1e-5)
    np.testing.assert_allclose(found["boxes"][0, 1], [0.5, 0.5, 0.9, 1.0], atol=1e-5)  # cut at the picture's edge
    assert not np.any(found["boxes"][0, count:])


def test_boxes_of_two_classes_do_not_suppress_each_other():
    suppression = km.NonMaxSuppression(score_threshold=0.5, max_detections=7)
    found = suppress(*outputs([[0.6, 0.01], [0.01, 0.8], [0.01, 0.01]]), Head(ANCHORS, "sigmoid", 2), suppression)
    assert found["num_detections"].numpy().tolist() == [2.0]
    assert found["boxes"].shape == (1, 7, 4)


def test_softmax_leaves_the_background_out():
    encodings, _ = outputs([[0.5, 0.5]] * 3)
    logits = np.zeros((1, len(ANCHORS.boxes), 3), np.float32)
    logits[..., 0] = 10.0
    logits[0, 2] = [0.0, 0.0, 8.0]
    found = suppress(encodings, logits, Head(ANCHORS, "softmax", 2), km.NonMaxSuppression(score_threshold=0.5))
    assert found["num_detections"].numpy().tolist() == [1.0]
    assert found["classes"][0, 0] == 1.0
    assert float(found["scores"][0, 0]) == pytest.approx(float(tf.nn.softmax([0.0, 0.0, 8.0])[2]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"score_threshold": 1.5}, r"score_threshold=1\.5` is not a score: pass 0 to 1"),
        ({"iou_threshold": 0.0}, r"iou_threshold=0\.0` is not a share"),
        ({"max_detections": 0}, "max_detections=0` is not a count"),
    ],
)
def test_thresholds_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        km.NonMaxSuppression(**options)


def test_a_classifier_detects_nothing():
    with pytest.raises(ValueError, match=r"is no detector: pass a model of km\.SSDLite or km\.SSD"):
        km.detect(km.MobileNetV2((32, 32, 3), 0.1, classes=2), np.zeros((1, 32, 32, 3), np.float32))
