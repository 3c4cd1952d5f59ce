"""train, evaluate and report as a user runs them, on the digits."""

import csv
import json
import re
import subprocess
import sys

import numpy as np
import pytest

from tests.training import runs

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    output_dir = tmp_path_factory.mktemp("programs") / "run"
    runs.finish(runs.start(output_dir, *runs.LEARNS, "--stages=float,prune,quantize", "--prune_ramp=1"), output_dir)
    return output_dir


@pytest.fixture(scope="module")
def result(run):
    return json.loads((run / "results.json").read_text())


def program(name, *arguments):
    process = subprocess.run(
        [sys.executable, "-m", f"training.{name}", *map(str, arguments)], cwd=runs.ROOT, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr[-3000:]
    return process.stdout


def test_results_say_what_was_measured_and_how(run, result):
    figures = result["figures"]
    assert list(figures) == ["float", "float_int8", "pruned", "pruned_int8", "fake_quant", "int8"]
    for row in figures.values():
        assert (run / row["file"]).stat().st_size == row["bytes"]
        assert row["gzip_bytes"] > 0
        assert 0 <= row["accuracy"] <= row["top_5"] <= 1
        assert row["latency_ms"] > 0
    assert figures["int8"]["bytes"] < 0.5 * figures["float"]["bytes"]
    assert figures["pruned"]["gzip_bytes"] < 0.8 * figures["float"]["gzip_bytes"]
    assert 0.4 < figures["pruned"]["sparsity"] < 0.52
    assert figures["fake_quant"]["sparsity"] >= figures["pruned"]["sparsity"]
    assert figures["int8"]["agreement"] > 0.9
    assert result["seed"] == 0
    assert "training.train --recipe=digits" in result["command"]
    assert result["versions"].keys() >= {"python", "tensorflow", "keras"}
    assert result["seconds"].keys() == {"float", "prune", "quantize"}
    assert (run.parent / "run-export" / "1" / "model.tflite").read_bytes() == (
        run / figures["int8"]["file"]
    ).read_bytes()


def test_the_log_holds_only_our_lines(run):
    lines = run.with_suffix(".log").read_text().replace("\r", "\n").splitlines()
    for noise in ("Assets written", "SavedModel written", "functional_saver", "oneDNN", "cuda"):
        assert not [line for line in lines if noise in line]


def test_the_same_command_again_does_nothing(run):
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}
    runs.finish(runs.start(run, *runs.LEARNS, "--stages=float,prune,quantize", "--prune_ramp=1"), run)
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("kind", ["keras", "saved_model", "tflite"])
def test_every_kind_of_artefact_is_measured_alike(run, result, tmp_path, kind):
    artefact = {
        "keras": run / "quantize" / "model.keras",
        "saved_model": run.parent / "run-export",
        "tflite": run / "quantize" / "int8.tflite",
    }[kind]
    output = program(
        "evaluate",
        f"--artifact={artefact}",
        "--dataset=digits",
        "--evaluation_crop=0",
        f"--json={tmp_path / 'figures.json'}",
        f"--confusion={tmp_path / 'confusion.csv'}",
    )
    found = json.loads((tmp_path / "figures.json").read_text())
    expected = result["figures"]["int8" if kind == "tflite" else "fake_quant"]
    # A folded SavedModel rounds otherwise in the last bit than the model that it was made from.
    assert found["accuracy"] == pytest.approx(expected["accuracy"], abs=0.01 if kind == "saved_model" else 1e-9)
    assert found["pictures"] == expected["pictures"] == 359
    assert found["images_per_second"] > 0
    matrix = np.array(found["confusion"])
    assert matrix.sum() == 359
    assert np.trace(matrix) / 359 == pytest.approx(found["accuracy"])
    with (tmp_path / "confusion.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["", *found["classes"]]
    assert [row[0] for row in rows] == found["classes"]
    assert np.array([row[1:] for row in rows], int).tolist() == found["confusion"]
    assert f"top-1 {found['accuracy']:.2%}" in output


def test_a_report_shows_all_and_needs_no_network(run, result, tmp_path):
    program("report", run, f"--output={tmp_path / 'report.html'}", "--worst=5", "--pictures=8")
    page = (tmp_path / "report.html").read_text()
    for title in ("Curves", "Confusion matrix", "Sparsity by layer", "Quantization error by layer", "Worst pictures"):
        assert f"<h2>{title}" in page
    assert page.count("<figure>") == 5
    assert f"{result['figures']['int8']['accuracy']:.2%}" in page
    outside = re.findall(r'(?:src|href)="(?!data:|#)[^"]*"', page)
    assert outside == []
    assert "@import" not in page
