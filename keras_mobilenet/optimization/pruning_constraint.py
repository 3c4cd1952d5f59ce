"""The constraint that prunes a kernel while it is trained.

A Keras optimizer applies a variable's constraint at the end of each of its steps, whatever drives the step. The
constraint here is at the same time a Keras layer, so that the layer whose kernel it holds tracks its mask and its count
of steps as weights: they are saved, loaded, copied and checkpointed with the model, which stays made of Keras's own
layers. Multiplying by a mask in each call instead would cost a pass over every kernel forward and backward, would need
layers of our own, and would leave stale weights under the mask.
"""

import functools
import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf
from keras.src.backend.common import global_state

from keras_mobilenet.optimization import masks
from keras_mobilenet.optimization.pruning_schedules import Schedule

CONFIG_KEYS = ("kernel_constraint", "depthwise_constraint", "pointwise_constraint")


@keras.saving.register_keras_serializable(package="keras_mobilenet")
class PruningConstraint(keras.constraints.Constraint, keras.layers.Layer):
    """Holds the pruned weights of a kernel at zero, and prunes more of them when the schedule says so.

    Steps are counted as tfmot counts them: step 1 is the first forward pass. A mask that is due at step n is taken from
    the weights as step n finds them, at the end of step n - 1. A pruned weight never comes back: unlike in tfmot, it
    does not compete with what the last update made of it.

    Args:
        shape: Shape of the kernel.
        schedule: When to prune how much, as tfmot's `get_config` returns it; None keeps the mask as it is.
        block_size: (rows, columns) of the blocks that are pruned as one.
        block_pooling: "AVG" or "MAX".
        sparsity_m_by_n: (m, n), or None. The mask is then made once, at the schedule's begin.
        sparsity_factor: What the schedule's sparsity is multiplied by for this kernel.
        constraint: Another constraint on the same kernel, applied first.
        **kwargs: Those of `keras.layers.Layer`.
    """

    def __init__(
        self,
        shape: Sequence[int],
        schedule: dict[str, Any] | None = None,
        block_size: Sequence[int] = (1, 1),
        block_pooling: str = "AVG",
        sparsity_m_by_n: Sequence[int] | None = None,
        sparsity_factor: float = 1.0,
        constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.shape = tuple(shape)
        self.schedule_json = json.dumps(schedule) if schedule is not None else None
        self.block_size = tuple(block_size)
        self.block_pooling = block_pooling
        self.sparsity_m_by_n = tuple(sparsity_m_by_n) if sparsity_m_by_n is not None else None
        self.sparsity_factor = sparsity_factor
        self.constraint = keras.constraints.get(constraint)
        # Every replica computes the same mask from the same kernel; there is nothing to aggregate.
        options: dict[str, Any] = {"trainable": False, "aggregation": "none", "autocast": False}
        self.mask = self.add_weight(shape=self.shape, initializer="ones", dtype="bool", name="mask", **options)
        self.step = self.add_weight(shape=(), initializer="ones", dtype="int64", name="step", **options)
        self.built = True

    def start(self, kernel: keras.Variable) -> None:
        """Prunes what is due before the first update.

        tfmot's first look at the schedule is at step 1; here step 0 counts too, so that pruning begins at the
        `begin_step` of 0 that a schedule states, and not `frequency` steps later.
        """
        for step in (0, 1):
            self.mask.assign(self._next_mask(kernel, tf.constant(step, tf.int64)))
        kernel.assign(_masked(kernel, self.mask))

    def __call__(self, w: Any) -> Any:
        """Projects a kernel onto the mask; within an optimizer's step, counts the step and moves the mask on.

        Args:
            w: The kernel, a variable or a tensor.

        Returns:
            The kernel with exact zeros where it is pruned.
        """
        kernel = tf.convert_to_tensor(w)
        if self.constraint is not None:
            kernel = self.constraint(kernel)
        optimizer = _running_optimizer()
        if optimizer is None or self.schedule_json is None:
            mask = tf.convert_to_tensor(self.mask)
        else:
            mask = self._moved_on(kernel)
        if optimizer is not None and optimizer.use_ema:
            average = _moving_average(optimizer, w)
            average.assign(_masked(average, mask))
        return _masked(kernel, mask)

    def _moved_on(self, kernel: Any) -> Any:
        step = tf.convert_to_tensor(self.step) + 1
        self.step.assign(step)
        mask = self._next_mask(kernel, step)
        self.mask.assign(mask)
        return mask

    def _next_mask(self, kernel: Any, step: Any) -> Any:
        pattern = (self.block_size, self.block_pooling, self.sparsity_m_by_n)
        unstructured = pattern[0] == (1, 1) and pattern[2] is None
        shape = (math.prod(self.shape),) if unstructured else self.shape
        kernel, mask = tf.convert_to_tensor(kernel), tf.convert_to_tensor(self.mask)
        signature = ((None,) if unstructured else shape, kernel.dtype)
        function = _mask_function(self.schedule_json, *pattern, *signature)
        factor = tf.constant(self.sparsity_factor, tf.float32)
        return tf.reshape(function(tf.reshape(kernel, shape), tf.reshape(mask, shape), step, factor), self.shape)

    def get_config(self) -> dict[str, Any]:  # noqa: D102
        return {
            "name": self.name,
            "shape": list(self.shape),
            "schedule": json.loads(self.schedule_json) if self.schedule_json is not None else None,
            "block_size": list(self.block_size),
            "block_pooling": self.block_pooling,
            "sparsity_m_by_n": list(self.sparsity_m_by_n) if self.sparsity_m_by_n is not None else None,
            "sparsity_factor": self.sparsity_factor,
            "constraint": keras.constraints.serialize(self.constraint) if self.constraint is not None else None,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "PruningConstraint":  # noqa: D102
        return cls(**config)


@functools.cache
def _mask_function(
    schedule_json: str,
    block_size: tuple[int, int],
    block_pooling: str,
    m_by_n: tuple[int, int] | None,
    shape: tuple[int | None, ...],
    dtype: Any,
) -> Callable[[Any, Any, Any, Any], Any]:
    """The function (kernel, mask, step, factor on the schedule's sparsity) -> mask at that step.

    All kernels that are pruned alike share it, and it is kept out of the graph that calls it: with a branch for each
    kernel in the graph of a training step, the first step took three times as long.
    """
    schedule = Schedule(json.loads(schedule_json))

    def is_due(step: Any) -> Any:
        return tf.equal(step, schedule.begin_step) if m_by_n is not None else schedule(step)[0]

    def next_mask(kernel: Any, mask: Any, step: Any, factor: Any) -> Any:
        def update() -> Any:
            kept = _masked(kernel, mask)
            if m_by_n is not None:
                return masks.m_by_n_mask(kept, m_by_n) & mask
            return masks.magnitude_mask(kept, factor * schedule(step)[1], block_size, block_pooling) & mask

        return tf.cond(is_due(step), update, lambda: mask)

    signature = [tf.TensorSpec(shape, dtype), tf.TensorSpec(shape, tf.bool), tf.TensorSpec([], tf.int64)]
    signature.append(tf.TensorSpec([], tf.float32))
    return tf.function(
        next_mask, input_signature=signature, autograph=False, experimental_attributes={"_noinline": True}
    )


def frozen(config: dict[str, Any]) -> dict[str, Any]:
    """A layer's configuration whose pruning masks stay as they are from now on."""
    return _changed(config, lambda constraint: constraint | {"config": constraint["config"] | {"schedule": None}})


def stripped(config: dict[str, Any]) -> dict[str, Any]:
    """A layer's configuration without pruning; the layer made from it has no masks among its weights."""
    return _changed(config, lambda constraint: constraint["config"]["constraint"])


def _changed(config: dict[str, Any], change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    found = {key: config[key] for key in CONFIG_KEYS if isinstance(config.get(key), dict)}
    ours = {key: value for key, value in found.items() if value["class_name"] == PruningConstraint.__name__}
    return config | {key: change(value) for key, value in ours.items()}


def _masked(kernel: Any, mask: Any) -> Any:
    kernel = tf.convert_to_tensor(kernel)
    return tf.where(tf.convert_to_tensor(mask), kernel, tf.zeros_like(kernel))


def _running_optimizer() -> Any:
    """The Keras optimizer within whose step this is called, or None."""
    # Keras hands a constraint the variable alone. An optimizer applies it within a name scope that it opens as caller.
    scopes = global_state.get_global_attribute("name_scope_stack") or []
    caller = scopes[-1].caller if scopes else None
    return caller if isinstance(caller, keras.Optimizer) else None


def _moving_average(optimizer: Any, variable: keras.Variable) -> keras.Variable:
    # Keras averages a weight before it is constrained, and `fit` ends by putting the averages in the weights' place:
    # what is pruned has to be zero in both.
    return optimizer._model_variables_moving_average[optimizer._get_variable_index(variable)]
