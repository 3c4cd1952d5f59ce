"""Segmenters through all stages, as a user trains them, on drawn shapes."""

import json

import numpy as np
import pytest

from keras_mobilenet.runtime import Predictor
from tests.training import runs
from tests.training.test_programs import program
from training import history

pytestmark = pytest.mark.slow

# Batch norm has to follow within few steps: else activations are next to nothing, and LiteRT takes no such scales.
FLAGS = ("--task=segmentation", "--dataset=shapes", "--alpha=0.1", "--image_size=65", "--batch_norm_momentum=0.5")
LENGTHS = ("--stages=float,quantize", "--epochs=2", "--quantize_epochs=1", "--calibration_pictures=128")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    output_dir = tmp_path_factory.mktemp("segmentation") / "run"
    runs.finish(runs.start(output_dir, *FLAGS, *LENGTHS, "--schedule=poly"), output_dir)
    return output_dir


def test_results_tell_mean_iou(run):
    result = json.loads((run / "results.json").read_text())
    assert result["name"] == "deeplab_v3_mobilenet_v2_010_65.shapes"
    assert list(result["figures"]) == ["float", "float_int8", "fake_quant", "int8"]
    for row in result["figures"].values():
        assert 0 < row["mean_iou"] <= row["pixel_accuracy"] <= 1
        assert row["pictures"] == 64
    assert result["figures"]["int8"]["agreement"] > 0.8
    first, last = history.read(run / "float")
    assert last["loss"] < first["loss"]
    assert {"mean_iou", "pixel_accuracy"} <= last.keys()


def test_the_exported_version_gives_a_class_map(run):
    outputs = Predictor(run.parent / "run-export").predict(np.zeros((1, 65, 65, 3), np.uint8))
    assert outputs["class_map"].shape == (1, 65, 65) and outputs["probabilities"].shape == (1, 5, 5, 4)
    assert (run.parent / "run-export" / "1" / "model.tflite").exists()


def test_evaluate_and_report(run, tmp_path):
    expected = json.loads((run / "results.json").read_text())["figures"]["int8"]
    figures = tmp_path / "figures.json"
    options = ("--task=segmentation", "--dataset=shapes", f"--json={figures}")
    program("evaluate", f"--artifact={run / 'quantize' / 'int8.tflite'}", *options)
    found = json.loads(figures.read_text())
    assert found["mean_iou"] == pytest.approx(expected["mean_iou"], abs=1e-6)
    assert len(found["iou_by_class"]) == 4
    program("evaluate", f"--artifact={run / 'float' / 'model.keras'}", *options, "--multi_scale", "--flip")
    assert 0 < json.loads(figures.read_text())["mean_iou"] <= 1
    program("report", run, f"--output={tmp_path / 'report.html'}", "--worst=5", "--pictures=8")
    page = (tmp_path / "report.html").read_text()
    assert page.count("<figure>") == 5
    assert "IoU by class" in page
