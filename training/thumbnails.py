"""Small pictures for a report."""

import tensorflow as tf

import keras_mobilenet as km


def thumbnail(contents: bytes, side: int = 144) -> bytes:
    """An encoded picture as PNG, its longer side at most `side` pixels."""
    picture = km.decode_image(contents)
    if max(picture.shape[:2]) > side:
        picture = tf.image.resize(picture, (side, side), preserve_aspect_ratio=True, antialias=True)
    return tf.io.encode_png(tf.cast(tf.clip_by_value(tf.round(picture), 0, 255), tf.uint8)).numpy()
