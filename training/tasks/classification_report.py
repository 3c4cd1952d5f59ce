"""What a report says of a classifier."""

import os
from collections.abc import Mapping
from html import escape

import numpy as np

from training import charts, data
from training.thumbnails import thumbnail


def confusion(row: str, kept: Mapping[str, np.ndarray], split: data.Split) -> tuple[str, str]:
    """The confusion matrix; the arguments are those of `Task.sections`."""
    classes = len(split.class_names)
    matrix = np.bincount(kept["labels"] * classes + kept["predicted"], minlength=classes**2).reshape(classes, classes)
    return (
        f"Confusion matrix ({row}, {len(kept['labels']):,} test pictures)",
        charts.confusion(matrix, split.class_names),
    )


def worst(row: str, kept: Mapping[str, np.ndarray], split: data.Split, count: int) -> tuple[str, str]:
    """The wrong answers with the least probability for the right class."""
    wrong = np.flatnonzero(kept["labels"] != kept["predicted"])
    wrong = wrong[np.argsort(kept["probability"][wrong], kind="stable")][:count]
    figures = [
        f"<figure>{charts.image(thumbnail(split.read(int(index))[0]))}<figcaption>"
        f"{escape(split.class_names[kept['labels'][index]])} ({kept['probability'][index]:.1%}), taken for "
        f"{escape(split.class_names[kept['predicted'][index]])} ({kept['highest'][index]:.1%})<br>"
        f"{escape(os.path.basename(split.where(int(index))))}</figcaption></figure>"
        for index in wrong
    ]
    return f"Worst pictures ({row})", "".join(figures) or "<p>No answer is wrong.</p>"
