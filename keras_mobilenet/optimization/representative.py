"""Pictures that stand for those a model will see."""

import itertools
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from keras_mobilenet.preprocessing import preprocess_input

MAX_PICTURES = 512
_OVERSHOOT = 0.05  # beyond [-1, 1], as resizing leaves it
_TWICE_SCALED = -0.99  # 255 / 127.5 - 1 is 1, and 1 / 127.5 - 1 is -0.992


def representative_pictures(data: Any, shape: tuple[int | None, ...]) -> np.ndarray:
    """Collects pictures and checks that they are as the model reads them.

    Args:
        data: Float pictures in [-1, 1], or uint8 ones, which are scaled: an array [N, H, W, C], a `tf.data.Dataset`, an
            iterable of pictures or batches, or a function that returns one. Of a tuple or a list (pictures, labels) the
            first is taken, of a dict the only one.
        shape: What the model reads, (batch, height, width, channels); None for an open size.

    Returns:
        float32 [N, H, W, C], at most the first 512.

    Raises:
        ValueError: There are no pictures, or they have another shape, another range, or values that are not finite.
    """
    batches: list[np.ndarray] = []
    for batch in _batches(data):
        batches.append(_checked_shape(batch, shape))
        if sum(map(len, batches)) >= MAX_PICTURES:
            break
    if not sum(map(len, batches)):
        raise ValueError("`representative_data` holds no picture: pass a few hundred, as the model reads them.")
    pictures = np.concatenate(batches)[:MAX_PICTURES]
    _check_range(pictures)
    return pictures


def _batches(data: Any) -> Iterator[np.ndarray]:
    """Batches as float32; uint8 ones are scaled."""
    if callable(data) and not hasattr(data, "__iter__"):
        data = data()
    if isinstance(data, tuple | dict) or hasattr(data, "__array__"):
        data = [data]
    try:
        elements = iter(data)
    except TypeError as error:
        raise ValueError(
            f"`representative_data` is of type {type(data).__name__}: pass an array of pictures, a tf.data.Dataset or "
            "an iterable of batches."
        ) from error
    for element in itertools.islice(elements, MAX_PICTURES):
        yield _floats(_only_pictures(element))


def _only_pictures(element: Any) -> Any:
    if isinstance(element, dict) and len(element) == 1:
        return next(iter(element.values()))
    if isinstance(element, tuple | list) and len(element) and np.ndim(element[0]) >= 3:
        return element[0]
    return element


def _floats(pictures: Any) -> np.ndarray:
    try:
        values = np.asarray(pictures)
    except ValueError as error:
        raise ValueError(f"`representative_data` holds pictures of different shapes: {error}") from error
    if values.dtype == np.uint8:
        return preprocess_input(values)
    if values.dtype.kind != "f":
        raise ValueError(
            f"`representative_data` has the dtype {values.dtype}: pass float pictures in [-1, 1], or uint8 ones."
        )
    return values.astype(np.float32)


def _checked_shape(batch: np.ndarray, shape: tuple[int | None, ...]) -> np.ndarray:
    wanted = shape[1:]
    batch = batch[None] if batch.ndim == len(wanted) else batch
    if batch.ndim != len(shape) or any(
        side not in (None, got) for side, got in zip(wanted, batch.shape[1:], strict=True)
    ):
        raise ValueError(
            f"`representative_data` holds pictures of shape {batch.shape}, but the model reads "
            f"(N, {', '.join(map(str, wanted))}): resize them with km.resize, or pass batches of such pictures."
        )
    return batch


def _check_range(pictures: np.ndarray) -> None:
    if not np.isfinite(pictures).all():
        raise ValueError(
            "`representative_data` holds values that are not finite (NaN or infinite): look for the picture."
        )
    low, high = float(pictures.min()), float(pictures.max())
    if low < -1 - _OVERSHOOT or high > 1 + _OVERSHOOT:
        raise ValueError(
            f"`representative_data` has values from {low:g} to {high:g}, but the model reads [-1, 1]: pass it through "
            "km.preprocess_input, or pass uint8 pictures as they are."
        )
    if high <= _TWICE_SCALED:
        raise ValueError(
            f"`representative_data` has values from {low:g} to {high:g}, nothing but black: were pictures scaled to "
            "[-1, 1] twice? Pass them as the model reads them."
        )
    if low >= 0 and high > 0:
        warnings.warn(
            f"`representative_data` has values from {low:g} to {high:g}, none below zero: pictures scaled to [0, 1] do "
            "not fit a model that reads [-1, 1].",
            stacklevel=2,
        )
