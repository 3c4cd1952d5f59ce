"""What a report says of a detector."""

import io
import os
from collections.abc import Mapping
from html import escape

import numpy as np
import tensorflow as tf
from PIL import Image, ImageDraw

from training import charts, data
from training.thumbnails import thumbnail

LEAST_SCORE = 0.3  # of a box that is drawn
SIDE = 288  # of a picture, in pixels


def by_class(row: str, kept: Mapping[str, np.ndarray], split: data.Split) -> tuple[str, str]:
    """Average precision of each class that there are objects of; the arguments are those of `Task.sections`."""
    values = zip(split.class_names, kept["by_class"].tolist(), strict=True)
    known = {name: value for name, value in values if value == value}
    return f"Average precision by class ({row})", charts.bars(known, "AP")


def pictures(row: str, kept: Mapping[str, np.ndarray], split: data.Split, count: int) -> tuple[str, str]:
    """The first pictures, with the right boxes in green and those found in red."""
    ends = np.cumsum(kept["counts"])
    figures = []
    for index in range(min(count, split.count)):
        contents, truth = split.read(index)
        own = slice(ends[index] - kept["counts"][index], ends[index])
        sure = kept["scores"][own] >= LEAST_SCORE
        classes, scores = kept["classes"][own][sure], kept["scores"][own][sure]
        drawn = _drawn(contents, truth.corners, kept["corners"][own][sure])
        found = ", ".join(f"{split.class_names[c]} {s:.0%}" for c, s in zip(classes, scores, strict=True))
        caption = f"{escape(found) or 'nothing'}<br>{escape(os.path.basename(split.where(index)))}"
        figures.append(f"<figure>{charts.image(drawn)}<figcaption>{caption}</figcaption></figure>")
    return f"Pictures ({row}; right boxes green, found ones red)", "".join(figures)


def _drawn(contents: bytes, right: np.ndarray, found: np.ndarray) -> bytes:
    image = Image.open(io.BytesIO(thumbnail(contents, SIDE)))
    canvas = ImageDraw.Draw(image)
    for boxes, colour in ((right, (0, 200, 0)), (found, (230, 0, 0))):
        for ymin, xmin, ymax, xmax in np.clip(boxes, 0, 1) * (image.height, image.width, image.height, image.width):
            canvas.rectangle((xmin, ymin, max(xmax - 1, xmin), max(ymax - 1, ymin)), outline=colour, width=2)
    return tf.io.encode_png(np.asarray(image)).numpy()
