"""Training runs as processes, and what they leave behind."""

import os
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np

ROOT = Path(__file__).parents[2]
SECONDS = 1800  # for one process on a busy machine

# Small enough to run many times: 9 steps in an epoch.
TINY = (
    "--recipe=digits",
    "--image_size=32",
    "--alpha=0.35",
    "--batch_size=128",
    "--warmup_epochs=0",
    "--epochs=2",
    "--prune_epochs=1",
    "--quantize_epochs=1",
)
# Enough to learn something: at 32 pixels the last map is a single one, and 8 bits have nothing to represent.
LEARNS = ("--recipe=digits", "--epochs=6", "--warmup_epochs=1", "--prune_epochs=1", "--quantize_epochs=1")


def start(output_dir: Path, *flags: str, **environment: str) -> subprocess.Popen:
    """Starts `training.train`; its messages go to a file beside the output folder."""
    log = output_dir.with_suffix(".log").open("ab")
    command = [sys.executable, "-m", "training.train", *flags]
    command += [f"--output_dir={output_dir}", f"--export_dir={output_dir}-export"]
    return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, env=os.environ | environment)


def finish(process: subprocess.Popen, output_dir: Path) -> None:
    """Waits for the end of a run, and shows what it wrote where it failed."""
    code = process.wait(timeout=SECONDS)
    assert code == 0, output_dir.with_suffix(".log").read_text()[-5000:]


def checkpoints(output_dir: Path) -> tuple[int, int]:
    """Which stage is the newest one with checkpoints, and the step of its newest one."""
    stages = [output_dir / name / "checkpoints" / "checkpoint" for name in ("float", "prune", "quantize")]
    there = [path for path in stages if path.exists()]
    if not there:
        return 0, 0
    first = there[-1].read_text().splitlines()[0]
    return len(there), int(first.rpartition("-")[2].rstrip('"'))


def wait_for_progress(process: subprocess.Popen, output_dir: Path, count: int) -> bool:
    """Waits until `count` more checkpoints were written; False where the run ended before."""
    seen, deadline = checkpoints(output_dir), time.monotonic() + SECONDS
    while count and process.poll() is None:
        assert time.monotonic() < deadline, output_dir.with_suffix(".log").read_text()[-5000:]
        now = checkpoints(output_dir)
        count -= now != seen
        seen = now
        time.sleep(0.01)
    return count == 0


def weights(output_dir: Path, stage: str) -> dict[str, np.ndarray]:
    """All variables that a stage's model file holds, by path: weights, masks, ranges, counters; not dropout's seeds."""
    from training import network

    keras.backend.clear_session()
    model = network.load(output_dir / stage / "model.keras")
    found = {variable.path: np.asarray(variable) for variable in model.weights}
    assert len(found) == len(model.weights)
    return found
