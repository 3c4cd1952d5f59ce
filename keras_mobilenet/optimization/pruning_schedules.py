"""tensorflow-model-optimization's pruning schedules, and how a Keras file holds them.

`PolynomialDecay` and `ConstantSparsity` are its classes; they load when they are first asked for, since a model that is
only loaded, evaluated or exported has no need of tfmot.
"""

import functools
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_mobilenet.optimization import tfmot

_TFMOTS = ("PolynomialDecay", "ConstantSparsity")


def __getattr__(name: str) -> Any:
    if name not in _TFMOTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(tfmot.load().sparsity.keras, name)


class Schedule:
    """A schedule as a Keras file holds it; it becomes tfmot's object when a training step is built.

    Args:
        config: What tfmot's `get_config` returns: `{"class_name": ..., "config": {...}}`.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = dict(config)

    @classmethod
    def of(cls, schedule: Any) -> "Schedule":
        """Takes a schedule of tfmot, or a registered subclass of its PruningSchedule.

        Raises:
            TypeError: It is none.
            ValueError: It can't be saved, or its end is not behind its begin.
        """
        base = tfmot.load().sparsity.keras.PruningSchedule
        if not isinstance(schedule, base):
            raise TypeError(
                f"`schedule={schedule!r}` is not a pruning schedule: pass km.PolynomialDecay(0.0, 0.5, begin_step=0, "
                "end_step=1000), km.ConstantSparsity(0.5, begin_step=0), or another PruningSchedule of tfmot."
            )
        _check(schedule)
        name = type(schedule).__name__
        if type(schedule).__module__ != base.__module__:
            name = keras.saving.get_registered_name(type(schedule))
            if keras.saving.get_registered_object(name) is None:
                raise ValueError(
                    f"`schedule` is a {name}, which a saved model could not be loaded with: decorate the class with "
                    "@keras.saving.register_keras_serializable()."
                )
        config = schedule.get_config()
        values = dict(config.get("config", config))
        for key, value in values.items():
            if isinstance(value, np.generic):  # a file holds Python's numbers only
                values[key] = value.item()
        return cls({"class_name": name, "config": values})

    @property
    def begin_step(self) -> int:
        """The first step of pruning."""
        return int(self.config["config"].get("begin_step", 0))

    @property
    def final_sparsity(self) -> float:
        """The sparsity that it ends with."""
        return float(self(tf.constant(tf.int64.max))[1])

    def __call__(self, step: Any) -> tuple[Any, Any]:
        """Whether masks change at a step (bool scalar), and the sparsity that they then have (float32 scalar)."""
        return self._schedule(step)

    @functools.cached_property
    def _schedule(self) -> Any:
        name = self.config["class_name"]
        module = tfmot.load().sparsity.keras
        kind = getattr(module, name) if name in _TFMOTS else keras.saving.get_registered_object(name)
        return kind.from_config(dict(self.config["config"]))


def _check(schedule: Any) -> None:
    """Refuses what tfmot's constructors let pass, or what was changed after them."""
    begin, end = getattr(schedule, "begin_step", 0), getattr(schedule, "end_step", -1)
    ramps = hasattr(schedule, "final_sparsity")
    if end >= 0 and (end < begin or (ramps and end == begin)):
        raise ValueError(
            f"`schedule` begins at step {begin} and ends at step {end}: the end has to come after the begin"
            + (", as the sparsity rises in between; use km.ConstantSparsity to prune at once." if ramps else ".")
        )
    for name in ("initial_sparsity", "final_sparsity", "target_sparsity"):
        value = getattr(schedule, name, 0.0)
        if not 0 <= value < 1:
            raise ValueError(f"`schedule` has {name}={value}, which is no share of the weights: use 0 to below 1.")
