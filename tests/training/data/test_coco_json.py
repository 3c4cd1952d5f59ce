import json

import numpy as np
import pytest

from tests.training.data.conftest import jpeg
from training.data.coco_json import load_coco_json
from training.data.detection_sources import load_boxes

COCO = {
    "images": [
        {"id": 7, "file_name": "a.jpg", "height": 40, "width": 60},
        {"id": 9, "file_name": "b.jpg", "height": 40, "width": 60},
    ],
    "annotations": [
        {"id": 1, "image_id": 9, "category_id": 18, "bbox": [30, 10, 15, 20], "iscrowd": 0},
        {"id": 2, "image_id": 9, "category_id": 3, "bbox": [0, 0, 60, 40], "iscrowd": 1},
    ],
    "categories": [{"id": 18, "name": "dog"}, {"id": 3, "name": "car"}],
}
SHORT = {
    "classes": ["car", "dog"],
    "images": [{"file": "a.jpg", "boxes": [[0.1, 0.2, 0.3, 0.4]], "labels": [1], "height": 40, "width": 60}],
}


def write(root, name, content, folder):
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(json.dumps(content))
    (root / folder).mkdir(parents=True, exist_ok=True)
    for number, picture in enumerate(("a.jpg", "b.jpg")):
        (root / folder / picture).write_bytes(jpeg(number))


def test_coco_s_own_layout(tmp_path):
    write(tmp_path, "annotations/instances_train2017.json", COCO, "train2017")
    source = load_boxes("coco_json", tmp_path, validation_share=0)
    assert source.class_names == ("car", "dog")  # in the order of their numbers
    split = source["train"]
    assert split.where(1).endswith("train2017/b.jpg")
    contents, boxes = split.read(1)
    assert contents == jpeg(1)
    np.testing.assert_allclose(boxes.corners, [[10 / 40, 0.5, 30 / 40, 0.75], [0, 0, 1, 1]])
    assert boxes.classes.tolist() == [1, 0]
    assert boxes.crowd.tolist() == [False, True]
    assert boxes.size == (40, 60)
    assert len(split.read(0)[1].classes) == 0


def test_the_short_layout(tmp_path):
    write(tmp_path, "train.json", SHORT, "train/images")
    write(tmp_path, "val.json", SHORT, "val/images")
    source = load_coco_json(tmp_path)
    assert {name: split.count for name, split in source.splits.items()} == {"train": 1, "validation": 1}
    boxes = source["validation"].read(0)[1]
    np.testing.assert_allclose(boxes.corners, [[0.1, 0.2, 0.3, 0.4]])
    assert boxes.classes.tolist() == [1]


def test_files_are_named_split_by_split(tmp_path):
    write(tmp_path, "some.json", SHORT, "images")
    source = load_coco_json(tmp_path, {"train": "some.json", "test": "some.json"})
    assert sorted(source.splits) == ["test", "train"]


def test_coco128(shared_data):
    source = load_coco_json(shared_data / "coco128")
    assert {name: split.count for name, split in source.splits.items()} == {"train": 128, "validation": 128}
    assert len(source.class_names) == 80
    assert sum(len(source["train"].read(index)[1].classes) for index in range(128)) == 929


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"images": []}, "neither COCO's instances JSON nor the short form"),
        ({"classes": ["a"], "images": []}, "names no pictures"),
        (SHORT | {"classes": ["car"]}, r"a\.jpg has the label 1, and there are 1 classes"),
    ],
)
def test_what_is_no_such_file_is_refused(tmp_path, content, message):
    write(tmp_path, "train.json", content, "images")
    with pytest.raises(ValueError, match=message):
        load_coco_json(tmp_path)


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="the files with --train_files"):
        load_coco_json(tmp_path)
    (tmp_path / "train.json").write_text(json.dumps(SHORT))
    with pytest.raises(FileNotFoundError, match=r"names the picture a\.jpg, which is in none of"):
        load_coco_json(tmp_path)
    with pytest.raises(ValueError, match="needs data_dir"):
        load_boxes("coco_json")


def test_splits_of_other_classes_are_refused(tmp_path):
    write(tmp_path, "train.json", SHORT, "images")
    write(tmp_path, "val.json", SHORT | {"classes": ["dog", "car"]}, "images")
    with pytest.raises(ValueError, match="has other classes than"):
        load_coco_json(tmp_path)
