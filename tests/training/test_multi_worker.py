"""Two real processes on this machine train as one does, and go on when one of them is lost."""

import json
import socket
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.training import runs
from training import history

pytestmark = pytest.mark.slow

# Batch norm takes the statistics of each worker's own pictures, as everywhere without synchronized batch norm. With
# frozen statistics nothing is left in which two workers with half of the pictures each differ from one with them all.
FROZEN = (*runs.TINY, "--learning_rate=0.01", "--freeze_batch_norm", "--mixup=0.2", "--weight_decay=1e-4")
SUMMATION = 2e-5  # largest difference of a weight: float32 sums in another order, over 18 steps


def _start(output_dir: Path, ports: list[int], *flags: str) -> list[subprocess.Popen]:
    return [_worker(output_dir, ports, index, *flags) for index in range(2)]


def _worker(output_dir: Path, ports: list[int], index: int, *flags: str) -> subprocess.Popen:
    workers = [f"localhost:{port}" for port in ports]
    config = json.dumps({"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}})
    return runs.start(output_dir, *flags, "--strategy=multi_worker", TF_CONFIG=config)


@pytest.fixture
def ports():
    with socket.socket() as first, socket.socket() as second:
        for taken in (first, second):
            taken.bind(("localhost", 0))
        return [taken.getsockname()[1] for taken in (first, second)]


def test_two_workers_train_as_one_and_a_lost_one_may_come_back(tmp_path, ports):
    one, two = tmp_path / "one", tmp_path / "two"
    alone = runs.start(one, *FROZEN)
    runs.finish(alone, one)

    flags = (*FROZEN, "--checkpoint_seconds=0")
    chief, worker = _start(two, ports, *flags)
    try:
        assert runs.wait_for_progress(chief, two, 5)
        worker.kill()
        worker.wait()
        before = runs.checkpoints(two)
        worker = _worker(two, ports, 1, *flags)
        runs.finish(chief, two)
        runs.finish(worker, two)
    finally:
        for process in (chief, worker):
            process.kill()
    assert "Lost another worker" in two.with_suffix(".log").read_text()
    assert before[1] < 18, "the worker was killed after the last step"

    expected, found = runs.weights(one, "float"), runs.weights(two, "float")
    assert expected.keys() == found.keys()
    moved = 0.0
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=0, atol=SUMMATION, err_msg=name)
        moved = max(moved, float(np.abs(value).max()))
    assert moved > 100 * SUMMATION
    for row, other in zip(history.read(one / "float"), history.read(two / "float"), strict=True):
        assert row["accuracy"] == pytest.approx(other["accuracy"], abs=0.02)
        assert row["loss"] == pytest.approx(other["loss"], rel=1e-4)


def test_all_stages_train_on_two_workers(tmp_path, ports):
    """With batch norm that trains, dropout, pruning and quantization: `check_equal` ends a run whose workers differ."""
    output_dir = tmp_path / "run"
    flags = (*runs.LEARNS, "--stages=float,prune,quantize", "--ema=0.5", "--dropout=0.1")
    processes = _start(output_dir, ports, *flags)
    try:
        for process in processes:
            runs.finish(process, output_dir)
    finally:
        for process in processes:
            process.kill()
    assert [len(history.read(output_dir / stage)) for stage in ("float", "prune", "quantize")] == [6, 1, 1]
    pruned = runs.weights(output_dir, "prune")
    assert 0.45 < np.mean(pruned[next(name for name in pruned if name.endswith("block_6_expand/kernel"))] == 0) < 0.55
