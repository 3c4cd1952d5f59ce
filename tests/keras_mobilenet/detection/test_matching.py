import numpy as np
import pytest
from pycocotools import mask

from keras_mobilenet.detection import intersection_over_union, match
from tests.keras_mobilenet.detection.test_box_coding import random_boxes

ANCHORS = np.array([[0, 0, 0.5, 0.5], [0, 0.5, 0.5, 1], [0.5, 0, 1, 0.5], [0.5, 0.5, 1, 1]], np.float32)


def test_intersection_over_union_is_that_of_pycocotools():
    one, other = random_boxes(20), random_boxes(30, seed=1)

    def sides(boxes):
        return np.concatenate([boxes[:, 1::-1], boxes[:, 3:1:-1] - boxes[:, 1::-1]], 1).astype(np.float64)

    expected = mask.iou(sides(one), sides(other), [0] * len(other))
    assert expected.max() > 0.3
    np.testing.assert_allclose(intersection_over_union(one, other), expected, atol=1e-5)


def test_a_box_has_every_anchor_that_covers_it_and_its_best_in_any_case():
    boxes = np.array([[[0, 0, 0.5, 0.6], [0.6, 0.6, 0.7, 0.7]]], np.float32)  # the second is far below the threshold
    found = match(boxes, [[True, True]], ANCHORS)
    assert found.positive.numpy().tolist() == [[True, False, False, True]]
    assert found.box.numpy()[0, [0, 3]].tolist() == [0, 1]


def test_the_first_of_two_boxes_has_their_common_best_anchor():
    boxes = np.array([[[0.6, 0.6, 0.7, 0.7], [0.8, 0.8, 0.9, 0.9]]], np.float32)
    found = match(boxes, [[True, True]], ANCHORS)
    assert found.positive.numpy().tolist() == [[False, False, False, True]]
    assert found.box.numpy()[0, 3] == 0


def test_a_forced_anchor_leaves_the_box_that_it_covers_better():
    anchors = np.array([[0, 0, 1, 1]], np.float32)
    boxes = np.array([[[0, 0, 1, 0.9], [0, 0, 0.1, 0.1]]], np.float32)
    found = match(boxes, [[True, True]], anchors)
    assert found.box.numpy().tolist() == [[0]]


@pytest.mark.parametrize("boxes", [[[0, 0, 0.5, 0.5]], [[0.3, 0.3, 0.3, 0.3]]])
def test_rows_that_fill_up_and_boxes_without_area_have_no_anchor(boxes):
    there = boxes[0][0] > 0
    found = match(np.array([boxes], np.float32), [[there]], ANCHORS)
    assert not found.positive.numpy().any()
