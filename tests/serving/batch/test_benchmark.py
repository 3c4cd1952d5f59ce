import json
import math
import subprocess
import sys

import pytest

pytest.importorskip("apache_beam", reason="batch prediction needs apache-beam")

from .jobs import ROOT


@pytest.mark.slow
def test_the_table_of_a_short_benchmark(shared_data, tmp_path):
    results = tmp_path / "results.json"
    flags = [
        f"--model={shared_data / 'weights' / 'mobilenet_v1_0.25_128_quant.tflite'}",
        f"--pictures={shared_data / 'imagenet' / 'ccby400'}",
        *("--throughput_pictures=100", "--rounds=1", "--counts=500,1000", f"--json={results}"),
    ]
    program = [sys.executable, "-m", "serving.batch.benchmark"]
    done = subprocess.run([*program, *flags], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(results.read_text())
    assert (
        said["command"].startswith("python -m serving.batch.benchmark --model=") and "apache-beam" in said["packages"]
    )
    throughput, memory, cost = said["rows"]
    assert 0 < throughput["median"] < 2 and "100 pictures" in throughput["figure"]
    assert abs(memory["median"]) < 10 and "MB at 1,000" in memory["detail"]
    # So few pictures take less than what the start-up varies by, and less than nothing when it is taken off.
    assert "ms at 500" in cost["detail"] and "ms at 1,000" in cost["detail"] and math.isfinite(cost["median"])
    assert done.stdout.count("\n| ") == 3


@pytest.mark.slow
def test_a_job_that_fails_ends_the_benchmark(shared_data, tmp_path):
    flags = [f"--model={tmp_path / 'none.tflite'}", f"--pictures={shared_data / 'imagenet' / 'ccby400'}", "--rows=cost"]
    program = [sys.executable, "-m", "serving.batch.benchmark"]
    done = subprocess.run([*program, *flags], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0 and "there is no model at" in done.stderr
