"""Encoded pictures to pixels, inside a TensorFlow graph: JPEG, PNG, BMP and GIF's first frame.

TensorFlow's decoders trust what a header declares and name the fault in their own terms. Here every header is read and
checked first, so that a broken or oversized picture fails with a message for the one who sent it.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

MAX_PIXELS = 64_000_000  # 8,000 x 8,000: 192 MB as RGB

_JPEG, _PNG, _BMP, _GIF, _UNKNOWN = range(5)
_MAGIC = {_JPEG: b"\xff\xd8\xff", _PNG: b"\x89PNG\r\n\x1a\n", _BMP: b"BM", _GIF: b"GIF8"}
_HEADER_BYTES = 33  # of a PNG; the head of a JPEG is longer
_BMP_ORDINARY = (0, 3)  # compression: none, or none with channel masks


def decode(contents: Any) -> tf.Tensor:
    """Decodes one picture; `preprocessing.decode_image` says how.

    Args:
        contents: The encoded picture, a scalar string.

    Returns:
        uint8 [H, W, 3].

    Raises:
        tf.errors.InvalidArgumentError: It can't be decoded, or declares more than `MAX_PIXELS`.
    """
    contents = tf.convert_to_tensor(contents, tf.string)
    contents = _checked(contents, tf.strings.length(contents) > 0, "The picture is empty: it has no bytes.")
    formats: list[Callable[[], tf.Tensor]] = [
        lambda: _decode_jpeg(contents),
        lambda: _decode_png(contents),
        lambda: _decode_bmp(contents),
        lambda: _decode_gif(contents),
        lambda: _refuse(contents),
    ]
    image = tf.switch_case(_format(contents), formats)
    image.set_shape((None, None, 3))
    return image


def _format(contents: tf.Tensor) -> tf.Tensor:
    found = tf.constant(_UNKNOWN)
    for number, magic in _MAGIC.items():
        start = tf.strings.substr(contents, 0, tf.minimum(len(magic), tf.strings.length(contents)))
        found = tf.where(start == magic, number, found)
    return found


def _refuse(contents: tf.Tensor) -> tf.Tensor:
    length = tf.strings.length(contents)
    message = ("The ", length, " bytes are no picture of a known kind: send JPEG, PNG, BMP or GIF.")
    return tf.io.decode_png(_checked(contents, tf.constant(False), *message), channels=3)


def _decode_jpeg(contents: tf.Tensor) -> tf.Tensor:
    contents = _complete(contents, "JPEG", b"\xff\xd9")
    height, width, _ = tf.unstack(tf.image.extract_jpeg_shape(contents))
    contents = _check_size(contents, height, width)
    return tf.io.decode_jpeg(contents, channels=3, dct_method="INTEGER_ACCURATE")


def _decode_png(contents: tf.Tensor) -> tf.Tensor:
    contents = _complete(contents, "PNG", b"IEND")
    width, height = _integer(contents, 16, big_endian=True), _integer(contents, 20, big_endian=True)
    return tf.io.decode_png(_check_size(contents, height, width), channels=3)


def _decode_bmp(contents: tf.Tensor) -> tf.Tensor:
    length = tf.cast(tf.strings.length(contents), tf.int64)
    contents = _checked(contents, length >= 54, "The BMP is truncated: its header is not complete.")
    pixels_at, header_size = _integer(contents, 10), _integer(contents, 14)
    width, height = _integer(contents, 18), tf.abs(_integer(contents, 22))  # a negative height counts from the top
    bits, compression = _integer(contents, 28) % 2**16, _integer(contents, 30)
    ordinary = tf.reduce_any(bits == (8, 24, 32)) & tf.reduce_any(compression == _BMP_ORDINARY)
    kind = ("A BMP with ", bits, " bits a pixel and compression ", compression, " is not read here: send it as PNG.")
    contents = _check_size(_checked(contents, ordinary, *kind), height, width)
    in_order = (header_size >= 40) & (pixels_at >= 14 + header_size)
    contents = _checked(contents, in_order, "The BMP is broken: its pixels begin inside its header.")
    end = pixels_at + (width * bits + 31) // 32 * 4 * height
    contents = _checked(contents, end <= length, "The BMP is truncated: it has ", length, " of ", end, " bytes.")
    image = tf.io.decode_bmp(tf.strings.substr(contents, 0, tf.cast(end, tf.int32)))

    def from_palette() -> tf.Tensor:
        first = tf.cast(14 + header_size, tf.int32)
        colours = tf.strings.substr(contents, first, tf.cast(pixels_at, tf.int32) - first)
        palette = tf.reshape(tf.io.decode_raw(colours, tf.uint8), (-1, 4))
        return tf.gather(palette, tf.cast(image[..., 0], tf.int32))[..., 2::-1]

    return tf.cond(bits == 8, from_palette, lambda: image[..., :3])


def _decode_gif(contents: tf.Tensor) -> tf.Tensor:
    """Cuts the file after its first frame: TensorFlow decodes them all, and small files can hold gigabytes of them."""
    length = tf.strings.length(contents)
    raw = tf.io.decode_raw(tf.strings.join([contents, b"\0"]), tf.uint8)  # behind its end there are zeros

    def at(position: Any) -> tf.Tensor:
        return tf.cast(raw[tf.minimum(position, length)], tf.int32)

    def word(position: Any) -> tf.Tensor:
        return at(position) + 256 * at(position + 1)

    def table(flags: tf.Tensor) -> tf.Tensor:
        return tf.where(flags >= 128, 3 * tf.bitwise.left_shift(2, flags % 8), 0)

    def skip_data(position: tf.Tensor) -> tf.Tensor:
        more = tf.while_loop(lambda p: at(p) > 0, lambda p: [p + 1 + at(p)], [position])
        return more[0] + 1

    def skip_extension(position: tf.Tensor) -> list[tf.Tensor]:
        return [skip_data(position + 2)]

    frame = tf.while_loop(lambda p: at(p) == 0x21, skip_extension, [13 + table(at(10))])[0]
    contents = _checked(contents, at(frame) == 0x2C, "The GIF is truncated: no frame begins in it.")
    left, top, width, height = (word(frame + 1 + 2 * i) for i in range(4))
    canvas_width, canvas_height = tf.maximum(word(6), left + width), tf.maximum(word(8), top + height)
    contents = _check_size(contents, canvas_height, canvas_width)
    end = skip_data(frame + 11 + table(at(frame + 9)))
    contents = _checked(contents, end <= length, "The GIF is truncated inside its first frame.")
    # TensorFlow makes the frame the canvas: it is decoded at (0, 0) and placed afterwards.
    before, after = tf.strings.substr(contents, 0, frame + 1), tf.strings.substr(contents, frame + 5, end - frame - 5)
    image = tf.io.decode_gif(tf.strings.join([before, b"\0\0\0\0", after, b";"]))[0]
    return tf.pad(image, [[top, canvas_height - top - height], [left, canvas_width - left - width], [0, 0]])


def _complete(contents: tf.Tensor, name: str, end: bytes) -> tf.Tensor:
    """Checks that the marker which ends a file of this format is in it; other data may follow it."""
    raw = tf.io.decode_raw(contents, tf.uint8)
    last = tf.maximum(tf.size(raw) - len(end) + 1, 0)
    found = tf.ones([last], tf.bool)
    for offset, byte in enumerate(end):
        found &= raw[offset : offset + last] == byte
    whole = tf.reduce_any(found) & (tf.size(raw) > _HEADER_BYTES)
    message = (f"The {name} is truncated: its ", tf.strings.length(contents), " bytes hold no end marker.")
    return _checked(contents, whole, *message)


def _check_size(contents: tf.Tensor, height: Any, width: Any) -> tf.Tensor:
    height, width = tf.cast(height, tf.int64), tf.cast(width, tf.int64)
    declared = ("The picture declares ", width, " x ", height, " pixels")
    contents = _checked(contents, (height > 0) & (width > 0), *declared, ": it is broken.")
    fits = height * width <= MAX_PIXELS  # sides are below 2**31, so that the product is exact
    return _checked(contents, fits, *declared, f"; up to {MAX_PIXELS:,} are read: send it smaller.")


def _integer(contents: tf.Tensor, position: int, big_endian: bool = False) -> tf.Tensor:
    """The signed 32-bit integer at a position, as int64."""
    four = tf.strings.substr(contents, position, 4)
    return tf.cast(tf.reshape(tf.io.decode_raw(four, tf.int32, little_endian=not big_endian), ()), tf.int64)


def _checked(value: Any, condition: tf.Tensor, *message: Any) -> tf.Tensor:
    """`value`, which whatever uses it gets only where the condition holds."""
    text = tf.strings.join([part if isinstance(part, str) else tf.strings.as_string(part) for part in message])
    if tf.executing_eagerly():
        if not condition:
            raise tf.errors.InvalidArgumentError(None, None, text.numpy().decode())
        return value
    with tf.control_dependencies([tf.debugging.Assert(condition, [text])]):
        return tf.identity(value)
