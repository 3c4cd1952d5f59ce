import json
import subprocess
import sys

import pytest

from tests.training import runs


@pytest.mark.slow
def test_two_devices_that_share_a_batch_train_as_one():
    """Batch norm stands still, so that only the order of sums differs."""
    kinds = ("float", "prune", "quantize")
    process = subprocess.run(
        [sys.executable, "-m", "tests.training.replicas", *kinds], cwd=runs.ROOT, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr[-3000:]
    found = json.loads(process.stdout)
    assert found.pop("statistics") == 0
    assert found.keys() == set(kinds)
    for kind, difference in found.items():
        assert difference["weights"] < 1e-5, kind
        assert difference["outputs"] < (0.05 if kind == "quantize" else 1e-3), kind  # a step of the grid, at times
