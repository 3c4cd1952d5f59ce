"""What every export asks of a model's input and of the labels."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import keras

from keras_mobilenet import graph
from keras_mobilenet.arguments import MIN_SIZE
from keras_mobilenet.detection.head import head_of
from keras_mobilenet.export.signatures import is_classifier
from keras_mobilenet.segmentation import is_segmenter


def image_size(model: keras.Model, asked: tuple[int, int] | None) -> tuple[int, int]:
    """Height and width of the pictures that an export reads.

    Args:
        model: Keras model.
        asked: (height, width) in pixels, for a model whose input size is open; else None.

    Raises:
        ValueError: The model has no graph, does not read pictures, its size is open, or `asked` does not fit.
    """
    graph.functional(model)
    if len(model.inputs) != 1 or len(model.input_shape) != 4 or model.input_shape[-1] != 3:
        raise ValueError(
            f"`{model.name}` reads {[tuple(x.shape) for x in model.inputs]}, but an export takes pictures: one input "
            "of shape (N, height, width, 3)."
        )
    fixed = model.input_shape[1:3]
    size = tuple(asked) if asked is not None else fixed
    if None not in size and min(size) < MIN_SIZE:
        raise ValueError(f"`image_size={size}` is too small: pass (height, width) of at least {MIN_SIZE} pixels each.")
    if None in size:
        raise ValueError(
            f"The input size of `{model.name}` is open: pass `image_size=(height, width)`, such as (224, 224)."
        )
    if len(size) != 2 or any(side not in (None, given) for side, given in zip(fixed, size, strict=True)):
        raise ValueError(f"`image_size={size}` does not fit `{model.name}`, which reads {fixed}: leave it out.")
    return int(size[0]), int(size[1])


def labels(model: keras.Model, given: Sequence[str] | str | PathLike[str] | None) -> list[str] | None:
    """Names of the classes.

    Args:
        model: Keras model.
        given: Name of each class, a text file with one a line, or None.

    Raises:
        ValueError: The model has no classes, or another number of them.
    """
    if given is None:
        return None
    if isinstance(given, str | PathLike):
        names = Path(given).read_text(encoding="utf-8").splitlines()
    else:
        names = [str(label) for label in given]
    number = classes(model)
    if number is None:
        raise ValueError(f"`labels` were passed, but `{model.name}` is no classifier: leave them out.")
    if len(names) != number:
        raise ValueError(
            f"{len(names)} labels don't fit the {number} classes of `{model.name}`: pass one for each class, in the "
            "order of the outputs."
        )
    return names


def classes(model: keras.Model) -> int | None:
    """How many classes a model knows, a detector's background not counted; None where it has no classes."""
    if head := head_of(model):
        return head.classes
    return int(model.output_shape[-1]) if is_classifier(model) or is_segmenter(model) else None
