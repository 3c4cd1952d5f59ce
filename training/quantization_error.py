"""How far each layer of a quantization-aware model is from what it computes without rounding."""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_mobilenet import graph
from keras_mobilenet.optimization.fake_quant import FakeQuant, FixedFakeQuant, nudge
from keras_mobilenet.optimization.keras_form import keras_form


@dataclass(frozen=True)
class LayerError:
    """The rounding noise behind one layer.

    Attributes:
        layer: Its name.
        decibels: Signal over noise, 10 log10(sum x^2 / sum (x - rounded x)^2); the higher, the closer.
    """

    layer: str
    decibels: float


def by_layer(model: keras.Model, images: np.ndarray) -> list[LayerError]:
    """Compares a quantization-aware model with itself without rounding, layer by layer.

    The noise of a layer is what has come together up to it: that of its own rounding, and of all layers before.

    Args:
        model: Model of `km.quantize_aware`, trained or calibrated.
        images: float32 [N, H, W, C], as the model takes them.

    Returns:
        One row for each activation that the int8 file rounds, in the order of the model.
    """
    flat = graph.functional(model)
    names, exact = _activations(flat, images, rounded=False)
    _, rounded = _activations(flat, images, rounded=True)
    return [LayerError(*row) for row in zip(names, map(_decibels, exact, rounded), strict=True)]


def _activations(model: keras.Model, images: np.ndarray, rounded: bool) -> tuple[list[str], list[np.ndarray]]:
    names: list[str] = []
    tensors: list[Any] = []

    def quantized(trained: FakeQuant, name: str, x: Any) -> Any:
        if rounded:
            limits = nudge(float(trained.low), float(trained.high))
            x = FixedFakeQuant(*limits, name=f"{name}_rounded_{len(names)}")(x)
        names.append(name)
        tensors.append(x)
        return x

    form = keras_form(model, quantized, round_kernels=rounded)
    probe = tf.function(keras.Model(form.input, tensors))
    return names, [np.asarray(x) for x in probe(images, training=False)]


def _decibels(exact: np.ndarray, rounded: np.ndarray) -> float:
    noise = float(np.sum((exact - rounded).astype(np.float64) ** 2))
    signal = float(np.sum(exact.astype(np.float64) ** 2))
    return 10 * float(np.log10(max(signal, 1e-30) / max(noise, 1e-30)))
