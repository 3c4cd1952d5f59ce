"""The training loop, one for all stages, tasks and strategies.

Keras's `fit` fails under MultiWorkerMirroredStrategy, and goes on from an epoch, not from a step; so the step is our
own: a `tf.function` under `strategy.run`.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from training.checkpoints import Checkpoints
from training.history import History
from training.losses import Loss
from training.metrics import Predict
from training.progress import Progress

Batches = Callable[[int], tf.data.Dataset]  # first step -> per-replica batches from there on
Evaluate = Callable[[Predict], dict[str, float]]


@dataclass(frozen=True)
class Plan:
    """How long a stage trains, and how often it looks up.

    Args:
        epochs: Number of epochs.
        steps_per_epoch: Steps in each.
        batch_size: Pictures in a step, over all replicas.
        checkpoint_seconds: Seconds between two checkpoints; an epoch's end is always kept.
        early_stop: Epochs without a better `accuracy` in validation before training stops; 0 for never.
    """

    epochs: int
    steps_per_epoch: int
    batch_size: int
    checkpoint_seconds: float = 60.0
    early_stop: int = 0


class Trainer:
    """Trains a Keras model step by step.

    Args:
        model: Built under `strategy`; puts out logits, or whatever `loss` takes.
        optimizer: Built under `strategy`.
        loss: Loss of each picture.
        strategy: Devices; by default this process's one.
    """

    def __init__(
        self,
        model: keras.Model,
        optimizer: keras.Optimizer,
        loss: Loss,
        strategy: tf.distribute.Strategy | None = None,
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.strategy = strategy or tf.distribute.get_strategy()
        self._loss = loss
        self.step = tf.function(self._step)
        self.predict = tf.function(lambda images: model(images, training=False), reduce_retracing=True)

    def _step(self, images: Any, labels: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """One step on a global batch: the sums of its losses and of its hits."""
        losses, hits = self.strategy.run(self._replica_step, args=(images, labels))
        total = tf.distribute.ReduceOp.SUM
        return self.strategy.reduce(total, losses, axis=None), self.strategy.reduce(total, hits, axis=None)

    def _replica_step(self, images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        pictures = tf.shape(images)[0] * self.strategy.num_replicas_in_sync
        with tf.GradientTape() as tape:
            logits = self.model(images, training=True)
            losses = self._loss(images, labels, logits)
            mean = tf.reduce_sum(losses) / tf.cast(pictures, losses.dtype) + sum(self.model.losses)
            scaled = self.optimizer.scale_loss(mean)
        variables = self.model.trainable_variables
        self.optimizer.apply(tape.gradient(scaled, variables), variables)
        return tf.reduce_sum(losses), _hits(labels, logits)

    def train(
        self,
        batches: Batches,
        plan: Plan,
        *,
        checkpoints: Checkpoints,
        history: History,
        evaluate: Evaluate | None = None,
        label: str = "",
        quiet: bool = False,
    ) -> None:
        """Trains to the end of the plan, from the newest checkpoint on.

        Args:
            batches: Gives the training batches from a step on.
            plan: Epochs and steps.
            checkpoints: Where the state is kept.
            history: Where each epoch's figures are kept.
            evaluate: Run after every epoch on the weights that would be kept.
            label: Name of the stage, before the progress bar.
            quiet: No progress bar.
        """
        done = checkpoints.restore()
        history.cut(done // plan.steps_per_epoch)
        data = iter(batches(done))
        saved = time.monotonic()
        for epoch in range(done // plan.steps_per_epoch, plan.epochs):
            if plan.early_stop and history.epochs_without_gain("accuracy") >= plan.early_stop:
                break
            first = done - epoch * plan.steps_per_epoch
            sums = np.zeros(2)
            with Progress(
                f"{label} {epoch + 1}/{plan.epochs}", plan.steps_per_epoch, plan.batch_size, first, quiet
            ) as bar:
                for _ in range(first, plan.steps_per_epoch):
                    sums += [float(value) for value in self.step(*next(data))]
                    done += 1
                    seen = (done - epoch * plan.steps_per_epoch - first) * plan.batch_size
                    bar.step(loss=sums[0] / seen, accuracy=sums[1] / seen)
                    if time.monotonic() - saved > plan.checkpoint_seconds:
                        checkpoints.save(done)
                        saved = time.monotonic()
            row = {"epoch": epoch + 1, "step": done, "loss": sums[0] / seen, "training_accuracy": sums[1] / seen}
            row["learning_rate"] = float(self.optimizer.learning_rate)
            if evaluate is not None:
                with self.averaged():
                    row |= evaluate(self.predict)
            history.add(row)
            checkpoints.save(done)
            saved = time.monotonic()

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """The model holds its weights' moving average meanwhile, where the optimizer keeps one."""
        kept = [variable.numpy() for variable in self.model.trainable_variables]
        self.take_average()
        try:
            yield
        finally:
            for variable, value in zip(self.model.trainable_variables, kept, strict=True):
                variable.assign(value)

    def take_average(self) -> None:
        """Puts the moving average in the place of the weights, where the optimizer keeps one."""
        optimizer = getattr(self.optimizer, "inner_optimizer", self.optimizer)
        if not optimizer.use_ema:
            return
        optimizer.finalize_variable_values(self.model.trainable_variables)
        for variable in self.model.trainable_variables:
            if variable.constraint is not None:  # pruned weights stay pruned in the average
                variable.assign(variable.constraint(variable))


def _hits(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    target = labels if labels.shape.rank == 1 else tf.argmax(labels, axis=-1)
    return tf.reduce_sum(tf.cast(tf.argmax(logits, axis=-1) == tf.cast(target, tf.int64), tf.float32))
