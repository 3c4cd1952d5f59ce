"""Exported versions in the program itself, in either of their forms: with --prefer_tflite_model and without."""

import re

import numpy as np
import pytest

import keras_mobilenet as km
from tests.keras_mobilenet.optimization.networks import images, settle, small
from tests.serving.server.calls import config_text, predict, spec
from tests.serving.server.test_process import FREE_PORTS, run  # noqa: F401

pytestmark = pytest.mark.slow

PICTURES = np.random.default_rng(1).integers(0, 256, (8, 64, 64, 3), np.uint8)
OUTPUTS = {
    "classifier": {"probabilities", "class_ids", "scores"},
    "detector": {"boxes", "classes", "scores", "num_detections", "class_names"},
    "segmenter": {"class_map", "probabilities", "class_names"},
    "float": {"probabilities", "class_ids", "scores"},
}
LITE_OUTPUTS = {
    "classifier": {"probabilities"},
    "detector": {"boxes", "classes", "scores", "num_detections"},
    "segmenter": {"class_map"},
}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    root = tmp_path_factory.mktemp("exported")
    labels = [f"class {number}" for number in range(5)]
    aware = km.quantize_aware(settle(small()), images())
    km.export_saved_model(aware, root / "classifier", labels, tflite="int8")
    km.export_saved_model(settle(small()), root / "float", labels, tflite="float32")
    detector = km.SSDLite(alpha=0.1, image_size=64, classes=5)
    suppression = km.NonMaxSuppression(score_threshold=0.0, max_detections=5)
    lite = km.convert_tflite(detector, "int8", PICTURES, non_max_suppression=suppression)
    km.export_saved_model(detector, root / "detector", labels, tflite=lite, non_max_suppression=suppression)
    segmenter = km.DeepLabV3("mobilenet_v1", 0.1, (64, 64), classes=5)
    lite = km.convert_tflite(segmenter, "int8", PICTURES)
    km.export_saved_model(segmenter, root / "segmenter", labels, tflite=lite)
    file = root / "models.config"
    file.write_text(config_text(root, **dict.fromkeys(OUTPUTS, "")))
    return file


@pytest.mark.parametrize("lite", [False, True])
def test_a_version_loads_and_warms_up_in_both_forms(run, exported, lite):  # noqa: F811
    form = "--prefer_tflite_model" if lite else "--noprefer_tflite_model"
    server = run(*FREE_PORTS, form, f"--model_config_file={exported}", "--max_num_load_retries=0")
    clients = server.clients()
    for name, outputs in (LITE_OUTPUTS if lite else OUTPUTS).items():
        size = 64 if name in ("detector", "segmenter") else 32
        answer = predict(clients, spec(name), image=PICTURES[:2, :size, :size])
        assert answer.outputs.keys() == outputs
        assert all(tensor.tensor_shape.dim[0].size == 2 for tensor in answer.outputs.values())
    assert server.end() == 0
    warmed = [line for line in server.lines if "warmup records" in line]
    assert len(warmed) == 3 and all("Ran 1 warmup records" in line for line in warmed), server.text
    foreign = [line for line in server.lines if not re.match(r"I\d{4} \S+ \d+ \w+\.py:", line)]
    assert foreign == (["INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\n"] if lite else []), server.text


def test_records_beside_a_file_are_for_what_both_forms_answer(exported):
    folder = exported.parent
    assert not (folder / "float" / "1" / "assets.extra").exists()
    assert (folder / "detector" / "1" / "assets.extra" / "tf_serving_warmup_requests").exists()
