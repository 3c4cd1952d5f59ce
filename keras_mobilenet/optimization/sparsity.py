"""How many weights of a model are zero."""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_mobilenet import graph
from keras_mobilenet.optimization.pruning import kernels


@dataclass(frozen=True)
class KernelSparsity:
    """Zeros of one kernel.

    Attributes:
        layer: Name of the layer.
        shape: Shape of the kernel.
        weights: Number of its weights.
        zeros: How many of them are exactly zero.
        two_of_four: Whether of each 4 weights in a row along the input channels at least 2 are zero, as 2:4 hardware
            and kernels want it.
    """

    layer: str
    shape: tuple[int, ...]
    weights: int
    zeros: int
    two_of_four: bool

    @property
    def sparsity(self) -> float:
        """Share of zeros, 0 to 1."""
        return self.zeros / self.weights if self.weights else 0.0


@dataclass(frozen=True)
class ModelSparsity:
    """Zeros of a model's kernels; printed, it is a table.

    Attributes:
        name: Name of the model.
        layers: One row for each kernel of a convolution (depthwise too) or dense layer, in the order of the model.
    """

    name: str
    layers: tuple[KernelSparsity, ...]

    @property
    def weights(self) -> int:
        """Number of weights in all kernels; biases and batch norm aren't among them."""
        return sum(row.weights for row in self.layers)

    @property
    def zeros(self) -> int:
        """Number of zeros in all kernels."""
        return sum(row.zeros for row in self.layers)

    @property
    def sparsity(self) -> float:
        """Share of zeros in all kernels, 0 to 1."""
        return self.zeros / self.weights if self.weights else 0.0

    def __str__(self) -> str:
        table = [["layer", "kernel", "weights", "zeros", "sparsity", "2:4"]]
        for row in self.layers:
            table.append([row.layer, " x ".join(map(str, row.shape)), *_figures(row), "yes" if row.two_of_four else ""])
        table.append(["total", "", *_figures(self), ""])
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = [
            "  ".join(
                cell.rjust(width) if 2 <= i <= 4 else cell.ljust(width)
                for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
            ).rstrip()
            for cells in table
        ]
        rule = "-" * max(map(len, lines))
        return "\n".join([self.name, lines[0], rule, *lines[1:-1], rule, lines[-1]])


def sparsity(model: keras.Model) -> ModelSparsity:
    """Counts the zeros in the kernels of a model, pruned by `km.prune` or not.

    Args:
        model: Any built Keras model.

    Returns:
        The share of zeros, in total and kernel by kernel.

    Raises:
        ValueError: The model has no weights yet.

    Example:
    ```python
    report = km.sparsity(pruned)
    print(f"{report.sparsity:.1%}")
    print(report)  # the table
    ```
    """
    if not model.built:
        raise ValueError(f"`{model.name}` has no weights yet: call it on a batch, or build it, first.")
    rows = []
    for layer in graph.sublayers(model):
        for kernel in kernels(layer):
            rows.append(_row(layer.name, np.asarray(getattr(layer, kernel.weight))))
    return ModelSparsity(model.name, tuple(rows))


def _row(name: str, kernel: np.ndarray) -> KernelSparsity:
    zeros = kernel.size - int(np.count_nonzero(kernel))
    return KernelSparsity(name, kernel.shape, kernel.size, zeros, _is_two_of_four(kernel))


def _is_two_of_four(kernel: np.ndarray) -> bool:
    inputs_last = np.moveaxis(kernel, -2, -1) != 0
    filled = np.pad(inputs_last, [(0, 0)] * (kernel.ndim - 1) + [(0, -inputs_last.shape[-1] % 4)])
    return bool((filled.reshape(-1, 4).sum(axis=-1) <= 2).all())


def _figures(row: Any) -> list[str]:
    return [f"{row.weights:,}", f"{row.zeros:,}", f"{row.sparsity:.1%}"]
