"""Charts of a report, as SVG or PNG inside the page."""

import base64
import io
from collections.abc import Mapping, Sequence

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

ROW_INCHES = 0.17  # of a bar with its name


def curves(stages: Mapping[str, Sequence[Mapping[str, float]]], metric: str = "accuracy") -> str:
    """Loss and a task's figure over the epochs of all stages, one behind the other.

    Args:
        stages: Stage -> rows of its history.
        metric: Name of the figure in validation; in training, where it is counted there, with `training_` before it.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.2), layout="constrained")
    before = 0
    for stage, rows in stages.items():
        epochs = [before + row["epoch"] for row in rows]
        left.plot(epochs, [row["loss"] for row in rows], marker=".", label=stage)
        color = left.lines[-1].get_color()
        if rows and f"training_{metric}" in rows[0]:
            right.plot(epochs, [row[f"training_{metric}"] for row in rows], linestyle=":", marker=".", color=color)
        seen = [(epoch, row[metric]) for epoch, row in zip(epochs, rows, strict=True) if metric in row]
        if seen:
            right.plot(*zip(*seen, strict=True), marker=".", color=color, label=f"{stage}, validation")
        before += len(rows)
    left.set(xlabel="epoch", ylabel="training loss")
    right.set(xlabel="epoch", ylabel=f"{metric} (dotted: training)")
    for axes in (left, right):
        if axes.get_legend_handles_labels()[0]:
            axes.legend()
    return _svg(figure)


def confusion(matrix: np.ndarray, names: Sequence[str]) -> str:
    """A confusion matrix, each row as shares of its class."""
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    size = min(3 + 0.35 * len(names), 12)
    figure, axes = plt.subplots(figsize=(size, size), layout="constrained")
    axes.imshow(shares, vmin=0, vmax=1, cmap="Blues")
    axes.set(xlabel="answer", ylabel="class")
    if len(names) <= 40:
        axes.set_xticks(range(len(names)), names, rotation=90)
        axes.set_yticks(range(len(names)), names)
    if len(names) <= 12:
        for row, column in np.argwhere(matrix):
            color = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(matrix[row, column]), ha="center", va="center", color=color, fontsize=8)
    return _png(figure)


def bars(values: Mapping[str, float], label: str) -> str:
    """A bar for each layer, the first on top."""
    figure, axes = plt.subplots(figsize=(8, 0.8 + ROW_INCHES * len(values)), layout="constrained")
    axes.barh(list(values), list(values.values()), height=0.7)
    axes.invert_yaxis()
    axes.margins(y=0.01)
    axes.tick_params(axis="y", labelsize=7)
    axes.set_xlabel(label)
    axes.grid(axis="x", alpha=0.3)
    return _svg(figure)


def image(png: bytes) -> str:
    """A PNG file as an element of the page."""
    return f'<img alt="" src="data:image/png;base64,{base64.b64encode(png).decode()}">'


def _svg(figure: Figure) -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg")
    plt.close(figure)
    return text.getvalue().partition("<svg")[1] + text.getvalue().partition("<svg")[2]


def _png(figure: Figure) -> str:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110)
    plt.close(figure)
    return image(content.getvalue())
