import subprocess
import sys

import numpy as np
import pytest

from tests.training import runs
from training import scaling


def ring(gradients):
    """A ring all-reduce, step by step: the sums of all processes, and the bytes that the first one sent."""
    n, sent = len(gradients), 0
    parts = [[part.copy() for part in np.split(gradient, n)] for gradient in gradients]
    for gathering in (False, True):
        for step in range(n - 1):
            moving = [(p, (p + gathering - step) % n) for p in range(n)]
            values = [parts[p][part].copy() for p, part in moving]
            for (p, part), value in zip(moving, values, strict=True):
                after = (p + 1) % n
                parts[after][part] = value if gathering else parts[after][part] + value
                sent += value.nbytes if p == 0 else 0
    return [np.concatenate(process) for process in parts], sent


@pytest.mark.parametrize("processes", [2, 3, 8])
def test_bytes_are_those_that_a_ring_sends(processes):
    gradients = list(np.random.default_rng(0).normal(size=(processes, 24 * processes)).astype(np.float32))
    sums, sent = ring(gradients)
    for found in sums:
        np.testing.assert_allclose(found, np.sum(gradients, 0), rtol=1e-4, atol=1e-5)
    assert scaling.all_reduce_bytes(processes, 24 * processes) == sent


def test_efficiency_falls_with_the_bytes():
    assert scaling.all_reduce_bytes(1, 1000) == 0 and scaling.efficiency(0.1, 1, 1000, 1.0) == 1
    assert scaling.efficiency(0.1, 2, 25_000, 1e6) == pytest.approx(0.5)


@pytest.mark.slow
def test_the_program():
    done = subprocess.run(
        [sys.executable, "-m", "training.scaling", "--steps=3", "--rounds=1"],
        cwd=runs.ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "| 1 | " in done.stdout and "| 2 | " in done.stdout
    assert "| MobileNetV2 1.0, 1,000 classes | 3,504,872 | 14.0 | 24.5 |" in done.stdout
