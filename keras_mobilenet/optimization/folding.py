"""Batch normalization folded into the convolution before it."""

from typing import Any

import keras
import numpy as np
from keras import layers

from keras_mobilenet import graph
from keras_mobilenet.layers import SamePadding2D
from keras_mobilenet.optimization.keras_form import is_quantization_aware, on_fixed_grid

# Layers that do nothing at inference.
_TRAINING_ONLY = (
    layers.Dropout,
    layers.SpatialDropout2D,
    layers.GaussianNoise,
    layers.GaussianDropout,
    layers.AlphaDropout,
    layers.ActivityRegularization,
)


def fold_batch_norm(model: keras.Model) -> keras.Model:
    """Builds the inference model: batch norm inside the kernels, padding inside the convolutions, no dropout.

    A model of `km.quantize_aware` keeps its grid: each kernel holds whole multiples of its channel's step, and the
    ranges of the activations stand in `FixedFakeQuant` layers, from which the TFLite converter takes them.

    Args:
        model: Functional or Sequential model, float or quantization-aware; models nested in it are laid out flat. It is
            left as it is.

    Returns:
        A functional model of the same inputs and, up to rounding, the same outputs as `model(x, training=False)`. Its
        weights are frozen. A batch norm that no convolution or dense layer stands before stays.

    Raises:
        ValueError: `model` has no graph of layers to read.

    Example:
    ```python
    folded = km.fold_batch_norm(km.MobileNetV2(alpha=0.35))
    ```

    Source: arXiv:1806.08342, section 3.2.
    """
    flat = graph.copy(model)
    if is_quantization_aware(flat):
        flat = on_fixed_grid(flat)
    readers = graph.consumers(flat)
    norms: dict[str, layers.BatchNormalization] = {}  # by the layer that takes them over
    padded: set[str] = set()  # convolutions that take over the padding before them
    gone: set[str] = set()
    for layer, inputs, _ in graph.calls(flat):
        reader = readers[layer.name][0] if len(readers[layer.name]) == 1 else None
        if isinstance(layer, _TRAINING_ONLY):
            gone.add(layer.name)
        elif reader is None:
            continue
        elif _has_kernel(layer) and _normalizes(reader, layer):
            norms[layer.name] = reader
            gone.add(reader.name)
        elif _pads_as_same(layer, inputs[0], reader):
            padded.add(reader.name)
            gone.add(layer.name)

    rebuilt: dict[str, keras.layers.Layer] = {}

    def call(layer: keras.layers.Layer, *args: Any, **kwargs: Any) -> Any:
        if layer.name in gone:
            return args[0]
        if layer.name not in rebuilt:
            config = layer.get_config() | {"trainable": False}
            config |= {key: None for key in config if key.endswith("_constraint")}  # with pruning's masks
            config |= {"padding": "same"} if layer.name in padded else {}
            config |= {"use_bias": True} if layer.name in norms else {}
            rebuilt[layer.name] = type(layer).from_config(config)
        return rebuilt[layer.name](*args, **kwargs)

    folded = graph.rewrite(flat, call)
    for name, layer in rebuilt.items():
        old = flat.get_layer(name)
        weights = old.get_weights()[: len(layer.weights)]
        layer.set_weights(_folded_weights(old, norms[name]) if name in norms else weights)
    return folded


def _has_kernel(layer: keras.layers.Layer) -> bool:
    return isinstance(layer, layers.Conv2D | layers.DepthwiseConv2D | layers.Dense)


def _normalizes(reader: keras.layers.Layer, layer: keras.layers.Layer) -> bool:
    """Whether `reader` is a batch norm over the channels that `layer` puts out, untouched by an activation."""
    return (
        isinstance(reader, layers.BatchNormalization)
        and reader.axis in (-1, len(layer.output.shape) - 1)
        and not reader.renorm
        and layer.activation is keras.activations.linear
    )


def _pads_as_same(layer: keras.layers.Layer, x: keras.KerasTensor, reader: keras.layers.Layer) -> bool:
    """Whether `layer` and the "valid" convolution `reader` together are a "same" convolution."""
    if not isinstance(reader, layers.Conv2D | layers.DepthwiseConv2D) or reader.padding != "valid":
        return False
    if reader.dilation_rate != (1, 1) or len({*reader.kernel_size}) > 1 or len({*reader.strides}) > 1:
        return False
    same = SamePadding2D(reader.kernel_size[0], reader.strides[0])
    if isinstance(layer, SamePadding2D):
        return layer.kernel_size == same.kernel_size and layer.strides == same.strides
    sizes = x.shape[1:3]
    return (
        isinstance(layer, layers.ZeroPadding2D)
        and None not in sizes
        and tuple(map(tuple, layer.padding)) == tuple(same.widths(size) for size in sizes)
    )


def _folded_weights(layer: keras.layers.Layer, norm: layers.BatchNormalization) -> list[np.ndarray]:
    """Kernel x gamma / sigma, and the bias that goes with it."""
    mean, variance = (np.asarray(w, "float64") for w in (norm.moving_mean, norm.moving_variance))
    gamma = np.asarray(norm.gamma, "float64") if norm.scale else np.ones_like(mean)
    beta = np.asarray(norm.beta, "float64") if norm.center else np.zeros_like(mean)
    scale = gamma / np.sqrt(variance + norm.epsilon)
    kernel, *bias = layer.get_weights()[: 2 if layer.use_bias else 1]
    # A depthwise kernel is (height, width, C, depth_multiplier): its output channels are its last two axes.
    depthwise = isinstance(layer, layers.DepthwiseConv2D)
    kernel = kernel * (scale.reshape(kernel.shape[-2:]) if depthwise else scale)
    offset = beta + (np.asarray(bias[0], "float64") - mean if bias else -mean) * scale
    return [kernel.astype("float32"), offset.astype("float32")]
