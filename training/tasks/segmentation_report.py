"""What a report says of a segmenter."""

import io
import os
from collections.abc import Mapping
from html import escape

import numpy as np
import tensorflow as tf
from PIL import Image

from keras_mobilenet.segmentation import VOID
from training import charts, data
from training.data.masks import read_mask
from training.thumbnails import thumbnail

SIDE = 288  # of a picture, in pixels
LEAST_SHARE = 0.01  # of a picture, for a class to be named


def by_class(row: str, kept: Mapping[str, np.ndarray], split: data.Split) -> tuple[str, str]:
    """IoU of each class that is there or was found; the arguments are those of `Task.sections`."""
    values = zip(split.class_names, kept["by_class"].tolist(), strict=True)
    return f"IoU by class ({row})", charts.bars({name: value for name, value in values if value == value}, "IoU")


def pictures(row: str, kept: Mapping[str, np.ndarray], split: data.Split, count: int) -> tuple[str, str]:
    """The first pictures, with the right classes laid over them, and beside them with those that were found."""
    figures = []
    for index in range(min(count, split.count)):
        contents, encoded = split.read(index)
        right = read_mask(encoded)
        found = _uncut(kept["class_maps"][index], right.shape)
        sides = [charts.image(_laid_over(contents, mask)) for mask in (right, found)]
        numbers, pixels = np.unique(found, return_counts=True)
        named = [split.class_names[n] for n, p in zip(numbers, pixels, strict=True) if p >= LEAST_SHARE * found.size]
        caption = f"{escape(', '.join(named))}<br>{escape(os.path.basename(split.where(index)))}"
        figures.append(f"<figure>{''.join(sides)}<figcaption>{caption}</figcaption></figure>")
    return f"Pictures ({row}; left the right classes, right those found)", "".join(figures)


def _uncut(class_map: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """What lies over the picture in the network's input, without the padding."""
    shrink = min(1.0, class_map.shape[0] / shape[0], class_map.shape[1] / shape[1])
    return class_map[: max(1, round(shape[0] * shrink)), : max(1, round(shape[1] * shrink))]


def _laid_over(contents: bytes, mask: np.ndarray) -> bytes:
    with Image.open(io.BytesIO(thumbnail(contents, SIDE))) as image:
        pixels = np.asarray(image.convert("RGB"), np.float32)
    height, width = pixels.shape[:2]
    mask = np.asarray(Image.fromarray(mask.astype(np.uint8)).resize((width, height), Image.Resampling.NEAREST))
    hues = (np.arange(256) * 0.618034) % 1  # neighbouring classes get distant colours
    colours = tf.image.hsv_to_rgb(np.stack([hues, np.full(256, 0.9), np.full(256, 0.9)], -1)).numpy() * 255
    clear = ((mask == 0) | (mask == VOID))[..., None]
    mixed = np.where(clear, pixels, 0.4 * pixels + 0.6 * colours[mask])
    return tf.io.encode_png(mixed.astype(np.uint8)).numpy()
