"""Bias correction: the mean error that rounding leaves in each channel is taken off its bias."""

from typing import Any

import keras
import numpy as np
from keras import layers

from keras_mobilenet import graph
from keras_mobilenet.optimization.fake_quant import FixedFakeQuant

_KERNELS = (layers.Conv2D, layers.DepthwiseConv2D, layers.Dense)
_PICTURES = 64  # all at once: what is corrected counts for the layers behind
_BATCH = 16


def correct_biases(quantized: keras.Model, model: keras.Model, pictures: np.ndarray) -> None:
    """Adds to each bias, in place, what its channel lacks on average against the float model.

    It goes layer by layer in the order of the graph: what a layer reads was corrected before.

    Args:
        quantized: Model with rounded kernels and activations, of `km.fold_batch_norm`.
        model: The folded float model that it was made from, with the same layer names.
        pictures: float32 [N, H, W, C], as both read them; the first 64 are used.

    Source: arXiv:1906.04721, section 4.2 and appendix D.
    """
    pictures = pictures[:_PICTURES]
    names = {layer.name for layer in quantized.layers if isinstance(layer, _KERNELS) and layer.use_bias}
    means = _means(_without_rounding(quantized, model), names, pictures)
    uses = [id(tensor) for _, inputs, _ in graph.calls(quantized) for tensor in inputs]
    values: dict[int, Any] = {id(quantized.inputs[0]): pictures}
    for layer, inputs, (output,) in graph.calls(quantized):
        arguments = [values[id(tensor)] for tensor in inputs]
        result = _in_batches(layer, arguments)
        if layer.name in means:  # a layer that is called twice is corrected once
            lacking = means.pop(layer.name) - _mean(result)
            layer.bias.assign_add(lacking)
            result += lacking
        values[id(output)] = result
        for tensor in inputs:
            uses.remove(id(tensor))
            if id(tensor) not in uses:
                values.pop(id(tensor), None)


def _in_batches(layer: layers.Layer, arguments: list[np.ndarray]) -> np.ndarray:
    results = []
    for start in range(0, len(arguments[0]), _BATCH):
        batch = [argument[start : start + _BATCH] for argument in arguments]
        results.append(np.asarray(layer(batch[0] if len(batch) == 1 else batch)))
    return np.concatenate(results)


def _mean(values: np.ndarray) -> np.ndarray:
    return values.mean(axis=tuple(range(values.ndim - 1)), dtype=np.float64).astype(np.float32)


def _means(model: keras.Model, names: set[str], pictures: np.ndarray) -> dict[str, np.ndarray]:
    """The mean of each channel that the named layers put out first."""
    tensors: dict[str, Any] = {}
    for layer, _, outputs in graph.calls(model):
        if layer.name in names:
            tensors.setdefault(layer.name, outputs[0])
    means = {name: keras.ops.mean(x, axis=tuple(range(1, len(x.shape) - 1))) for name, x in tensors.items()}
    probe = keras.Model(model.input, means)
    return {name: _mean(y) for name, y in probe.predict(pictures, batch_size=_BATCH, verbose=0).items()}


def _without_rounding(quantized: keras.Model, model: keras.Model) -> keras.Model:
    """The float model in the layers of the quantized one, where an activation may stand apart from its layer."""
    rebuilt: dict[str, layers.Layer] = {}

    def call(layer: layers.Layer, *args: Any, **kwargs: Any) -> Any:
        if isinstance(layer, FixedFakeQuant):
            return args[0]
        if layer.name not in rebuilt:
            rebuilt[layer.name] = type(layer).from_config(layer.get_config())
        return rebuilt[layer.name](*args, **kwargs)

    result = graph.rewrite(quantized, call)
    for name, layer in rebuilt.items():
        if layer.weights:
            layer.set_weights(model.get_layer(name).get_weights())
    return result
