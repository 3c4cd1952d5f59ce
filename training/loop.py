"""The training loop, one for all stages, tasks and strategies.

Keras's `fit` fails under MultiWorkerMirroredStrategy, and goes on from an epoch, not from a step; so the step is our
own: a `tf.function` under `strategy.run`.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from training.checkpoints import Checkpoints
from training.history import History
from training.losses import Count, Loss
from training.metrics import Evaluate
from training.progress import Progress

Batches = Callable[[int], tf.data.Dataset]  # first step -> per-replica batches from there on


@dataclass(frozen=True)
class Plan:
    """How long a stage trains, and how often it looks up.

    Args:
        epochs: Number of epochs.
        steps_per_epoch: Steps in each.
        batch_size: Pictures in a step, over all replicas.
        checkpoint_seconds: Seconds between two checkpoints; an epoch's end is always kept.
        early_stop: Epochs without a better `metric` in validation before training stops; 0 for never.
        metric: The figure that early stopping looks at.
        evaluate_every: Epochs from one evaluation to the next; the last epoch is evaluated in any case.
    """

    epochs: int
    steps_per_epoch: int
    batch_size: int
    checkpoint_seconds: float = 60.0
    early_stop: int = 0
    metric: str = "accuracy"
    evaluate_every: int = 1


class Trainer:
    """Trains a Keras model step by step.

    Args:
        model: Built under `strategy`; puts out logits, or whatever `loss` takes.
        optimizer: Built under `strategy`.
        loss: Loss of each picture.
        strategy: Devices; by default this process's one.
        counts: What is summed up beside the loss, by name.

    Attributes:
        figures: Names of what is summed up: `loss`, then those of `counts`.
        step: `step(images, labels)` on a global batch: float32 [figures], the sums over its pictures.
    """

    def __init__(
        self,
        model: keras.Model,
        optimizer: keras.Optimizer,
        loss: Loss,
        strategy: tf.distribute.Strategy | None = None,
        counts: Mapping[str, Count] | None = None,
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.strategy = strategy or tf.distribute.get_strategy()
        self._loss = loss
        self._counts = dict(counts or {})
        self.figures = ("loss", *self._counts)
        # Nothing here branches on a tensor in Python: without AutoGraph the graph is built sooner.
        self.step = tf.function(self._step, autograph=False)
        # One graph for every batch size: the last batch of an evaluation is smaller than the others.
        signature = [tf.TensorSpec(x.shape, x.dtype) for x in model.inputs]
        self._predict = tf.function(self._call, input_signature=signature, autograph=False)
        self._predict_each = tf.function(lambda parts: self.strategy.run(self._call, args=(parts,)), autograph=False)
        self._statistics = tf.function(lambda: self.strategy.run(self._replica_statistics), autograph=False)
        self._local_replicas = 1
        if self.strategy.num_replicas_in_sync > 1:
            each = tf.function(lambda: self.strategy.run(lambda: tf.zeros(())))()
            self._local_replicas = len(self.strategy.experimental_local_results(each))

    def _call(self, images: tf.Tensor) -> Any:
        return self.model(images, training=False)

    def predict(self, images: tf.Tensor) -> Any:
        """The model's outputs for this process's images, computed on all its devices."""
        count = self._local_replicas
        if count == 1:
            return self._predict(images)
        parts = [images[replica::count] for replica in range(count)]
        shared = self.strategy.experimental_distribute_values_from_function(
            lambda context: parts[context.replica_id_in_sync_group % count]
        )
        place = tf.argsort(tf.concat([tf.range(replica, len(images), count) for replica in range(count)], 0))

        def together(outputs: Any) -> tf.Tensor:
            return tf.gather(tf.concat(self.strategy.experimental_local_results(outputs), 0), place)

        return tf.nest.map_structure(together, self._predict_each(shared))

    def _step(self, images: Any, labels: Any) -> tf.Tensor:
        sums = self.strategy.run(self._replica_step, args=(images, labels))
        return self.strategy.reduce(tf.distribute.ReduceOp.SUM, sums, axis=None)

    def _replica_step(self, images: tf.Tensor, labels: Any) -> tf.Tensor:
        replicas = self.strategy.num_replicas_in_sync
        with tf.GradientTape() as tape:
            outputs = self.model(images, training=True)
            losses = self._loss(images, labels, outputs)
            # The optimizer adds up the replicas' gradients.
            mean = tf.reduce_mean(losses) / replicas
            for regularization in self.model.losses:
                mean += tf.cast(regularization, mean.dtype) / replicas
            scaled = self.optimizer.scale_loss(mean)
        variables = self.model.trainable_variables
        self.optimizer.apply(tape.gradient(scaled, variables), variables)
        return tf.stack([tf.reduce_sum(losses), *(count(labels, outputs) for count in self._counts.values())])

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
        first_step: int | None = None,
    ) -> None:
        """Trains to the end of the plan, from the newest checkpoint on.

        Args:
            batches: Gives the training batches from a step on.
            plan: Epochs and steps.
            checkpoints: Where the state is kept.
            history: Where each epoch's figures are kept.
            evaluate: Run after epochs, as the plan says, on the weights that would be kept.
            label: Name of the stage, before the progress bar.
            quiet: No progress bar.
            first_step: Which checkpoint to go on from, where several processes have to agree on one.
        """
        done, sums, before = checkpoints.restore(first_step)
        history.cut(done // plan.steps_per_epoch)
        epochs = range(done // plan.steps_per_epoch, plan.epochs)
        data = iter(batches(done)) if epochs else iter(())
        started = time.monotonic() - before
        for epoch in epochs:
            if plan.early_stop and history.epochs_without_gain(plan.metric) >= plan.early_stop:
                break
            name = f"{label} {epoch + 1}/{plan.epochs}".lstrip()
            sums = self._epoch(data, plan, checkpoints, done, sums, started, name, quiet)
            done = (epoch + 1) * plan.steps_per_epoch
            row = {"epoch": epoch + 1, "step": done} | self._means(sums, plan.steps_per_epoch * plan.batch_size)
            row["learning_rate"] = float(self.optimizer.learning_rate)
            self.synchronize()
            if evaluate is not None and ((epoch + 1) % plan.evaluate_every == 0 or epoch + 1 == plan.epochs):
                with self.averaged():
                    row |= evaluate(self.predict)
            row["seconds"] = time.monotonic() - started
            history.add(row)
            sums = np.zeros_like(sums)
            # Only now: a run that goes on from here has this epoch's row.
            checkpoints.save(done, sums, row["seconds"])

    def _epoch(
        self,
        data: Iterator[tuple[Any, Any]],
        plan: Plan,
        checkpoints: Checkpoints,
        done: int,
        sums: np.ndarray,
        started: float,
        label: str,
        quiet: bool,
    ) -> np.ndarray:
        """The steps from `done` to the end of its epoch; gives the sums over the whole epoch."""
        first = done % plan.steps_per_epoch
        saved = time.monotonic()
        total = tf.constant(sums)
        with Progress(label, plan.steps_per_epoch, plan.batch_size, first, quiet) as bar:
            for position in range(first + 1, plan.steps_per_epoch + 1):
                total += self.step(*next(data))
                bar.step(lambda total=total, pictures=position * plan.batch_size: self._means(total.numpy(), pictures))
                late = time.monotonic() - saved > plan.checkpoint_seconds
                if late and position < plan.steps_per_epoch:
                    checkpoints.save(done - first + position, total, time.monotonic() - started)
                    saved = time.monotonic()
            bar.close(self._means(total.numpy(), plan.steps_per_epoch * plan.batch_size))
        return total.numpy()

    def synchronize(self) -> None:
        """Gives all replicas the mean of their statistics.

        Keras leaves the moving statistics of batch norm to each replica, which sees only its own pictures.
        """
        if self.strategy.num_replicas_in_sync == 1:
            return
        variables = self._statistics_variables
        means = self.strategy.reduce(tf.distribute.ReduceOp.MEAN, self._statistics(), axis=None)
        parts = tf.split(means, [variable.shape.num_elements() for variable in variables])
        for variable, part in zip(variables, parts, strict=True):
            variable.assign(tf.cast(tf.reshape(part, variable.shape), variable.dtype))

    @property
    def _statistics_variables(self) -> list[tf.Variable]:
        return [v.value for v in self.model.non_trainable_variables if v.value.dtype.is_floating]

    def _replica_statistics(self) -> tf.Tensor:
        return tf.concat([tf.reshape(tf.cast(v, tf.float32), [-1]) for v in self._statistics_variables], 0)

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """The model holds its weights' moving average meanwhile, where the optimizer keeps one."""
        if not self._average_of.use_ema:
            yield
            return
        kept = [variable.numpy() for variable in self.model.trainable_variables]
        self.take_average()
        try:
            yield
        finally:
            for variable, value in zip(self.model.trainable_variables, kept, strict=True):
                variable.assign(value)

    def take_average(self) -> None:
        """Puts the moving average in the place of the weights, where the optimizer keeps one."""
        if not self._average_of.use_ema:
            return
        self._average_of.finalize_variable_values(self.model.trainable_variables)
        for variable in self.model.trainable_variables:
            if variable.constraint is not None:  # pruned weights stay pruned in the average
                variable.assign(variable.constraint(variable))

    @property
    def _average_of(self) -> keras.Optimizer:
        """The optimizer that keeps the average: the one inside a LossScaleOptimizer."""
        return getattr(self.optimizer, "inner_optimizer", self.optimizer)

    def _means(self, sums: np.ndarray, pictures: int) -> dict[str, float]:
        return {name: float(value) / pictures for name, value in zip(self.figures, sums, strict=True)}
