"""Parameters, multiply-adds and activation memory of a model, layer by layer."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import keras
import tensorflow as tf
from keras import layers

from keras_mobilenet import graph

# Their subclasses count as they do: those of quantization-aware training, for one.
_TRANSPOSED = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
_KINDS: dict[str, tuple[type[layers.Layer], ...]] = {
    "dense": (layers.Dense,),
    "depthwise": (layers.DepthwiseConv1D, layers.DepthwiseConv2D),
    "separable": (layers.SeparableConv1D, layers.SeparableConv2D),
    "transposed": _TRANSPOSED,
    "convolution": (layers.Conv1D, layers.Conv2D, layers.Conv3D),
}
_COUNTED = tuple(layer for kind in _KINDS.values() for layer in kind)


@dataclass(frozen=True)
class LayerCost:
    """Cost of one call of a layer, for one picture.

    Attributes:
        name: Name of the layer.
        kind: "convolution", "pointwise" (a 1x1 convolution), "depthwise", "separable", "transposed" or "dense"; the
            layer's class where it is none of them.
        output_shape: Shape of its output without the batch; a tuple of shapes where there are several outputs.
        parameters: Weights that training changes, also where they are frozen; counted at a layer's first call.
        multiply_adds: Of its kernels; 0 where it is neither a convolution nor a dense layer.
        activation_bytes: Size of its output in its own dtype.
    """

    name: str
    kind: str
    output_shape: tuple[Any, ...]
    parameters: int
    multiply_adds: int
    activation_bytes: int


@dataclass(frozen=True)
class ModelCost:
    """Cost of a model for one picture; printed, it is a table.

    Attributes:
        name: Name of the model.
        layers: One row for each call of a layer, in the order of the graph; those of nested models stand among them.
    """

    name: str
    layers: tuple[LayerCost, ...]

    @property
    def parameters(self) -> int:
        """Weights that training changes, frozen ones too; the moving statistics of batch norm aren't among them."""
        return sum(row.parameters for row in self.layers)

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of convolutions and dense layers, bias and batch norm not counted, as in the papers."""
        return sum(row.multiply_adds for row in self.layers)

    @property
    def activation_bytes(self) -> int:
        """Sum of all layers' outputs: what training keeps, more than inference has at any one time."""
        return sum(row.activation_bytes for row in self.layers)

    def __str__(self) -> str:
        titles = [field.name.replace("_", " ") for field in fields(LayerCost)]
        rows = [[_text(getattr(row, field.name)) for field in fields(LayerCost)] for row in self.layers]
        total = ["total", "", "", *map(_text, (self.parameters, self.multiply_adds, self.activation_bytes))]
        widths = [max(map(len, column)) for column in zip(titles, *rows, total, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) if i < 3 else cell.rjust(width) for i, (cell, width) in enumerate(cells))
            for cells in (list(zip(row, widths, strict=True)) for row in (titles, *rows, total))
        ]
        rule = "-" * len(lines[0])
        return "\n".join([self.name, lines[0], rule, *lines[1:-1], rule, lines[-1]])


def count(model: keras.Model, input_shape: Sequence[int] | None = None) -> ModelCost:
    """Counts what a model costs for one picture.

    Args:
        model: Functional or Sequential model, also one that holds others, is folded or quantization-aware.
        input_shape: (height, width, channels) of the picture, for a model that leaves its size open.

    Returns:
        The cost, in total and layer by layer.

    Raises:
        ValueError: The size of the picture is unknown, or contradicts the model's; or the model has no graph of layers,
            or a layer that hides convolutions or dense layers from it.

    Example:
    ```python
    cost = km.cost.count(km.MobileNetV2(alpha=0.35, input_shape=(96, 96, 3)))
    print(cost.multiply_adds)  # 11,934,128
    print(cost)  # the table
    ```

    Source: arXiv:1704.04861, tables 2 to 9; arXiv:1801.04381, table 4.
    """
    model = graph.functional(model)
    rows: list[LayerCost] = []
    seen: set[int] = set()

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(layer, keras.Model):
            return graph.run(graph.functional(layer), args[0] if len(args) == 1 else args, call)
        outputs = layer.compute_output_spec(*args, **kwargs)
        rows.append(_row(layer, args, keras.tree.flatten(outputs), first=id(layer) not in seen))
        seen.add(id(layer))
        return outputs

    graph.run(model, _pictures(model, input_shape), call)
    return ModelCost(model.name, tuple(rows))


def _pictures(model: keras.Model, input_shape: Sequence[int] | None) -> list[keras.KerasTensor]:
    """The model's inputs for a batch of one, every size known."""
    inputs = model.inputs
    shapes = [tuple(tensor.shape[1:]) for tensor in inputs]
    if input_shape is not None:
        given = tuple(input_shape)
        if len(inputs) != 1:
            raise ValueError(
                f"`input_shape={given}` is for a model with one input, but `{model.name}` has {len(inputs)}: build it "
                "with inputs of known sizes."
            )
        if len(given) != len(shapes[0]) or any(
            own not in (None, side) for own, side in zip(shapes[0], given, strict=True)
        ):
            raise ValueError(
                f"`input_shape={given}` contradicts `{model.name}`, whose input is {shapes[0]}: leave it out, or build "
                "the model for that size."
            )
        shapes = [given]
    for shape in shapes:
        if any(not isinstance(side, int) or side < 1 for side in shape):
            raise ValueError(
                f"The cost of `{model.name}` depends on the size of its input, {shape}, which is not known: pass "
                "`input_shape=(height, width, channels)` in pixels, such as (224, 224, 3)."
            )
    return [keras.KerasTensor((1, *shape), tensor.dtype) for shape, tensor in zip(shapes, inputs, strict=True)]


def _row(layer: Any, inputs: Sequence[Any], outputs: Sequence[Any], first: bool) -> LayerCost:
    shapes = [tuple(output.shape[1:]) for output in outputs]
    return LayerCost(
        name=layer.name,
        kind=_kind(layer),
        output_shape=shapes[0] if len(shapes) == 1 else tuple(shapes),
        parameters=sum(math.prod(weight.shape) for weight in graph.parameters(layer)) if first else 0,
        multiply_adds=_multiply_adds(layer, inputs, outputs),
        activation_bytes=sum(
            math.prod(shape) * tf.as_dtype(output.dtype).size for shape, output in zip(shapes, outputs, strict=True)
        ),
    )


def _kind(layer: Any) -> str:
    for kind, classes in _KINDS.items():
        if isinstance(layer, classes):
            pointwise = kind == "convolution" and math.prod(layer.kernel_size) == 1
            return "pointwise" if pointwise else kind
    return type(layer).__name__


def _multiply_adds(layer: Any, inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
    """Weights of the kernels x positions at which they are applied."""
    if not isinstance(layer, _COUNTED):
        hidden = [inner for inner in graph.sublayers(layer) if isinstance(inner, _COUNTED)]
        if hidden:
            raise ValueError(
                f"Layer `{layer.name}` ({type(layer).__name__}) holds `{hidden[0].name}` ({type(hidden[0]).__name__}), "
                "whose calls can't be seen from outside: build it as a functional model."
            )
        return 0
    shape = (inputs if isinstance(layer, _TRANSPOSED) else outputs)[0].shape
    first = getattr(layer, "data_format", None) == "channels_first"
    positions = math.prod(shape[2:] if first else shape[1:-1])
    if isinstance(layer, _KINDS["separable"]):
        kernels = [layer.depthwise_kernel, layer.pointwise_kernel]
    else:
        kernels = [layer.kernel]
    return positions * sum(math.prod(kernel.shape) for kernel in kernels)


def _text(value: Any) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, tuple):
        return ", ".join(map(_text, value)) if value and isinstance(value[0], tuple) else " x ".join(map(str, value))
    return value
