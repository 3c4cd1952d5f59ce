"""Random changes to training pictures, each with its chance as an argument: the same chance gives the same picture.

Pictures are float32 or uint8 with values 0 to 255.
"""

import tensorflow as tf


def flip_and_shift(images: tf.Tensor, chance: tf.Tensor, flip: bool, reflect: int) -> tf.Tensor:
    """Mirrors half of the pictures left to right, and shifts each by up to `reflect` pixels up, down and sideways.

    What is shifted in is the reflection of what stands at the edge: the same as reflecting `reflect` pixels around the
    picture and cutting out a random piece of the old size (He et al., arXiv:1512.03385, section 4.2, with reflection
    in place of zeros). Here rows and columns are picked by number, so nothing is padded.

    Args:
        images: [N, H, W, C] of any type; H and W are known and larger than `reflect`.
        chance: uniform in [0, 1), float32 [N, 3]: flip, rows, columns.
        flip: mirror half of them.
        reflect: largest shift in pixels; 0 for none.
    """
    height, width = images.shape[1:3]
    if max(reflect, 0) >= min(height, width):
        raise ValueError(f"reflect is {reflect}; pictures of {height} x {width} allow 0 to {min(height, width) - 1}.")
    if reflect:
        rows = _reflected(tf.range(height) + _shift(chance[:, 1:2], reflect), height)
        images = tf.gather(images, rows, axis=1, batch_dims=1)
    if flip or reflect:
        columns = tf.range(width) + _shift(chance[:, 2:3], reflect)
        columns = _reflected(columns, width)
        if flip:
            columns = tf.where(chance[:, :1] < 0.5, columns, columns[:, ::-1])
        images = tf.gather(images, columns, axis=2, batch_dims=1)
    return images


def _shift(chance: tf.Tensor, reflect: int) -> tf.Tensor:
    return tf.cast(chance * (2 * reflect + 1), tf.int32) - reflect


def _reflected(index: tf.Tensor, size: int) -> tf.Tensor:
    return (size - 1) - tf.abs((size - 1) - tf.abs(index))


def mixup(images: tf.Tensor, labels: tf.Tensor, weight: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Blends every picture with its neighbour, the other one of the pair 2k, 2k + 1 (Zhang et al., arXiv:1710.09412).

    Pairs of neighbours stay together in every split of a batch into even parts, so that several workers blend as one.

    Args:
        images: float32 [N, H, W, C], N even.
        labels: float32 [N, classes], one-hot.
        weight: of the picture itself, float32 [N], in [0, 1].

    Returns:
        Pictures and labels, blended alike.
    """
    share = weight[:, None, None, None]
    images = images * share + _neighbours(images) * (1 - share)
    return images, labels * weight[:, None] + _neighbours(labels) * (1 - weight[:, None])


def cutmix(images: tf.Tensor, labels: tf.Tensor, weight: tf.Tensor, centre: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Pastes a box of its neighbour into every picture (Yun et al., arXiv:1905.04899).

    Args:
        images: float32 [N, H, W, C], N even.
        labels: float32 [N, classes], one-hot.
        weight: the area that remains, float32 [N], in [0, 1]; 1 leaves a picture alone.
        centre: of the box, over height and width, float32 [N, 2], in [0, 1).

    Returns:
        Pictures, and labels in proportion to the areas; a box that reaches over the edge is cut off, and the area with
        it.
    """
    height, width = images.shape[1:3]
    side = tf.sqrt(1 - weight)[:, None]

    def inside(length: int, middle: tf.Tensor) -> tf.Tensor:
        half = side * length / 2
        low, high = tf.round(middle * length - half), tf.round(middle * length + half)
        place = tf.range(length, dtype=tf.float32)
        return (place >= low) & (place < high)

    box = inside(height, centre[:, :1])[:, :, None] & inside(width, centre[:, 1:])[:, None, :]
    kept = 1 - tf.reduce_mean(tf.cast(box, tf.float32), (1, 2))[:, None]
    images = tf.where(box[..., None], _neighbours(images), images)
    return images, labels * kept + _neighbours(labels) * (1 - kept)


def _neighbours(batch: tf.Tensor) -> tf.Tensor:
    return tf.gather(batch, tf.bitwise.bitwise_xor(tf.range(tf.shape(batch)[0]), 1))


def beta(alpha: float, size: int, seed: tf.Tensor) -> tf.Tensor:
    """Draws from Beta(alpha, alpha), float32 [size]; the same seed (int64 [2]) gives the same numbers."""
    one, other = tf.unstack(tf.random.stateless_gamma([2, size], seed, tf.fill([2, size], alpha)))
    return tf.math.divide_no_nan(one, one + other)
