import numpy as np
import pytest
import tensorflow as tf

from training.data.detection_sources import load_boxes
from training.data.shapes import SIDE, draw


def test_splits_are_the_same_in_every_run_and_share_no_drawing():
    source = load_boxes("shapes")
    assert {name: split.count for name, split in source.splits.items()} == {"train": 512, "validation": 64, "test": 64}
    assert source["test"].read(3)[0] == draw(512 + 64 + 3)[0]
    assert source["train"].read(0)[0] != source["validation"].read(0)[0]


@pytest.mark.parametrize("seed", range(8))
def test_a_box_holds_its_shape_and_nothing_else_is_drawn(seed):
    contents, boxes = draw(seed)
    pixels = tf.io.decode_png(contents).numpy().astype(int)
    assert pixels.shape == (SIDE, SIDE, 3)
    assert 1 <= len(boxes.classes) <= 4
    inside = np.zeros((SIDE, SIDE), bool)
    for top, left, bottom, right in np.rint(boxes.corners * SIDE).astype(int):
        inside[top:bottom, left:right] = True
    ground = np.median(pixels[~inside], axis=0)
    differs = np.abs(pixels - ground).max(-1) > 55  # noise has a standard deviation of 8
    assert not differs[~inside].any()
    for top, left, bottom, right in np.rint(boxes.corners * SIDE).astype(int):
        piece = differs[top:bottom, left:right]
        # Each side of the box touches its shape; a corner pixel of a triangle or a circle is half ground.
        assert all(edge.any() for edge in (piece[:3], piece[-3:], piece[:, :3], piece[:, -3:]))


def test_other_data_sets_are_refused():
    with pytest.raises(ValueError, match=r"'digits' has no boxes\. Allowed are shapes, coco_json"):
        load_boxes("digits")
    with pytest.raises(ValueError, match="labels_file does not belong to the data set 'shapes'"):
        load_boxes("shapes", labels_file="names.txt")
