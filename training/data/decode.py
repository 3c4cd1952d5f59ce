"""From encoded pictures to one size: the part of the picture that is wanted is decoded, and nothing else of a JPEG."""

import functools
from collections.abc import Callable

import tensorflow as tf

from keras_mobilenet import preprocessing

BoxChooser = Callable[[tf.Tensor], tf.Tensor]

DCT_METHOD = "INTEGER_ACCURATE"
"""As in `keras_mobilenet.decode_image`."""

PUBLISHED_CROP = 224 / 256
"""Side of the centre crop over the picture's short side in the evaluation of the published models."""


@functools.cache
def any_format() -> Callable[[tf.Tensor], tf.Tensor]:
    """`keras_mobilenet.decode_image` as a graph that is built once and shared: building it takes half a second."""
    signature = [tf.TensorSpec([], tf.string)]
    return tf.function(preprocessing.decode_image, input_signature=signature, autograph=False)


def centre_box(shape: tf.Tensor, size: tuple[int, int], crop: float) -> tf.Tensor:
    """The box that remains where the short side is resized to the target over `crop` and the centre is cut out.

    The target's shape is kept: at 224 x 224 and a crop of 224/256 a picture of 640 x 480 gives the middle 420 x 420.

    Args:
        shape: height and width of the picture, int32 [2 or more].
        size: height and width of the target.
        crop: side of the box over the largest one of the same shape that fits, 0 < crop <= 1.

    Returns:
        int32 [4]: top, left, height, width.
    """
    whole, target = tf.cast(shape[:2], tf.float32), tf.constant(size, tf.float32)
    side = tf.maximum(tf.round(target * tf.reduce_min(whole / target) * crop), 1.0)
    return tf.cast(tf.concat([(whole - side) // 2, side], 0), tf.int32)


def random_box(shape: tf.Tensor, scale: tuple[float, float], ratio: tuple[float, float], seed: tf.Tensor) -> tf.Tensor:
    """The box of a random resized crop (Szegedy et al., arXiv:1409.4842); the whole picture where none fits.

    Args:
        shape: height, width and channels of the picture, int32 [3].
        scale: least and largest area of the box over the picture's.
        ratio: least and largest width over height.
        seed: int64 [2]; the same seed gives the same box.

    Returns:
        int32 [4]: top, left, height, width.
    """
    begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
        shape,
        tf.zeros([1, 1, 4]) + tf.constant([0.0, 0.0, 1.0, 1.0]),
        seed=seed,
        min_object_covered=0.0,
        aspect_ratio_range=ratio,
        area_range=scale,
        max_attempts=10,
        use_image_if_no_bounding_boxes=True,
    )
    return tf.concat([begin[:2], size[:2]], 0)


def decode(contents: tf.Tensor, choose_box: BoxChooser | None = None) -> tf.Tensor:
    """Decodes a picture or a part of it.

    It gives the values of `keras_mobilenet.decode_image`, and is for pictures that passed it once (see `verify`): a
    JPEG goes straight to the decoder, without the checks, and where a part is wanted only that part is decoded.

    Args:
        contents: JPEG, PNG, BMP or GIF, scalar string.
        choose_box: from height, width and channels (int32 [3]) to the part: top, left, height, width (int32 [4]).

    Returns:
        uint8 [height, width, 3].
    """

    def jpeg() -> tf.Tensor:
        if choose_box is None:
            return tf.io.decode_jpeg(contents, channels=3, dct_method=DCT_METHOD)
        shape = tf.image.extract_jpeg_shape(contents)
        top, left, height, width = tf.unstack(choose_box(shape))
        # Colour is stored at half the width: the outer columns need what is stored beyond them.
        first, end = tf.maximum(left - 2, 0), tf.minimum(left + width + 2, shape[1])
        window = tf.stack([top, first, height, end - first])
        strip = tf.image.decode_and_crop_jpeg(contents, window, channels=3, dct_method=DCT_METHOD)
        return strip[:, left - first : left - first + width]

    def other() -> tf.Tensor:
        picture = any_format()(contents)
        return picture if choose_box is None else crop(picture, choose_box(tf.shape(picture)))

    return tf.cond(tf.io.is_jpeg(contents), jpeg, other)


def crop(images: tf.Tensor, box: tf.Tensor) -> tf.Tensor:
    """Cuts a box (top, left, height, width) out of one picture [H, W, 3] or a batch of them [N, H, W, 3]."""
    return images[..., box[0] : box[0] + box[2], box[1] : box[1] + box[3], :]


def resize(image: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """`keras_mobilenet.preprocessing.resize` of one picture; one that has the size already costs nothing.

    Args:
        image: uint8 [H, W, 3].
        size: height and width wanted.

    Returns:
        uint8 [height, width, 3]: resizing gives whole numbers.
    """
    resized = tf.cond(
        tf.reduce_all(tf.shape(image)[:2] == tf.constant(size)),
        lambda: image,
        lambda: tf.cast(preprocessing.resize(image, size), tf.uint8),
    )
    return tf.ensure_shape(resized, [*size, 3])
