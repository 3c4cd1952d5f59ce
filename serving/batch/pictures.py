"""Pictures for a model's input: read from any Beam filesystem, decoded, resized; or the reason why not.

The values are those of `keras_mobilenet.decode_image` and `resize`, without TensorFlow, which a LiteRT model can do
without: pixels are the same, a resized value is at most 1 off. An EXIF orientation is not followed there either.
"""

import contextlib
import io
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from PIL import Image, UnidentifiedImageError

from serving.edge_tpu.pictures import MAX_PIXELS, resized

FORMATS = ("JPEG", "PNG", "BMP", "GIF")


class BadPicture(ValueError):  # noqa: N818 - what it is, not that it is an error, goes to the dead-letter output
    """A picture that has no row, and why."""

    def __repr__(self) -> str:
        """Returns the reason alone: it is what Beam hands on of an error."""
        return str(self)


class Encoded(NamedTuple):
    """A picture as it is stored: what it is called, and its bytes."""

    path: str
    contents: bytes


class Picture(NamedTuple):
    """A picture that can be asked about.

    Args:
        path: What it is called.
        size: Width and height as it is stored, in pixels.
        data: uint8 [1, height, width, 3] in the model's size; or the bytes, for a server that decodes.
    """

    path: str
    size: tuple[int, int]
    data: np.ndarray | bytes


def read(path: str) -> Encoded:
    """Reads a file.

    Raises:
        BadPicture: It is not there or cannot be read.
    """
    try:
        with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
            return Encoded(path, file.read())
    except (OSError, ValueError) as error:  # BeamIOError is an OSError
        raise BadPicture(f"it cannot be read: {getattr(error, 'strerror', None) or error}") from error


def decode(picture: Encoded, size: tuple[int, int]) -> Picture:
    """Decodes a picture and brings it to (height, width) `size`.

    Raises:
        BadPicture: It is empty, truncated, of another format or too large.
    """
    with _opened(picture.contents) as image:
        pixels = resized(_rgb(image), size)
        return Picture(picture.path, image.size, pixels)


def check(picture: Encoded) -> Picture:
    """Looks at a picture's header and leaves it encoded, for a server that decodes.

    Raises:
        BadPicture: It is empty, of another format or too large.
    """
    with _opened(picture.contents) as image:
        return Picture(picture.path, image.size, picture.contents)


@contextlib.contextmanager
def _opened(contents: bytes) -> Iterator[Image.Image]:
    """The picture in some bytes; whatever goes wrong with it becomes a BadPicture."""
    if not contents:
        raise BadPicture("it is empty: it has no bytes")
    try:
        with Image.open(io.BytesIO(contents), formats=FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise BadPicture(f"it has {width} x {height} pixels; up to {MAX_PIXELS:,} are read")
            yield image
    except UnidentifiedImageError as error:
        raise BadPicture(f"its {len(contents):,} bytes are no {', '.join(FORMATS)}") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise error if isinstance(error, BadPicture) else BadPicture(f"it is broken: {error}") from error


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits of grey: TensorFlow keeps the upper 8
        return Image.fromarray((np.asarray(image, np.uint32) >> 8).astype(np.uint8)).convert("RGB")
    return image.convert("RGB")
