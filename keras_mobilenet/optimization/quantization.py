"""Quantization-aware training: a float model rewritten with tfmot's quantizers, a Keras 3 functional model as before.

Fake quantization stands where the int8 file will have a quantized tensor once TFLite has fused convolution, batch norm
and ReLU: behind the input, ReLU, linear bottlenecks, Add, Concatenate, Multiply, pooling and the classifier. Reshaping,
padding, max pooling, dropout and resizing keep the range of what goes in.

Kernels are quantized as they are trained, before batch norm is folded into them. Folding multiplies a channel by one
number, and a symmetric range per channel grows by the same number: the steps of the grid, and so the file's integers,
are the same before and after. Training thus keeps fused batch norm; `km.fold_batch_norm` folds at the end.
"""

from collections.abc import Callable
from typing import Any

import keras
from keras import layers

from keras_mobilenet import graph
from keras_mobilenet.detection.head import AnchoredBoxes
from keras_mobilenet.layers import BatchNormalization, ResizeLike, SamePadding2D
from keras_mobilenet.optimization import fake_quant_layers as quantized
from keras_mobilenet.optimization.calibration import calibrate
from keras_mobilenet.optimization.fake_quant import FakeQuant, FixedFakeQuant
from keras_mobilenet.optimization.pruning_constraint import frozen

_QUANTIZED: dict[type[layers.Layer], type[quantized.FakeQuantLayer]] = {
    layers.Conv2D: quantized.FakeQuantConv2D,
    layers.DepthwiseConv2D: quantized.FakeQuantDepthwiseConv2D,
    layers.Dense: quantized.FakeQuantDense,
    layers.BatchNormalization: quantized.FakeQuantBatchNormalization,
    BatchNormalization: quantized.FakeQuantBatchNormalization,
    layers.ReLU: quantized.FakeQuantReLU,
    layers.Add: quantized.FakeQuantAdd,
    layers.Multiply: quantized.FakeQuantMultiply,
    layers.Concatenate: quantized.FakeQuantConcatenate,
    layers.GlobalAveragePooling2D: quantized.FakeQuantGlobalAveragePooling2D,
}
_KERNELS = (layers.Conv2D, layers.DepthwiseConv2D, layers.Dense)
_FUSED_WITH_RELU = (*_KERNELS, layers.BatchNormalization, layers.Add, layers.Multiply)

# Layers whose outputs lie on the grid of their inputs, as TFLite demands of the operators that they become.
_SAME_RANGE = (
    layers.AveragePooling2D,
    layers.Cropping2D,
    layers.Dropout,
    layers.Flatten,
    layers.GlobalMaxPooling2D,
    layers.Identity,
    layers.MaxPooling2D,
    layers.Permute,
    layers.Reshape,
    layers.Resizing,
    layers.SpatialDropout2D,
    layers.UpSampling2D,
    layers.ZeroPadding2D,
    AnchoredBoxes,
    ResizeLike,
    SamePadding2D,
)
_SUBSTITUTES = {  # what to use in the place of common layers that have no 8-bit form here
    "SeparableConv2D": "use DepthwiseConv2D and Conv2D",
    "Conv2DTranspose": "use UpSampling2D and Conv2D",
    "Conv1D": "use Conv2D with a height of 1",
    "LeakyReLU": "use ReLU(6.0)",
    "PReLU": "use ReLU(6.0)",
    "Average": "use Add, and halve the weights that follow",
    "Lambda": "use one of Keras's layers, or keep it out of the model and apply it to the model's outputs",
}


def quantize_aware(
    model: keras.Model, calibration: Any = None, *, freeze_after: int | None = None, name: str | None = None
) -> keras.Model:
    """Builds the model for quantization-aware training: 8-bit kernels and activations, simulated in float32.

    Kernels are symmetric, narrow-range and per channel (tfmot's LastValueQuantizer), activations asymmetric moving
    averages (MovingAverageQuantizer). Train it on a tenth of the float model's learning rate or less.

    Args:
        model: Functional or Sequential float32 model of the zoo's layers, heads included; models nested in it are laid
            out flat. Preprocessing layers at its inputs stay float. Pruning constraints stay. It is left as it is.
        calibration: Pictures as `km.calibrate` takes them, to start from measured ranges. Without, activations start
            at [-6, 6], after ReLU at [0, 6]; call `km.calibrate` before training or evaluating.
        freeze_after: Training steps, >= 0, after which ranges and batch norm statistics stand still, so that the last
            epochs train what inference computes; None for never.
        name: Name of the new model; by default that of `model`.

    Returns:
        A functional model with the names of layers, inputs and outputs of `model` and a copy of its weights; not
        compiled. `km.fold_batch_norm` turns it into the inference model that converts to int8.

    Raises:
        ValueError: There is no graph to read, a layer has no 8-bit form, the model is quantized already, or its policy
            is not float32; the message names the layer and says what to do.

    Example:
    ```python
    aware = km.quantize_aware(model, train_images[:512])
    aware.compile(keras.optimizers.SGD(2e-3, momentum=0.9), "sparse_categorical_crossentropy")
    aware.fit(train_images, train_labels, epochs=2)
    inference = km.fold_batch_norm(aware)
    ```

    Source: arXiv:1712.05877, section 3; arXiv:1806.08342, section 3.
    """
    if freeze_after is not None and (not isinstance(freeze_after, int) or freeze_after < 0):
        raise ValueError(f"`freeze_after={freeze_after!r}` is not a count of training steps: pass 0 or more, or None.")
    _check_layers(model)
    flat = graph.copy(model)
    result = graph.rewrite(flat, _Rewriting(flat, freeze_after).call, name=name)
    for layer in flat.layers:
        if layer.weights:
            quantized_layer, weights = result.get_layer(layer.name), layer.get_weights()
            quantized_layer.set_weights(weights + quantized_layer.get_weights()[len(weights) :])
    if calibration is not None:
        calibrate(result, calibration)
    return result


class _Rewriting:
    """The 8-bit layer for each layer of a flat float model, and the call that puts it in its place."""

    def __init__(self, flat: keras.Model, freeze_after: int | None) -> None:
        self.freeze_after = freeze_after
        self.readers = graph.consumers(flat)
        self.producers = {layer.name: [graph.producer(x) for x in inputs] for layer, inputs, _ in graph.calls(flat)}
        self.rebuilt: dict[str, layers.Layer] = {}
        self.pictures: set[str] = set()  # layers that put out what is not quantized yet
        self.quantized_pictures: dict[int, Any] = {}

    def call(self, layer: layers.Layer, *args: Any, **kwargs: Any) -> Any:
        if _preprocesses(layer) and all(self._is_picture(x) for x in keras.tree.flatten(args)):
            self.pictures.add(layer.name)
            return self._layer(layer.name, lambda: type(layer).from_config(layer.get_config()))(*args, **kwargs)
        self._check_place(layer)
        args = keras.tree.map_structure(self._quantized_picture, args)
        outputs = self._layer(layer.name, lambda: self._eight_bit(layer))(*args, **kwargs)
        if _activation(layer) in quantized.FIXED_RANGES and not self._leads_out(layer):
            name, limits = f"{layer.name}_quant", quantized.FIXED_RANGES[_activation(layer)]
            outputs = self._layer(name, lambda: FixedFakeQuant(*limits, name=name, dtype="float32"))(outputs)
        return outputs

    def _layer(self, name: str, make: Callable[[], layers.Layer]) -> layers.Layer:
        if name not in self.rebuilt:
            self.rebuilt[name] = make()
        return self.rebuilt[name]

    def _eight_bit(self, layer: layers.Layer) -> layers.Layer:
        config, kind = frozen(layer.get_config()), _QUANTIZED.get(type(layer))  # pruned weights stay as they are
        if isinstance(layer, layers.Activation) and layer.activation in quantized.RELUS:
            config = {"name": layer.name, "max_value": quantized.RELUS[layer.activation]}
            kind = quantized.FakeQuantReLU
        if kind is None:
            return type(layer).from_config(config)
        quantize_output = not self._is_fused_with_next(layer)
        if kind is quantized.FakeQuantBatchNormalization and not quantize_output and self.freeze_after is None:
            return BatchNormalization.from_config(config)
        return kind.from_config(config | {"quantize_output": quantize_output, "freeze_after": self.freeze_after})

    def _is_fused_with_next(self, layer: layers.Layer) -> bool:
        """Whether TFLite makes one operator of this layer and the one that reads it."""
        reader = self._only_reader(layer)
        if reader is None or _activation(layer) not in (None, keras.activations.linear):
            return False
        if isinstance(reader, layers.BatchNormalization):
            return isinstance(layer, _KERNELS)
        return _is_relu(reader) and isinstance(layer, _FUSED_WITH_RELU)

    def _only_reader(self, layer: layers.Layer) -> layers.Layer | None:
        return self.readers[layer.name][0] if len(self.readers[layer.name]) == 1 else None

    def _leads_out(self, layer: layers.Layer) -> bool:
        """Whether nothing but reshaping stands between a layer and the model's outputs."""
        return all(
            reader is None or (isinstance(reader, _SAME_RANGE) and self._leads_out(reader))
            for reader in self.readers[layer.name]
        )

    def _is_picture(self, x: Any) -> bool:
        """Whether `x` is a model input, or one that only preprocessing has touched."""
        if not isinstance(x, keras.KerasTensor):
            return False
        producer = graph.producer(x)
        return isinstance(producer, layers.InputLayer) or producer.name in self.pictures

    def _quantized_picture(self, x: Any) -> Any:
        if not self._is_picture(x):
            return x
        if id(x) not in self.quantized_pictures:
            name = f"{graph.producer(x).name}_quant"
            self.quantized_pictures[id(x)] = FakeQuant(self.freeze_after, name=name, dtype="float32")(x)
        return self.quantized_pictures[id(x)]

    def _check_place(self, layer: layers.Layer) -> None:
        """Refuses a batch norm that no kernel takes over."""
        if not isinstance(layer, layers.BatchNormalization):
            return
        for before in self.producers[layer.name]:
            if not isinstance(before, _KERNELS) or not self._is_fused_with_next(before):
                raise _unquantizable(
                    layer,
                    f"it normalizes what `{before.name}` ({type(before).__name__}) puts out, and can't fold into it",
                    "let it stand right behind a convolution or dense layer that has no activation and no other reader",
                )


def _check_layers(model: keras.Model) -> None:
    """Refuses a model with a layer that has no 8-bit form, before anything is built."""
    for layer, _, _ in graph.calls(graph.functional(model)):
        if isinstance(layer, keras.Model):
            _check_layers(layer)
        elif isinstance(layer, FakeQuant | FixedFakeQuant | quantized.FakeQuantLayer):
            raise ValueError(
                f"`{model.name}` is quantized already: `{layer.name}` is a {type(layer).__name__}. Train it as it is, "
                "or pass the float model that it was made from."
            )
        elif not _preprocesses(layer) or type(layer) in _SAME_RANGE:
            _check_layer(layer)


def _check_layer(layer: Any) -> None:
    kind = type(layer)
    if kind not in _QUANTIZED and kind not in _SAME_RANGE and kind not in (layers.Activation, layers.Softmax):
        instead = _SUBSTITUTES.get(kind.__name__)
        if not isinstance(layer, layers.Layer) and hasattr(layers, kind.__name__):
            instead = f"it is an operation, not a layer: use keras.layers.{kind.__name__}"
        known = ", ".join(sorted({known.__name__ for known in (*_QUANTIZED, *_SAME_RANGE)} | {"Activation", "Softmax"}))
        instead = instead or f"keep it out of the model and apply it to the model's outputs, or build it from {known}"
        raise _unquantizable(layer, "it has no 8-bit form", instead)
    if layer.dtype_policy.name != "float32":
        raise ValueError(
            f"`{layer.name}` ({kind.__name__}) has the dtype policy {layer.dtype_policy.name!r}; quantization-aware "
            'training computes in float32: call keras.config.set_dtype_policy("float32"), build the model again and '
            "load its weights."
        )
    activation = _activation(layer)
    if activation not in (None, keras.activations.linear, *quantized.RELUS, *quantized.FIXED_RANGES):
        known = "linear, relu, relu6, softmax, sigmoid or tanh"
        raise _unquantizable(layer, f"its activation is {keras.activations.serialize(activation)!r}", f"use {known}")
    if isinstance(layer, layers.ReLU) and (layer.max_value not in (None, 6) or layer.negative_slope or layer.threshold):
        limits = f"max_value={layer.max_value}, negative_slope={layer.negative_slope}, threshold={layer.threshold}"
        raise _unquantizable(layer, f"TFLite has no operator for {limits}", "use ReLU() or ReLU(6.0)")
    if getattr(layer, "data_format", None) == "channels_first":
        raise _unquantizable(layer, "its data format is channels_first", "build the model for channels_last")
    if getattr(layer, "interpolation", "nearest") not in ("nearest", "bilinear"):
        raise _unquantizable(layer, f"its interpolation is {layer.interpolation!r}", 'use "nearest" or "bilinear"')


def _unquantizable(layer: Any, reason: str, way_out: str) -> ValueError:
    return ValueError(f"Can't quantize `{layer.name}` ({type(layer).__name__}): {reason}. To go on: {way_out}.")


def _preprocesses(layer: Any) -> bool:
    """Whether a layer prepares pictures: it stays float where it stands at an input."""
    # Keras has no public base class of them.
    return type(layer).__module__.startswith("keras.src.layers.preprocessing.")


def _activation(layer: Any) -> Callable[..., Any] | None:
    return keras.activations.softmax if isinstance(layer, layers.Softmax) else getattr(layer, "activation", None)


def _is_relu(layer: layers.Layer) -> bool:
    return isinstance(layer, layers.ReLU) or (
        isinstance(layer, layers.Activation) and layer.activation in quantized.RELUS
    )
