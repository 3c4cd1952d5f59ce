import numpy as np
import pytest

from keras_mobilenet.detection import Anchors


def test_the_object_detection_api_has_1917_anchors_at_300_pixels():
    assert Anchors((19, 10, 5, 3, 2, 1)).boxes.shape == (1917, 4)


def test_anchors_of_the_reduced_first_map():
    boxes = Anchors((2, 1)).boxes
    wide = 0.2 * 2**0.5
    expected = [[0.25, 0.25, 0.1, 0.1], [0.25, 0.25, 0.1 * 2**0.5, wide], [0.25, 0.25, wide, 0.1 * 2**0.5]]
    np.testing.assert_allclose(boxes[:3], expected, rtol=1e-6)
    np.testing.assert_allclose(boxes[3, :2], (0.25, 0.75))  # the next cell to the right
    np.testing.assert_allclose(boxes[6, :2], (0.75, 0.25))


def test_anchors_of_the_last_map():
    boxes = Anchors((2, 1)).boxes[12:]
    assert len(boxes) == 6
    np.testing.assert_allclose(boxes[:, :2], 0.5)
    np.testing.assert_allclose(boxes[:5, 2] * boxes[:5, 3], 0.95**2, rtol=1e-6)
    np.testing.assert_allclose(boxes[:5, 3] / boxes[:5, 2], (1, 2, 0.5, 3, 1 / 3), rtol=1e-6)
    np.testing.assert_allclose(boxes[5, 2:], 0.95**0.5, rtol=1e-6)  # between 0.95 and the whole picture


def test_whole_first_map():
    anchors = Anchors((3, 1), 0.3, 0.9, (1.0, 2.0), reduce_lowest=False)
    assert anchors.per_cell == (3, 3)
    np.testing.assert_allclose(anchors.boxes[0, 2:], 0.3)
    np.testing.assert_allclose(anchors.boxes[2, 2:], (0.3 * 0.9) ** 0.5, rtol=1e-6)


def test_a_config_gives_the_anchors_again():
    anchors = Anchors((5, 3), 0.1, 0.7, (1.0, 3.0), reduce_lowest=False)
    assert Anchors.from_config(anchors.config()) == anchors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lowest_scale": 0.0}, r"0\.0 to 0\.95: pass 0 < lowest <= highest"),
        ({"lowest_scale": 0.5, "highest_scale": 0.4}, r"0\.5 to 0\.4"),
        ({"aspect_ratios": ()}, "not ratios above 0"),
        ({"aspect_ratios": (1.0, -2.0)}, "not ratios above 0"),
    ],
)
def test_what_is_no_anchor_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Anchors((2, 1), **options)
