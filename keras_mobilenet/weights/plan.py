"""What goes where: a file's arrays laid against a model's layers, checked as a whole before anything is assigned."""

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from keras_mobilenet import blocks

Shape = tuple[int, ...]
Shapes = Mapping[str, Sequence[Shape]]  # layer name -> shape of each of its weights

# The builders' names of what lies below the classifier or another head.
_BACKBONE = re.compile(
    r"conv1(_bn)?|conv_((dw|pw)_)?\d+(_bn)?"  # MobileNetV1
    r"|Conv1|bn_Conv1|Conv_1(_bn)?|(expanded_conv|block_\d+)_(expand|depthwise|project)(_BN)?"  # MobileNetV2
)
_V2_ALPHAS = (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)


@dataclass
class Plan:
    """Values for a model's variables, and the layers that stay as they are.

    Attributes:
        values: (variable, array of its shape) in the order of the layers.
        left: Names of the layers whose weights the file does not give.
    """

    values: list[tuple[Any, np.ndarray]] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    def carry_out(self, source: str, stacklevel: int) -> None:
        """Assigns the values, and warns of the layers that are left; `stacklevel` as in `warnings.warn`."""
        for variable, value in self.values:
            variable.assign(value)
        if self.left:
            warnings.warn(
                f"{source} has no weights that fit {', '.join(f'`{name}`' for name in self.left)}: left at their "
                "initial values, to be trained.",
                stacklevel=stacklevel,
            )


def weighted_layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """The layers that own weights, in the model's order; those of nested models in their place."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from weighted_layers(layer)
        elif layer.weights:
            yield layer


def shapes_of(layer: keras.layers.Layer) -> list[Shape]:
    """Shape of each of a layer's weights."""
    return [tuple(weight.shape) for weight in layer.weights]


def match(model: keras.Model, stored: Shapes, source: str) -> tuple[list[keras.layers.Layer], list[str]]:
    """Finds a file's layers in a model by name.

    The backbone has to fit as a whole. A head may differ: its layers are left out where the file has none of that name
    and shape. Layers that only the file has are passed over.

    Args:
        model: The model to be given weights.
        stored: Shapes of the file's weights by layer name.
        source: The file, for the error.

    Returns:
        The layers that the file fits, and the names of those it leaves out.

    Raises:
        ValueError: The backbone does not fit, or nothing does.
    """
    layers = list(weighted_layers(model))
    fitting = [layer for layer in layers if list(stored.get(layer.name, ())) == shapes_of(layer)]
    others = [layer for layer in layers if layer not in fitting]
    backbone = [layer for layer in others if _BACKBONE.fullmatch(layer.name)]
    if not any(_BACKBONE.fullmatch(layer.name) for layer in layers):
        backbone = others  # a model of one's own, of which nothing is known
    if backbone or not fitting:
        raise misfit(model, source, describe(stored), _differences(backbone or others, stored))
    return fitting, [layer.name for layer in others]


def misfit(model: keras.Model, source: str, holds: str, differences: str) -> ValueError:
    """The error for a file of another network than the model's."""
    wants = describe({layer.name: shapes_of(layer) for layer in weighted_layers(model)})
    return ValueError(
        f"{source} does not fit the model `{model.name}`: {differences}. The file holds {holds}; the model is {wants}. "
        "Build the network that the file was made for, pass a file of this one, or leave the weights out "
        "(`weights=None`). The model is unchanged."
    )


def _differences(layers: Sequence[keras.layers.Layer], stored: Shapes) -> str:
    first = layers[0]
    found = f"shapes {_text(stored[first.name])}" if first.name in stored else "no weights of that name"
    more = f", and {len(layers) - 1} more layers differ" if len(layers) > 1 else ""
    return f"for `{first.name}` it has {found}, the model wants {_text(shapes_of(first))}{more}"


def describe(shapes: Shapes) -> str:
    """Says which network layers of these names and shapes make up, as far as they tell."""
    alpha: float | None
    if "conv_pw_13" in shapes:
        network, alpha = "MobileNetV1", shapes["conv_pw_13"][0][-1] / 1024
    elif "block_16_project" in shapes:
        filters = shapes["block_16_project"][0][-1]
        network = "MobileNetV2"
        alpha = next((a for a in _V2_ALPHAS if blocks.make_divisible(int(320 * a)) == filters), None)
    else:
        names = ", ".join(f"`{name}`" for name in list(shapes)[:3])
        return f"{len(shapes)} layers with weights" + (f", such as {names}" if names else "")
    width = f" with alpha={alpha:g}" if alpha else " of another width"
    top = next((shapes[name][-1][-1] for name in ("conv_preds", "predictions") if name in shapes), None)
    return network + width + (f" and {top} classes" if top else " without the published classifier")


def _text(shapes: Sequence[Shape]) -> str:
    return " ".join(str(shape) for shape in dict.fromkeys(shapes))
