"""A picture as it is stored for training: its short side shrunk to what training needs, as JPEG."""

import tensorflow as tf

from keras_mobilenet import preprocessing, quiet
from training.data import decode


class BadPicture(ValueError):  # noqa: N818 - it is reported, and the others go on
    """A picture that cannot be stored, and why."""

    def __repr__(self) -> str:
        """Returns the reason alone: it is what Beam hands on of an error."""
        return str(self)


def shrink(contents: bytes, short_side: int, quality: int) -> tuple[bytes, int, int]:
    """Resizes and re-encodes a picture.

    Args:
        contents: JPEG, PNG, BMP or GIF.
        short_side: Of the result, in pixels. Smaller pictures are not enlarged; a JPEG that is small enough is kept as
            it is, since encoding it again would only blur it.
        quality: Of the JPEG, 1 to 100.

    Returns:
        The JPEG, and its height and width.

    Raises:
        BadPicture: It is empty, truncated, of another format or too large.
    """
    try:
        image = decode.any_format()(tf.constant(contents))
    except tf.errors.OpError as error:
        raise BadPicture(quiet.one_line(error.message)) from error
    height, width = image.shape[:2]
    scale = short_side / min(height, width)
    if scale >= 1 and contents[:3] == b"\xff\xd8\xff":
        return contents, height, width
    if scale < 1:
        height, width = (max(round(side * scale), short_side) for side in (height, width))
        image = tf.cast(preprocessing.resize(image, (height, width)), tf.uint8)
    encoded = tf.io.encode_jpeg(image, "rgb", quality, optimize_size=True)
    return encoded.numpy(), height, width
