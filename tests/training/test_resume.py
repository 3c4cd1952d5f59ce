"""A run that is killed and started again ends where an unbroken one does."""

import random
import time

import numpy as np
import pytest

from tests.training import runs
from training import history

pytestmark = pytest.mark.slow

STAGES = ("float", "prune", "quantize")
# Everything that a step can depend on: order and changes of pictures, dropout, momentum, averages, masks, ranges.
FLAGS = (
    *runs.TINY,
    f"--stages={','.join(STAGES)}",
    "--dropout=0.3",
    "--reflect=2",
    "--mixup=0.2",
    "--ema=0.9",
    "--checkpoint_seconds=0",
)
KILLS = 5


def test_killed_run_ends_with_the_weights_of_an_unbroken_one(tmp_path):
    unbroken, killed = tmp_path / "unbroken", tmp_path / "killed"
    runs.finish(runs.start(unbroken, *FLAGS), unbroken)
    chance = random.Random(0)
    kills = 0
    for _ in range(KILLS):
        process = runs.start(killed, *FLAGS)
        if runs.wait_for_progress(process, killed, chance.randint(1, 8)):
            time.sleep(chance.uniform(0, 0.3))
            process.kill()
            kills += 1
        process.wait()
    assert kills >= 3
    runs.finish(runs.start(killed, *FLAGS), killed)

    for stage in STAGES:
        expected, found = runs.weights(unbroken, stage), runs.weights(killed, stage)
        assert expected.keys() == found.keys()
        different = [name for name, value in expected.items() if not np.array_equal(value, found[name])]
        assert not different, f"{stage}: {different}"
        for row, other in zip(history.read(unbroken / stage), history.read(killed / stage), strict=True):
            assert {**row, "seconds": 0} == {**other, "seconds": 0}
    # The comparison means something: training changed the weights, and pruned some away.
    pruned = runs.weights(unbroken, "prune")
    kernel = next(name for name in pruned if name.endswith("block_6_expand/kernel"))
    assert not np.array_equal(runs.weights(unbroken, "float")[kernel], pruned[kernel])
    assert 0.4 < np.mean(pruned[kernel] == 0) < 0.6
