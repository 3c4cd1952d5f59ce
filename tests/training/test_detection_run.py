"""Detectors through all stages, as a user trains them, on drawn shapes."""

import json

import numpy as np
import pytest

from keras_mobilenet.runtime import Predictor
from tests.training import runs
from tests.training.test_programs import program
from training import history

pytestmark = pytest.mark.slow

FLAGS = ("--task=detection", "--dataset=shapes", "--alpha=0.25", "--image_size=96", "--batch_size=32", "--box_crop")
# Enough to learn something: a network that has not is left with ranges that LiteRT's kernels refuse.
LENGTHS = (
    *("--optimizer=adamw", "--learning_rate=0.002", "--quantize_learning_rate=0.0002"),
    *("--stages=float,quantize", "--epochs=6", "--quantize_epochs=1", "--calibration_pictures=128"),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    output_dir = tmp_path_factory.mktemp("detection") / "run"
    runs.finish(runs.start(output_dir, *FLAGS, *LENGTHS), output_dir)
    return output_dir


def test_results_tell_average_precision(run):
    result = json.loads((run / "results.json").read_text())
    assert result["name"] == "ssdlite_mobilenet_v2_025_96.shapes"
    assert list(result["figures"]) == ["float", "float_int8", "fake_quant", "int8"]
    for row in result["figures"].values():
        assert 0 <= row["ap"] <= row["ap50"] <= 1
        assert row["pictures"] == 64
    first, *_, last = history.read(run / "float")
    assert last["loss"] < first["loss"]
    assert {"ap", "ap50"} <= last.keys()


def test_the_exported_version_finds_boxes(run):
    outputs = Predictor(run.parent / "run-export").predict(np.zeros((1, 96, 96, 3), np.uint8))
    assert outputs["boxes"].shape == (1, 100, 4)
    assert (run.parent / "run-export" / "1" / "model.tflite").exists()


def test_evaluate_and_report(run, tmp_path):
    expected = json.loads((run / "results.json").read_text())["figures"]["int8"]
    artefact = run / "quantize" / "int8.tflite"
    figures = tmp_path / "figures.json"
    program("evaluate", "--task=detection", f"--artifact={artefact}", "--dataset=shapes", f"--json={figures}")
    found = json.loads(figures.read_text())
    assert found["ap50"] == pytest.approx(expected["ap50"], abs=1e-6)
    assert len(found["ap_by_class"]) == 3
    program("report", run, f"--output={tmp_path / 'report.html'}", "--worst=5", "--pictures=8")
    page = (tmp_path / "report.html").read_text()
    assert page.count("<figure>") == 5
    assert "Average precision by class" in page


def test_a_killed_run_goes_on_to_the_same_weights(run, tmp_path):
    output_dir = tmp_path / "run"
    flags = (*FLAGS, *LENGTHS, "--checkpoint_seconds=0")
    process = runs.start(output_dir, *flags)
    try:
        assert runs.wait_for_progress(process, output_dir, 3)
    finally:
        process.kill()
        process.wait()
    runs.finish(runs.start(output_dir, *flags), output_dir)
    expected, found = runs.weights(run, "float"), runs.weights(output_dir, "float")
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
