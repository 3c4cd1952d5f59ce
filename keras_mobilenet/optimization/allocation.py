"""How the sparsity of a model is shared out among its kernels."""

from collections.abc import Sequence

import numpy as np

ALLOCATIONS = ("uniform", "lamp")


def sparsities(kernels: Sequence[np.ndarray], sparsity: float, allocation: str) -> list[float]:
    """The sparsity of each kernel, so that together they have the one that is asked for.

    Args:
        kernels: Float arrays of any shape.
        sparsity: Share of all their weights that are to be zero, 0 to below 1.
        allocation: One of ALLOCATIONS. "uniform": each kernel has that share. "lamp": the weights with the smallest
            scores go, wherever they are. A weight's score is its square over the sum of the squares that are no
            smaller in its kernel, so that large kernels, which have weights to spare, give more than small ones.

    Returns:
        A share for each kernel, 0 to below 1.

    Source: arXiv:2010.07611 (LAMP), equation 4.
    """
    if allocation == "uniform":
        return [sparsity] * len(kernels)
    scores = [_lamp_scores(kernel) for kernel in kernels]
    together = np.sort(np.concatenate(scores))
    threshold = together[min(round(sparsity * together.size), together.size - 1)]
    return [float(np.mean(score < threshold)) for score in scores]


def _lamp_scores(kernel: np.ndarray) -> np.ndarray:
    """Scores of a kernel's weights, from the smallest weight to the largest, whose score is 1."""
    squares = np.sort(np.square(np.asarray(kernel, np.float64)), axis=None)
    no_smaller = np.cumsum(squares[::-1])[::-1]
    return np.divide(squares, no_smaller, out=np.ones_like(squares), where=no_smaller > 0)
