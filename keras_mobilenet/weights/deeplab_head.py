"""Which operator of a DeepLabv3 `.tflite` file is which layer of the head.

The file lists the branches in any order, and two of them may have kernels of one shape; where they read and how far
their taps are apart tells them from one another.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar

import keras
import numpy as np

from keras_mobilenet import tflite_file

_BRANCHES = ("image_pooling", "aspp0", "aspp1", "aspp2", "aspp3")
_PROJECTION, _LOGITS = "concat_projection", "logits"
NAMES = (*_BRANCHES, _PROJECTION, _LOGITS)
_BETWEEN = ("QUANTIZE", "RESIZE_BILINEAR", "RELU")  # a branch's convolution and where the branches are joined


class Convolution(Protocol):
    """What is asked of an operator: see `tflite.Stored`."""

    @property
    def kernel(self) -> np.ndarray:
        """[out, h, w, in]."""

    @property
    def dilation(self) -> int:
        """Distance of the kernel's taps, in pixels."""

    @property
    def pooled(self) -> bool:
        """Whether it reads a single pixel."""


_Convolution = TypeVar("_Convolution", bound=Convolution)


def is_segmenter(model: keras.Model) -> bool:
    """Whether a model has DeepLabv3's head."""
    return any(layer.name == _PROJECTION for layer in model.layers)


def by_name(stored: Sequence[_Convolution]) -> Mapping[str, _Convolution]:
    """Names the convolutions behind the backbone; an operator that no branch can be is left out.

    Args:
        stored: Those of the file in its order; empty where it has no head.

    Returns:
        Layer name -> convolution.
    """
    if len(stored) < 4:
        return {}
    *branches, projection, logits = stored
    found = {_PROJECTION: projection, _LOGITS: logits}
    pooled = [branch for branch in branches if branch.pooled]
    whole = [branch for branch in branches if not branch.pooled]
    pointwise = [branch for branch in whole if branch.kernel.shape[1:3] == (1, 1)]
    atrous = sorted((b for b in whole if b.kernel.shape[1:3] == (3, 3)), key=lambda branch: branch.dilation)
    if len(pooled) == len(pointwise) == 1:
        found |= {"image_pooling": pooled[0], "aspp0": pointwise[0]}
    return found | {f"aspp{number}": branch for number, branch in enumerate(atrous, start=1)}


def other_order(graph: tflite_file.Subgraph) -> str | None:
    """What is wrong with the order in which the branches are joined, of which the pooled picture has to be the first.

    Args:
        graph: The file's graph; one that joins nothing is right.

    Returns:
        The words for an error, or None.
    """
    makers = {output: operator for operator in graph.operators for output in operator.outputs}
    for operator in graph.operators:
        if operator.name == "CONCATENATION":
            maker = makers.get(operator.inputs[0])
            while maker is not None and maker.name in _BETWEEN:
                maker = makers.get(maker.inputs[0])
            image = graph.input_tensors(maker)[0] if maker is not None else None
            if image is None or tuple(image.shape[1:3]) != (1, 1):
                return "it joins its branches in another order, not the pooled picture first"
    return None
