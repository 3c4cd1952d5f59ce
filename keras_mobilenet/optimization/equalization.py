"""Cross-layer equalization: channels that use little of their tensor's range are scaled up to it.

An activation has one scale for all its channels, so that one with small values is left with few of the 255 steps. Its
channel can be multiplied by any s > 0 in the layer before and divided in the layer behind: ReLU lets s through, ReLU6
as long as no value reaches its limit.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import keras
import numpy as np
from keras import layers

from keras_mobilenet import graph
from keras_mobilenet.layers import SamePadding2D

_KERNELS = (layers.Conv2D, layers.DepthwiseConv2D, layers.Dense)
# Layers that a positive factor of a channel passes through.
_TRANSPARENT = (
    layers.ReLU,
    layers.GlobalAveragePooling2D,
    layers.AveragePooling2D,
    layers.MaxPooling2D,
    layers.ZeroPadding2D,
    SamePadding2D,
)
_HIGHEST = 64.0  # factor: a channel that is almost dead stays so
_BATCH = 32


@dataclass(frozen=True)
class Pair:
    """Two layers with kernels and nothing but transparent layers between them.

    Attributes:
        before: The first.
        behind: The second.
        values: What the second reads, before pooling.
    """

    before: layers.Layer
    behind: layers.Layer
    values: keras.KerasTensor


def equalize(model: keras.Model, pictures: np.ndarray) -> None:
    """Scales the channels between neighbouring layers, in place; the outputs for `pictures` stay as they are.

    Where the second layer is depthwise, its kernel's scales per channel take the factor up without loss, and each
    channel gets the whole range. A convolution has one scale for all inputs of an output, so that its weights lose what
    the activation gains: there the factor is the square root.

    Args:
        model: Float model of `km.fold_batch_norm`.
        pictures: float32 [N, H, W, C], as the model reads them.

    Source: arXiv:1906.04721, section 4.1, where ReLU6 is replaced by ReLU; here it stays.
    """
    pairs = list(_pairs(model))
    for pair, largest in zip(pairs, _largest(model, pairs, pictures), strict=True):
        alive = largest > 0
        factors = np.ones_like(largest)
        factors[alive] = np.minimum(largest.max() / largest[alive], _HIGHEST)
        if not isinstance(pair.behind, layers.DepthwiseConv2D):
            factors = np.sqrt(factors)
        _scale(pair, factors)


def _pairs(model: keras.Model) -> Iterator[Pair]:
    readers = graph.consumers(model)
    calls = {layer.name: (layer, outputs) for layer, _, outputs in graph.calls(model)}
    called = [layer.name for layer, _, _ in graph.calls(model)]
    for name, (layer, outputs) in calls.items():
        if not isinstance(layer, _KERNELS) or not _is_homogeneous(layer):
            continue
        values, reader = outputs[0], _only(readers[name])
        while isinstance(reader, _TRANSPARENT) and _is_homogeneous(reader):
            if isinstance(reader, layers.ReLU):
                values = calls[reader.name][1][0]
            reader = _only(readers[reader.name])
        shared = max(called.count(name), called.count(getattr(reader, "name", name))) > 1
        if isinstance(reader, _KERNELS) and not shared and getattr(reader, "groups", 1) == 1:
            yield Pair(layer, reader, values)


def _only(readers: list[layers.Layer | None]) -> layers.Layer | None:
    return readers[0] if len(readers) == 1 else None


def _is_homogeneous(layer: layers.Layer) -> bool:
    if isinstance(layer, layers.ReLU):
        return not layer.negative_slope and not layer.threshold
    return getattr(layer, "activation", keras.activations.linear) is keras.activations.linear


def _largest(model: keras.Model, pairs: list[Pair], pictures: np.ndarray) -> list[np.ndarray]:
    """The largest magnitude in each channel between the two layers of each pair."""
    if not pairs:
        return []
    magnitudes = [keras.ops.abs(pair.values) for pair in pairs]
    probe = keras.Model(model.input, [keras.ops.max(x, axis=tuple(range(1, len(x.shape) - 1))) for x in magnitudes])
    seen = [probe.predict_on_batch(pictures[start : start + _BATCH]) for start in range(0, len(pictures), _BATCH)]
    seen = [batch if isinstance(batch, list) else [batch] for batch in seen]
    return [np.concatenate(batches).max(axis=0) for batches in zip(*seen, strict=True)]


def _scale(pair: Pair, factors: np.ndarray) -> None:
    kernel, *bias = pair.before.get_weights()
    # A depthwise kernel is (height, width, C, depth_multiplier): its output channels are its last two axes.
    depthwise = isinstance(pair.before, layers.DepthwiseConv2D)
    kernel = kernel * (factors.reshape(kernel.shape[-2:]) if depthwise else factors)
    pair.before.set_weights([kernel, *(values * factors for values in bias)])
    kernel, *bias = pair.behind.get_weights()
    pair.behind.set_weights([kernel / factors[:, None], *bias])
