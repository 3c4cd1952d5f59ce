import numpy as np
import pytest

from training.average_precision import Found, average_precision
from training.data.boxes import Boxes

SQUARE, OTHER = [0.1, 0.1, 0.5, 0.5], [0.5, 0.5, 0.9, 0.9]


def found(*rows):
    """(corners, class, score) of what was found in a picture."""
    corners, classes, scores = zip(*rows, strict=True) if rows else ((), (), ())
    return Found(np.array(corners).reshape(-1, 4), np.array(classes, np.int64), np.array(scores))


def test_what_is_found_exactly_has_a_precision_of_one():
    truth = [Boxes.of([SQUARE, OTHER], [0, 1]), Boxes.of([OTHER], [1], size=(10, 20))]
    precision = average_precision(truth, [found((SQUARE, 0, 0.9), (OTHER, 1, 0.4)), found((OTHER, 1, 0.8))], 3)
    assert precision.ap == precision.ap50 == pytest.approx(1.0)
    assert precision.by_class[:2] == pytest.approx([1.0, 1.0])
    assert np.isnan(precision.by_class[2])


def test_a_shifted_box_counts_up_to_its_intersection_over_union():
    shifted = [0.1, 0.14, 0.5, 0.54]  # covers 0.36 x 0.4 of 0.44 x 0.4: 0.818, which 7 of the 10 thresholds allow
    precision = average_precision([Boxes.of([SQUARE], [0])], [found((shifted, 0, 0.9))], 1)
    assert precision.ap50 == pytest.approx(1.0)
    assert precision.ap == pytest.approx(0.7)


def test_a_wrong_box_before_the_right_one_halves_the_precision():
    truth = [Boxes.of([SQUARE], [0])]
    assert average_precision(truth, [found((OTHER, 0, 0.9), (SQUARE, 0, 0.8))], 1).ap50 == pytest.approx(0.5)
    assert average_precision(truth, [found((OTHER, 0, 0.7), (SQUARE, 0, 0.8))], 1).ap50 == pytest.approx(1.0)


def test_crowds_count_neither_way():
    truth = [Boxes.of([SQUARE, OTHER], [0, 0], [False, True])]
    assert average_precision(truth, [found((OTHER, 0, 0.9), (SQUARE, 0, 0.8))], 1).ap50 == pytest.approx(1.0)


def test_nothing_found_is_zero_and_nothing_to_find_is_refused():
    assert average_precision([Boxes.of([SQUARE], [0])], [found()], 1).ap == 0
    with pytest.raises(ValueError, match="no object in any of the pictures"):
        average_precision([Boxes.of([], [])], [found()], 1)
