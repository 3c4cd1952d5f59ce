"""The embedded data set with boxes or masks: drawn circles, squares and triangles."""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from training.data.boxes import Boxes
from training.data.pictures import Source, Split, whole

NAMES = ("circle", "square", "triangle")
SPLITS = {"train": 512, "validation": 64, "test": 64}
SIDE = 128  # of a picture, in pixels
MOST = 4  # shapes in a picture
SIDES = (24, 72)  # of a shape, in pixels
_FOUR = 4  # drawn so many times larger, for smooth edges


@dataclass(frozen=True)
class Drawings:
    """Pictures that are drawn when they are read; a picture's number is the seed of all that is on it."""

    first: int
    count: int

    def __len__(self) -> int:
        return self.count

    def read(self, number: int) -> tuple[bytes, Boxes]:
        """The encoded picture and its boxes."""
        return draw(self.first + number)

    def where(self, number: int) -> str:
        """The number of the drawing."""
        return f"drawing {self.first + number}"

    def fingerprint(self) -> str:
        """Which drawings these are."""
        return f"shapes {self.first} {self.count} {SIDE} {MOST} {SIDES}"


class MaskedDrawings(Drawings):
    """The same pictures with the class of each pixel: 0 for the ground, then those of `NAMES`."""

    def read(self, number: int) -> tuple[bytes, bytes]:
        """The encoded picture and its encoded mask."""
        contents, _, mask = _draw(self.first + number)
        return contents, _png(mask)


def load_shapes() -> Source:
    """Drawn circles, squares and triangles: 512 pictures for training, 64 for validation, 64 for the last figure.

    Each has one to four shapes, which hardly cover one another, on a ground of another colour with noise. They are the
    same in every run.
    """
    return _source(NAMES, Drawings)


def load_shape_masks() -> Source:
    """The pictures of `load_shapes`; labels are encoded masks."""
    return _source(("background", *NAMES), MaskedDrawings)


def _source(names: tuple[str, ...], drawings: type[Drawings]) -> Source:
    splits: dict[str, Split] = {}
    first = 0
    for name, count in SPLITS.items():
        splits[name] = whole(name, names, drawings(first, count))
        first += count
    return Source("shapes", names, splits)


def draw(seed: int) -> tuple[bytes, Boxes]:
    """One picture, as PNG, and its boxes."""
    return _draw(seed)[:2]


def _draw(seed: int) -> tuple[bytes, Boxes, np.ndarray]:
    """One picture, as PNG, its boxes, and the class of each of its pixels."""
    generator = np.random.default_rng(seed)
    ground = generator.integers(0, 256, 3)
    image = Image.new("RGB", (SIDE * _FOUR, SIDE * _FOUR), tuple(ground.tolist()))
    mask = Image.new("L", image.size)
    boxes, classes = [], []
    for _ in range(generator.integers(1, MOST + 1)):
        box = _place(generator, boxes)
        if box is None:
            continue
        colour = generator.integers(0, 256, 3)
        while np.abs(colour - ground).max() < 80:
            colour = generator.integers(0, 256, 3)
        kind = int(generator.integers(len(NAMES)))
        _shape(ImageDraw.Draw(image), kind, box * _FOUR, tuple(colour.tolist()))
        _shape(ImageDraw.Draw(mask), kind, box * _FOUR, kind + 1)
        boxes.append(box)
        classes.append(kind)
    pixels = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX), np.float32)
    pixels = np.clip(pixels + generator.normal(0, 8, pixels.shape), 0, 255).astype(np.uint8)
    middle = np.asarray(mask)[_FOUR // 2 :: _FOUR, _FOUR // 2 :: _FOUR]
    return _png(pixels), Boxes.of(np.array(boxes, np.float32) / SIDE, classes, size=(SIDE, SIDE)), middle


def _png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def _place(generator: np.random.Generator, others: list[np.ndarray]) -> np.ndarray | None:
    """A square place (top, left, bottom, right, in pixels) that covers little of the others; None after ten tries."""
    for _ in range(10):
        side = generator.integers(SIDES[0], SIDES[1] + 1)
        top, left = generator.integers(0, SIDE - side, 2, endpoint=True)
        box = np.array([top, left, top + side, left + side])
        if all(_common(box, other) < 0.1 * side**2 for other in others):
            return box
    return None


def _common(one: np.ndarray, other: np.ndarray) -> float:
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    return float(np.prod(np.maximum(sides, 0)))


def _shape(canvas: ImageDraw.ImageDraw, kind: int, box: np.ndarray, colour: tuple[int, ...] | int) -> None:
    top, left, bottom, right = (int(value) for value in box)
    if NAMES[kind] == "circle":
        canvas.ellipse((left, top, right - 1, bottom - 1), fill=colour)
    elif NAMES[kind] == "square":
        canvas.rectangle((left, top, right - 1, bottom - 1), fill=colour)
    else:
        canvas.polygon([((left + right) // 2, top), (right - 1, bottom - 1), (left, bottom - 1)], fill=colour)
