import io
import json

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("apache_beam", reason="batch prediction needs apache-beam")

from serving.batch import answers
from serving.edge_tpu.tasks import DETECTION_OUTPUTS, Settings


def reading(task, output, boxes=(), top=2, threshold=0.0):
    settings = Settings({1: "one", 2: "two"}, top, threshold)
    return answers.Reading(task, output, boxes, settings, "model", "7")


def test_classes():
    scores = np.array([[0.1, 0.7, 0.2], [0.0, 0.0, 1.0]], np.float32)
    rows = reading("classify", "probabilities").rows(["a", "b"], [(4, 4)] * 2, {"probabilities": scores})
    assert rows[0]["class_ids"] == [1, 2] and rows[0]["labels"] == ["one", "two"]
    np.testing.assert_allclose(rows[0]["scores"], [0.7, 0.2], rtol=1e-6)
    assert rows[1] == {
        "path": "b", "class_ids": [2], "labels": ["two"], "scores": [1.0], "model": "model", "version": "7",
    }  # fmt: skip


def test_boxes_are_pixels_of_the_picture():
    outputs = {
        "boxes": np.array([[[0.5, 0.25, 1.5, 0.75], [0, 0, 1, 1]]] * 2, np.float32),
        "classes": np.array([[2, 1]] * 2, np.float32),
        "scores": np.array([[0.9, 0.1]] * 2, np.float32),
        "num_detections": np.array([2, 0], np.float32),
    }
    made = reading("detect", "boxes", DETECTION_OUTPUTS, threshold=0.4)
    found, nothing = made.rows(["a", "b"], [(400, 200)] * 2, outputs, version="8")
    assert found["boxes"] == [[100, 100, 300, 200]] and found["labels"] == ["two"] and found["version"] == "8"
    assert nothing["boxes"] == nothing["labels"] == nothing["scores"] == []


def test_a_mask_comes_back_from_its_png():
    mask = np.zeros((1, 4, 6), np.int32)
    mask[0, :, 3:] = 2
    (row,) = reading("segment", "class_map").rows(["a"], [(60, 40)], {"class_map": mask})
    assert row["class_ids"] == [0, 2] and row["shares"] == [0.5, 0.5]
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(row["mask"]))), mask[0])
    assert json.loads(json.dumps(answers.as_json(row)))["path"] == "a"


def test_features_are_averaged_over_positions():
    features = np.arange(2 * 2 * 2 * 3, dtype=np.float32).reshape(2, 2, 2, 3)
    rows = reading("embed", "features").rows(["a", "b"], [(4, 4)] * 2, {"features": features})
    np.testing.assert_allclose([row["embedding"] for row in rows], features.mean((1, 2)))


def test_the_output_of_a_task():
    choose = answers.choose_output
    classifier = {"probabilities": (None, 5), "class_ids": (None, 5), "scores": (None, 5)}
    segmenter = {"class_map": (None, 8, 8), "probabilities": (None, 4, 4, 3)}
    assert choose("classify", classifier, None) == "probabilities"
    assert choose("classify", {"Softmax": (1, 1001)}, None) == "Softmax"
    assert choose("segment", segmenter, None) == "class_map"
    assert choose("embed", {"features": (None, 7, 7, 320)}, None) == "features"
    assert choose("detect", dict.fromkeys(DETECTION_OUTPUTS, (None,)), list(DETECTION_OUTPUTS)) == "boxes"


@pytest.mark.parametrize(
    ("task", "shapes", "boxes", "message"),
    [
        ("embed", {"probabilities": (None, 5)}, None, "include_top=False"),
        ("classify", {"features": (None, 5)}, None, "not one for --task=classify"),
        ("classify", {"class_map": (1, 8, 8), "probabilities": (1, 4, 4, 3)}, None, "puts out class_map"),
        ("detect", {"probabilities": (None, 5)}, None, "is not a detector"),
        ("classify", {"boxes": (1, 5, 4)}, ["boxes"], "is a detector"),
        ("segment", {"a": (1, 2, 2), "b": (1, 2, 2)}, None, "segment takes"),
    ],
)
def test_a_model_of_another_task_is_refused(task, shapes, boxes, message):
    with pytest.raises(ValueError, match=message):
        answers.choose_output(task, shapes, boxes)
