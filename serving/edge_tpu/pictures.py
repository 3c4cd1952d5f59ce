"""Pictures in and overlays out."""

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageOps

MAX_PIXELS = 64_000_000
_OVERLAY_WEIGHT = 0.5


def read(path: str | os.PathLike[str]) -> Image.Image:
    """Reads a picture as RGB, turned the way its EXIF says.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is no picture, is truncated, or has more than 64 million pixels.
    """
    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{path} has {image.width} x {image.height} pixels; up to {MAX_PIXELS:,} are read")
            return ImageOps.exif_transpose(image).convert("RGB")
    except FileNotFoundError:
        raise
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} isn't a picture that can be read: {error}") from error


def resized(image: Image.Image, size: tuple[int, int]) -> np.ndarray:
    """Returns uint8 pixels [1, height, width, 3]; bilinear, over all pixels where the picture shrinks."""
    height, width = size
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))[None]


def palette(classes: int) -> np.ndarray:
    """The colours of PASCAL VOC's masks, uint8 [classes, 3]: the bits of the number spread over the channels."""
    numbers = np.arange(classes)
    colours = np.zeros((classes, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= (((numbers >> channel) & 1) << (7 - bit)).astype(np.uint8)
        numbers = numbers >> 3
    return colours


def lay_over(image: Image.Image, mask: np.ndarray) -> Image.Image:
    """Lays the colours of a mask over a picture; class 0, the background, stays clear.

    Args:
        image: The picture.
        mask: Class numbers [height, width], in any size.
    """
    mask = np.asarray(Image.fromarray(mask.astype(np.uint8)).resize(image.size, Image.Resampling.NEAREST))
    pixels = np.asarray(image)
    mixed = pixels * (1 - _OVERLAY_WEIGHT) + palette(256)[mask] * _OVERLAY_WEIGHT
    return Image.fromarray(np.where(mask[..., None] == 0, pixels, mixed).astype(np.uint8))


def draw_boxes(image: Image.Image, boxes: Iterable[tuple[tuple[int, int, int, int], str]]) -> Image.Image:
    """Draws boxes (left, top, right, bottom) with their captions."""
    drawn = image.copy()
    draw = ImageDraw.Draw(drawn)
    width = max(2, round(min(image.size) / 200))
    for box, caption in boxes:
        draw.rectangle(box, outline=(255, 64, 0), width=width)
        draw.text(
            (box[0] + width + 1, box[1] + width), caption, fill=(255, 255, 255), stroke_width=2, stroke_fill=(0, 0, 0)
        )
    return drawn


def write(image: Image.Image, path: Path, overwrite: bool) -> None:
    """Writes a PNG.

    Raises:
        FileExistsError: If the file is there and `overwrite` is False.
    """
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists: name another --output_dir, or add --overwrite")
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, "PNG")
