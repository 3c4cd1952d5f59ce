"""What ReLU does to a curve that lies in n dimensions: figure 1 of the MobileNetV2 paper, and its loss in figures."""

from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from training.paper import document

DIMENSIONS = (2, 3, 5, 15, 30)
POINTS = 600
FIGURE = "manifold.png"
DOCUMENT = "manifold.md"


def spiral(points: int = POINTS, turns: float = 3.0) -> np.ndarray:
    """A spiral around the origin, float64 [points, 2], at most 1 from it."""
    position = np.arange(1, points + 1) / points  # whole turns: every direction is there equally often
    angle = 2 * np.pi * turns * position
    return position[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)


@dataclass(frozen=True)
class Loss:
    """What one random matrix T loses of a curve x by ReLU(T x).

    Attributes:
        collapsed: Share of the points at which fewer than two of the n outputs are above 0. Around such a point
            ReLU(T x) does not depend on some direction of x, so that no decoder can tell its neighbours apart.
        linear_error: Distance of the points to the best linear reconstruction (least squares, with a constant) over
            their distance to their mean; root of the mean of squares, 0 to 1.
        inverse_error: The same for the figure's own reconstruction with the pseudoinverse of T.
    """

    collapsed: float
    linear_error: float
    inverse_error: float


def through(curve: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """ReLU(T x) of every point.

    Args:
        curve: [points, 2].
        matrix: T, [n, 2].

    Returns:
        [points, n].
    """
    return np.maximum(curve @ matrix.T, 0)


def loss(curve: np.ndarray, matrix: np.ndarray) -> Loss:
    """Measures what a matrix loses of a curve."""
    outputs = through(curve, matrix)
    extended = np.concatenate([outputs, np.ones((len(outputs), 1))], axis=1)
    # Least squares by the normal equations: a decomposition of (n + 1) x (n + 1) values instead of all points.
    best = extended @ (np.linalg.pinv(extended.T @ extended, hermitian=True) @ (extended.T @ curve))
    inverse = outputs @ np.linalg.pinv(matrix).T
    spread = np.linalg.norm(curve - curve.mean(axis=0))
    return Loss(
        collapsed=float(np.mean(np.count_nonzero(outputs, axis=1) < 2)),
        linear_error=float(np.linalg.norm(curve - best) / spread),
        inverse_error=float(np.linalg.norm(curve - inverse) / spread),
    )


def matrices(dimensions: int, count: int, seed: int) -> np.ndarray:
    """Random T with entries from a normal distribution, [count, dimensions, 2]."""
    return np.random.default_rng([seed, dimensions]).normal(size=(count, dimensions, 2))


def losses(dimensions: int, count: int, seed: int = 0) -> list[Loss]:
    """The losses of many random matrices."""
    curve = spiral()
    return [loss(curve, matrix) for matrix in matrices(dimensions, count, seed)]


def expected_collapse(dimensions: int) -> float:
    """The share of points that collapse in the mean over all T: each output is above 0 with probability 1/2.

    Example: `expected_collapse(3)` is 0.5.
    """
    return (dimensions + 1) / 2**dimensions


def draw(seed: int = 0) -> Figure:
    """The paper's figure: the spiral, and what comes back from n dimensions by the pseudoinverse."""
    curve = spiral()
    figure, axes = plt.subplots(1, 1 + len(DIMENSIONS), figsize=(13, 2.6), layout="constrained")
    colors = np.linspace(0, 1, len(curve))
    panels = [("input", curve)]
    for dimensions in DIMENSIONS:
        matrix = matrices(dimensions, 1, seed)[0]
        back = through(curve, matrix) @ np.linalg.pinv(matrix).T
        panels.append((f"n = {dimensions}", back))
    for axis, (title, points) in zip(axes, panels, strict=True):
        axis.scatter(points[:, 0], points[:, 1], s=3, c=colors, cmap="viridis")
        axis.set_title(title)
        axis.set_aspect("equal", adjustable="datalim")
        axis.set_xticks([])
        axis.set_yticks([])
    return figure


def text(count: int, seed: int) -> str:
    """The table of the losses as Markdown."""
    rows = []
    for dimensions in DIMENSIONS:
        found = losses(dimensions, count, seed)
        rows.append(
            [
                str(dimensions),
                f"{100 * expected_collapse(dimensions):.2f}",
                *(
                    _spread([getattr(one, name) for one in found])
                    for name in ("collapsed", "linear_error", "inverse_error")
                ),
            ]
        )
    titles = ["n", "collapsed in theory, mean", "collapsed", "error of the best linear decoder", "error of T⁺"]
    return f"""# What ReLU loses in n dimensions

{document.stamp()}

![The spiral, and what comes back]({FIGURE})

arXiv:1801.04381, figure 1: a spiral of {POINTS:,} points in the plane goes through a random matrix T into n dimensions
and through ReLU, and comes back by T⁺. Over {count:,} random T for each n (seed {seed}), in percent: mean; median
(first to third quartile).

{document.table(titles, rows)}
A point has collapsed where fewer than two of its n outputs are above 0: the neighbours of such a point can't be told
apart any more. Errors are distances relative to the spread of the spiral. With n = 2 and 3 most or half of the points
collapse; from n = 15 on hardly any does, and a linear decoder restores the spiral from the outputs. T⁺ itself never
does: ReLU lets only half of each line through, so that what comes back is about half as large and bent, however many
dimensions there are. The figure shows the bending, not the loss.
"""


def _spread(values: list[float]) -> str:
    first, middle, third = (100 * value for value in np.quantile(values, [0.25, 0.5, 0.75]))
    return f"{100 * np.mean(values):.2f}; {middle:.1f} ({first:.1f} to {third:.1f})"


def run(output_dir: Path, count: int, seed: int) -> None:
    """Writes the figure and the table."""
    document.save(output_dir, FIGURE, draw(seed))
    document.write(output_dir, DOCUMENT, text(count, seed))
