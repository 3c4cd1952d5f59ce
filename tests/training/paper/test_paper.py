"""The program, the curve and what was measured."""

import subprocess
import sys

import pytest

from tests.training import runs as processes
from training.paper import curve, document, measurements
from training.paper.checkpoints import CHECKPOINTS
from training.paper.networks import Network


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["nothing"],
            "There is no command 'nothing'; allowed are tables, manifold, dead_kernels, curve, ablation, all.",
        ),
        (["ablation", "magic"], "There is no ablation 'magic'; allowed are convolution, depth, width, resolution"),
        (["ablation"], "ablation takes one name: convolution"),
        (["tables", "more"], "tables takes no arguments"),
        (["dead_kernels", "none.h5"], "There is no file none.h5"),
    ],
)
def test_errors_list_what_is_allowed(arguments, message, tmp_path):
    command = [sys.executable, "-m", "training.paper", *arguments, f"--output_dir={tmp_path / 'out'}"]
    process = subprocess.run(command, cwd=processes.ROOT, capture_output=True, text=True)
    assert process.returncode != 0
    assert message in process.stderr
    assert not (tmp_path / "out").exists()


def test_frontier():
    rows = [row for row in CHECKPOINTS if row.network.size == 224 and row.network.alpha == 1.0]
    assert [row.network.family for row in curve.frontier(rows)] == ["mobilenet_v2"]  # better, at half the cost


def test_documents_are_written_whole(tmp_path):
    document.write(tmp_path / "new", "a.md", "text")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.md"]
    assert document.table(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |\n"


def test_latency_is_measured_and_kept(tmp_path):
    networks = [Network("mobilenet_v1", 0.25, size) for size in (32, 64)]
    measurements.measure_latency(networks, tmp_path / "models", tmp_path, rounds=5)
    found = measurements.latencies(tmp_path)
    assert list(found) == ["mobilenet_v1_0.25_32", "mobilenet_v1_0.25_64"]
    for latency in found.values():
        assert 0 < latency.first_quartile <= latency.median <= latency.third_quartile
    assert measurements.note(tmp_path, "latency").startswith("`python ")
    assert measurements.accuracies(tmp_path) == {}
