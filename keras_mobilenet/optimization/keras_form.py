"""A quantization-aware model rewritten with Keras's own layers."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers

from keras_mobilenet import graph
from keras_mobilenet.optimization.fake_quant import FakeQuant, FixedFakeQuant, nudge
from keras_mobilenet.optimization.fake_quant_layers import FIXED_RANGES, FakeQuantKernelLayer, FakeQuantLayer

Quantized = Callable[[FakeQuant, str, Any], Any]  # (range, name of its layer, tensor that it rounds) -> tensor


def is_quantization_aware(model: keras.Model) -> bool:
    """Whether `km.quantize_aware` made any layer of a flat model."""
    return any(isinstance(layer, FakeQuant | FakeQuantLayer) for layer in model.layers)


def keras_form(model: keras.Model, quantized: Quantized, *, round_kernels: bool) -> keras.Model:
    """Rebuilds a quantization-aware model from Keras's own layers, with their names and weights.

    Args:
        model: Flat functional model.
        quantized: Is called where the model rounds an activation: `quantized(range, name, tensor)`, where `name` is
            that of the layer that does it; what it returns stands for the rounded tensor.
        round_kernels: Whether the kernels are those of the int8 grid or as they are trained.

    Returns:
        A functional model of the same inputs and outputs. An activation that has a rounded tensor before it, such as a
        dense layer's softmax, becomes a layer of its own.
    """
    rebuilt: dict[str, layers.Layer] = {}

    def built(name: str, make: Callable[[], layers.Layer]) -> layers.Layer:
        if name not in rebuilt:
            rebuilt[name] = make()
        return rebuilt[name]

    def call(layer: layers.Layer, *args: Any, **kwargs: Any) -> Any:
        if isinstance(layer, FakeQuant):
            return quantized(layer, layer.name, args[0])
        outputs = built(layer.name, lambda: _keras_layer(layer))(*args, **kwargs)
        if not isinstance(layer, FakeQuantLayer) or layer.output_range is None:
            return outputs
        outputs = quantized(layer.output_range, layer.name, outputs)
        if _activates_apart(layer):
            name = f"{layer.name}_{layer.activation.__name__}"
            outputs = built(name, lambda: layers.Activation(layer.activation, name=name))(outputs)
        return outputs

    result = graph.rewrite(model, call)
    for layer in model.layers:
        if layer.name in rebuilt:
            rebuilt[layer.name].set_weights(_weights(layer, rebuilt[layer.name], round_kernels))
    return result


def on_fixed_grid(model: keras.Model) -> keras.Model:
    """Rebuilds a flat quantization-aware model as it infers: kernels rounded, ranges in `FixedFakeQuant` layers."""
    fixed: dict[str, FixedFakeQuant] = {}

    def quantized(trained: FakeQuant, name: str, x: Any) -> Any:
        if name not in fixed:
            limits = nudge(float(trained.low), float(trained.high))
            fixed[name] = FixedFakeQuant(*limits, name=name if name == trained.name else f"{name}_quant")
        return fixed[name](x)

    return keras_form(model, quantized, round_kernels=True)


def _keras_layer(layer: layers.Layer) -> layers.Layer:
    if not isinstance(layer, FakeQuantLayer):
        return type(layer).from_config(layer.get_config())
    config = layer.float_config() | ({"activation": "linear"} if _activates_apart(layer) else {})
    return layer.float_class.from_config(config)


def _activates_apart(layer: FakeQuantLayer) -> bool:
    """Whether the activation of `layer` is an operator of its own in the int8 file, with a rounded tensor before it."""
    return layer.output_range is not None and getattr(layer, "activation", None) in FIXED_RANGES


def _weights(layer: layers.Layer, keras_layer: layers.Layer, round_kernels: bool) -> list[np.ndarray]:
    weights = layer.get_weights()[: len(keras_layer.weights)]  # without ranges and step counters, which come last
    if round_kernels and isinstance(layer, FakeQuantKernelLayer):
        weights[0] = keras.ops.convert_to_numpy(layer.fake_quantized_kernel())
    return weights
