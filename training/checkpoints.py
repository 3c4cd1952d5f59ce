"""Checkpoints of a stage: everything that the next step depends on."""

import shutil
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf


class Checkpoints:
    """Saves and restores a model, its optimizer, the number of steps done and the sums of the epoch so far.

    TensorFlow's CheckpointManager names a checkpoint only when all of it is written, so that a process may be killed at
    any moment.

    Args:
        folder: Where the checkpoints of this stage lie; all processes of a cluster read them there.
        model: All its variables are kept: weights, masks, ranges, step counters, seeds of dropout.
        optimizer: A built optimizer.
        write: Whether this process writes them; in a cluster only the chief does. Every variable of a Keras model is
            the same on all workers, so none has to take part in another's writing.
        sums: How many figures are summed up over an epoch.
    """

    def __init__(
        self, folder: Path, model: keras.Model, optimizer: keras.Optimizer, write: bool = True, sums: int = 2
    ) -> None:
        self._folder = folder
        self._write = write
        self._step = tf.Variable(0, dtype=tf.int64, trainable=False)
        self._sums = tf.Variable(tf.zeros(sums), trainable=False)
        self._seconds = tf.Variable(0.0, dtype=tf.float64, trainable=False)
        variables = [variable.value for variable in (*model.variables, *optimizer.variables)]
        kept = tf.train.Checkpoint(step=self._step, sums=self._sums, seconds=self._seconds, variables=variables)
        self._manager = tf.train.CheckpointManager(kept, str(folder), max_to_keep=2)

    def newest(self) -> int:
        """The number of steps before the newest checkpoint; 0 where there is none."""
        newest = self._manager.latest_checkpoint
        return int(newest.rpartition("-")[2]) if newest else 0

    def restore(self, step: int | None = None) -> tuple[int, np.ndarray, float]:
        """Restores a checkpoint.

        Args:
            step: Which one; by default the newest. 0 restores nothing.

        Returns:
            The number of steps done, the sums of the epoch so far, and the seconds of training up to here.

        Raises:
            ValueError: The checkpoint is missing, or of another model or optimizer.
        """
        step = self.newest() if step is None else step
        if self._write:
            self._remove_unfinished()
        if not step:
            return 0, np.zeros(self._sums.shape, np.float32), 0.0
        path = self._folder / f"ckpt-{step}"
        try:
            self._manager.checkpoint.restore(str(path)).assert_existing_objects_matched()
        except (AssertionError, ValueError, tf.errors.OpError) as error:
            raise ValueError(
                f"The checkpoint {path} is missing, or of another model or optimizer than the flags ask for: give the "
                "flags of the run that wrote it, or another --output_dir."
            ) from error
        return int(self._step.numpy()), self._sums.numpy(), float(self._seconds.numpy())

    def save(self, step: int, sums: np.ndarray | tf.Tensor, seconds: float) -> None:
        """Saves the state after `step` steps."""
        if not self._write:
            return
        self._step.assign(step)
        self._sums.assign(sums)
        self._seconds.assign(seconds)
        self._manager.save(checkpoint_number=step)

    def _remove_unfinished(self) -> None:
        """Removes what a process that was killed while it wrote left behind."""
        whole = {Path(path).name for path in self._manager.checkpoints}
        for entry in self._folder.glob("ckpt-*"):
            if entry.name.partition(".")[0] not in whole:
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
