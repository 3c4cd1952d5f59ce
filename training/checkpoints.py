"""Checkpoints of a stage: everything that the next step depends on."""

from pathlib import Path

import keras
import tensorflow as tf


class Checkpoints:
    """Saves and restores a model, its optimizer and the number of steps done.

    TensorFlow's CheckpointManager names a checkpoint only when all of it is written, so that a process may be killed at
    any moment.

    Args:
        folder: Where the checkpoints of this stage lie.
        model: All its variables are kept: weights, masks, ranges, seeds of dropout.
        optimizer: A built optimizer.
        chief: Whether this process is the one whose files count; the others of a cluster have to save too, since some
            variables are read across processes, but their files go to a folder of their own.
    """

    def __init__(self, folder: Path, model: keras.Model, optimizer: keras.Optimizer, chief: bool = True) -> None:
        self.step = tf.Variable(0, dtype=tf.int64, trainable=False)
        variables = [*model.variables, *optimizer.variables]
        kept = tf.train.Checkpoint(step=self.step, variables=[variable.value for variable in variables])
        self._manager = tf.train.CheckpointManager(kept, str(folder), max_to_keep=2)
        self._writer = self._manager
        if not chief:
            self._writer = tf.train.CheckpointManager(kept, str(folder / "workers"), max_to_keep=1)

    def restore(self) -> int:
        """Restores the newest checkpoint.

        Returns:
            The number of steps done; 0 where there is no checkpoint.

        Raises:
            ValueError: The checkpoint is of another model or optimizer.
        """
        newest = self._manager.latest_checkpoint
        if newest is None:
            return 0
        try:
            self._manager.checkpoint.restore(newest).assert_existing_objects_matched()
        except (AssertionError, ValueError, tf.errors.OpError) as error:
            raise ValueError(
                f"The checkpoint {newest} is of another model or optimizer than the flags ask for: give the flags of "
                "the run that wrote it, or another --output_dir."
            ) from error
        return int(self.step.numpy())

    def save(self, step: int) -> None:
        """Saves the state after `step` steps."""
        self.step.assign(step)
        self._writer.save(checkpoint_number=step)
