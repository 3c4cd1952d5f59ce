"""A worker that loses another one starts itself again and waits for it.

TensorFlow's collectives cannot go on once a worker is gone, nor take in the one that comes back: every worker has to
start anew. The others find the lost one's place in the last checkpoint.
"""

import json
import os
import sys
import time
from pathlib import Path

import tensorflow as tf
from absl import logging

LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
    tf.errors.InternalError,
    tf.errors.UnknownError,
)
"""What a collective operation, or joining the cluster, ends with when another worker is gone or not yet back."""

ATTEMPTS = 20
SECONDS = 2.0  # between two attempts
_VARIABLE = "KERAS_MOBILENET_TRAINING_STARTS"


def start_again(output_dir: Path, error: tf.errors.OpError) -> None:
    """Replaces this process by a new one with the same command; returns where that was of no use too often.

    Args:
        output_dir: Of the run; the attempts are counted anew as soon as a newer checkpoint lies there.
        error: What this process failed with.
    """
    attempts, progress = json.loads(os.environ.get(_VARIABLE, '[0, ""]'))
    if progress != _progress(output_dir):
        attempts = 0
    if attempts >= ATTEMPTS:
        logging.error("Started %d times without a new checkpoint.", ATTEMPTS)
        return
    os.environ[_VARIABLE] = json.dumps([attempts + 1, _progress(output_dir)])
    reason = (error.message or type(error).__name__).strip().splitlines()[0]
    logging.warning("Lost another worker (%s); starting again from the last checkpoint.", reason)
    time.sleep(SECONDS)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _progress(output_dir: Path) -> str:
    """Changes whenever a checkpoint or a stage's model is written."""
    files = sorted([*output_dir.glob("*/checkpoints/checkpoint"), *output_dir.glob("*/model.keras")])
    return " ".join(f"{path.parent.name}:{path.stat().st_mtime_ns}" for path in files)
