"""Activation ranges of a quantization-aware model, measured on pictures."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_mobilenet import graph
from keras_mobilenet.optimization.fake_quant import FakeQuant
from keras_mobilenet.optimization.keras_form import is_quantization_aware, keras_form

_SAMPLE = 4096  # values kept of each activation and batch


class _Observation:
    """What was seen of one activation: the extremes of each batch, and a sample of its values."""

    def __init__(self) -> None:
        self.lows: list[float] = []
        self.highs: list[float] = []
        self.samples: list[np.ndarray] = []

    def add(self, low: Any, high: Any, sample: Any) -> None:
        self.lows.append(float(low))
        self.highs.append(float(high))
        self.samples.append(np.asarray(sample))


def _average(seen: _Observation) -> tuple[float, float]:
    return float(np.mean(seen.lows)), float(np.mean(seen.highs))


def _extremes(seen: _Observation) -> tuple[float, float]:
    return min(seen.lows), max(seen.highs)


def _percentile(seen: _Observation) -> tuple[float, float]:
    low, high = np.percentile(np.concatenate(seen.samples), (0.01, 99.99))
    return float(low), float(high)


def _squared_error(seen: _Observation) -> tuple[float, float]:
    """The range, cut at either end, whose grid is closest to the sample."""
    values = np.concatenate(seen.samples)
    low, high = min(*seen.lows, 0.0), max(*seen.highs, 1e-6)
    cuts = np.linspace(0.3, 1.0, 15)

    def error(limits: tuple[float, float]) -> float:
        step = (limits[1] - limits[0]) / 255
        zero_point = np.round(-limits[0] / step)
        rounded = (np.clip(np.round(values / step) + zero_point, 0, 255) - zero_point) * step
        return float(np.mean((rounded - values) ** 2))

    return min(itertools.product(low * cuts if low else [0.0], high * cuts), key=error)


METHODS: dict[str, Callable[[_Observation], tuple[float, float]]] = {
    "extremes": _extremes,
    "average": _average,
    "percentile": _percentile,
    "squared_error": _squared_error,
}


def calibrate(
    model: keras.Model, data: Any, *, method: str = "extremes", batch_size: int = 32, steps: int | None = None
) -> keras.Model:
    """Sets the activation ranges of a quantization-aware model from what its float model computes on pictures.

    The first evaluation is then close to the float model's. Kernels need none: their range is always their own. A few
    hundred pictures of the training set do.

    Args:
        model: Model of `km.quantize_aware`; its ranges are set in place.
        data: Pictures as the model takes them in training: an array [N, H, W, C] (a dict of arrays for several named
            inputs), a `tf.data.Dataset`, or an iterable of batches. Labels beside them, in a tuple, are left out.
        method: How a range follows from the values: "extremes", the smallest and largest of all, with which a tuned
            MobileNetV2 lost the least; "average", the mean over batches of their smallest and largest value, where
            training takes it; "percentile", 0.01 and 99.99 %; "squared_error", the range that rounds with the smallest
            error. The last two are for weights with far outliers.
        batch_size: Pictures to a batch where `data` is an array.
        steps: Batches to use; None for all.

    Returns:
        `model`.

    Raises:
        ValueError: `model` is not quantization-aware, or `data` is empty, endless, or gives values that are not finite.

    Example:
    ```python
    km.calibrate(aware, train_images[:512])
    ```
    """
    if method not in METHODS:
        raise ValueError(f"`method={method!r}` is not one of {', '.join(METHODS)}.")
    flat = graph.functional(model)
    if not is_quantization_aware(flat):
        raise ValueError(f"`{model.name}` has no ranges to set: pass the model that km.quantize_aware returns.")
    ranges, observe = _observer(flat)
    seen: dict[int, _Observation] = {id(trained): _Observation() for trained, _ in ranges}
    for batch in itertools.islice(_batches(data, batch_size, steps), steps):
        for (trained, name), values in zip(ranges, observe(batch), strict=True):
            if not np.all(np.isfinite(values[:2])):
                raise ValueError(
                    f"`{name}` puts out values that are not finite: check the weights, and the pictures, which should "
                    "be as in training."
                )
            seen[id(trained)].add(*values)
    for trained, _ in ranges:
        if not seen[id(trained)].lows:
            raise ValueError("`data` holds no batch: pass a few hundred pictures, as the model takes them in training.")
        low, high = METHODS[method](seen[id(trained)])
        trained.low.assign(min(low, 0.0))
        trained.high.assign(max(high, 0.0))
    return model


def _observer(model: keras.Model) -> tuple[list[tuple[FakeQuant, str]], Callable[[Any], list[tuple[Any, Any, Any]]]]:
    """The ranges of a model with their layers' names, and a function batch -> (smallest, largest, sample) of each."""
    ranges: list[tuple[FakeQuant, str]] = []
    tensors: list[Any] = []

    def quantized(trained: FakeQuant, name: str, x: Any) -> Any:
        ranges.append((trained, name))
        tensors.append(x)
        return x

    unrounded = keras_form(model, quantized, round_kernels=False)
    probe = keras.Model(unrounded.input, tensors)

    @tf.function(reduce_retracing=True)
    def observe(batch: Any) -> list[tuple[Any, Any, Any]]:
        flat = [tf.reshape(x, [-1]) for x in keras.tree.flatten(probe(batch, training=False))]
        picked = [tf.random.uniform([_SAMPLE], 0, tf.size(x), tf.int32) for x in flat]
        return [(tf.reduce_min(x), tf.reduce_max(x), tf.gather(x, at)) for x, at in zip(flat, picked, strict=True)]

    return ranges, lambda batch: keras.tree.map_structure(np.asarray, observe(batch))


def _batches(data: Any, batch_size: int, steps: int | None) -> Iterator[Any]:
    """The pictures of each batch."""
    if isinstance(data, tf.data.Dataset) and steps is None and data.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise ValueError("`data` is a dataset without end: pass `steps=`, or `data.take(...)`.")
    if isinstance(data, tuple):
        data = data[0]  # (pictures, labels)
    if isinstance(data, dict) or hasattr(data, "shape"):
        size = len(keras.tree.flatten(data)[0])
        for start in range(0, size, batch_size):
            stop = start + batch_size
            yield keras.tree.map_structure(lambda array, start=start, stop=stop: array[start:stop], data)
    else:
        for batch in data:
            yield batch[0] if isinstance(batch, tuple) else batch
