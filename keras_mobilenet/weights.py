"""Weights of the networks: the files that Keras publishes, local files, and quantized TFLite files."""

from os import PathLike
from typing import Any


def initialize(
    model: Any, weights: str | PathLike[str] | None, *, network: str, alpha: float, include_top: bool
) -> None:
    """Gives a freshly built network its weights."""
    if weights is not None:
        raise NotImplementedError
