"""The model as a .tflite file computes it: one picture at a time, its classifier a 1x1 convolution."""

from typing import Any

import keras
import numpy as np
from keras import layers

from keras_mobilenet import graph
from keras_mobilenet.export.signatures import ends_in_logits
from keras_mobilenet.optimization.fake_quant import FixedFakeQuant

INPUT = "image"
# Layers that work on [1, 1, 1, C] as they do on [1, C].
_ELEMENTWISE = (layers.Activation, layers.ReLU, layers.Dropout, layers.Identity, FixedFakeQuant)
_PICTURE_RANGE = (-1.0, 1.0)
_TOLERANCE = 0.1  # how far a trained range may be off what a uint8 picture covers


def static_form(model: keras.Model, size: tuple[int, int], *, quantized: bool) -> keras.Model:
    """Rebuilds a folded model for conversion.

    Dense layers become 1x1 convolutions: TensorFlow writes a FULLY_CONNECTED of version 4 with a scale per channel,
    which the Edge TPU compiler does not take. Logits of a classifier get their softmax.

    Args:
        model: Model of `fold_batch_norm`.
        size: Height and width of the picture, in pixels.
        quantized: Whether fake quantization stays. The input then gets the range in which the bytes of a picture are
            the integers of the file.

    Returns:
        Functional model, float32 [1, height, width, C] -> a list of outputs, named as `output_names(model)` says.
    """
    image = keras.Input(batch_shape=(1, *size, model.input_shape[-1]), name=INPUT)
    rebuilding = _Rebuilding(quantized)
    outputs = [rebuilding.vector(y) for y in keras.tree.flatten(graph.run(model, image, rebuilding.call))]
    if ends_in_logits(model):
        outputs = [layers.Softmax(name="probabilities")(outputs[0])]
    result = keras.Model(image, outputs, name=model.name)
    for layer in model.layers:
        if layer.weights:
            new = rebuilding.layers[layer.name]
            new.set_weights([w.reshape(v.shape) for w, v in zip(layer.get_weights(), new.weights, strict=True)])
    return result


def is_quantized(model: keras.Model) -> bool:
    """Whether a folded model has the ranges of its activations."""
    return any(isinstance(layer, FixedFakeQuant) for layer in model.layers)


class _Rebuilding:
    """The calls of the new model. A pooled vector stays a picture of one pixel until something needs a vector."""

    def __init__(self, quantized: bool) -> None:
        self.quantized = quantized
        self.layers: dict[str, layers.Layer] = {}
        self.pixels: dict[int, Any] = {}  # tensors [1, 1, 1, C] that stand for [1, C], by identity

    def call(self, layer: layers.Layer, *args: Any, **kwargs: Any) -> Any:
        if isinstance(layer, FixedFakeQuant):
            return self._fake_quantized(layer, args[0])
        if isinstance(layer, layers.GlobalAveragePooling2D) and not layer.keepdims:
            config = layer.get_config() | {"keepdims": True}
            return self._pixel(self._layer(layer, layers.GlobalAveragePooling2D, config)(args[0]))
        if isinstance(layer, layers.Dense) and (self._is_pixel(args[0]) or len(args[0].shape) == 2):
            return self._dense(layer, args[0])
        if self._is_pixel(args[0]) and isinstance(layer, _ELEMENTWISE) and not _is_softmax(layer):
            return self._pixel(self._layer(layer, type(layer), layer.get_config())(args[0]))
        args = keras.tree.map_structure(self.vector, args)
        return self._layer(layer, type(layer), layer.get_config())(*args, **kwargs)

    def vector(self, x: Any) -> Any:
        """[1, C] for a tensor that stands for it; another as it is."""
        return layers.Reshape((x.shape[-1],))(x) if self._is_pixel(x) else x

    def _layer(self, layer: layers.Layer, kind: type[layers.Layer], config: dict[str, Any]) -> layers.Layer:
        if layer.name not in self.layers:
            self.layers[layer.name] = kind.from_config(config)
        return self.layers[layer.name]

    def _fake_quantized(self, layer: FixedFakeQuant, x: Any) -> Any:
        if not self.quantized:
            return x
        config = layer.get_config()
        if isinstance(graph.producer(x), layers.InputLayer):
            config["low"], config["high"] = _picture_range(layer.low, layer.high)
        y = self._layer(layer, FixedFakeQuant, config)(x)
        return self._pixel(y) if self._is_pixel(x) else y

    def _dense(self, layer: layers.Dense, x: Any) -> Any:
        softmax = layer.activation is keras.activations.softmax
        config = {
            "name": layer.name,
            "filters": layer.units,
            "kernel_size": 1,
            "use_bias": layer.use_bias,
            "activation": None if softmax else keras.activations.serialize(layer.activation),
        }
        if not self._is_pixel(x):
            x = layers.Reshape((1, 1, x.shape[-1]))(x)
        y = self._pixel(self._layer(layer, layers.Conv2D, config)(x))
        return layers.Softmax(name=f"{layer.name}_softmax")(self.vector(y)) if softmax else y

    def _pixel(self, x: Any) -> Any:
        self.pixels[id(x)] = x
        return x

    def _is_pixel(self, x: Any) -> bool:
        return id(x) in self.pixels


def _is_softmax(layer: layers.Layer) -> bool:
    return getattr(layer, "activation", None) is keras.activations.softmax


def _picture_range(low: float, high: float) -> tuple[float, float]:
    """The range of a picture in [-1, 1], for one that was learned from such pictures; another as it is.

    Its step is 2/255 and its zero point 128, so that a picture's bytes are the stored integers, half a step below their
    values.
    """
    if np.allclose((low, high), _PICTURE_RANGE, atol=_TOLERANCE):
        return _PICTURE_RANGE
    return low, high
