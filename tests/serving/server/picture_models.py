"""Tiny SavedModels over encoded pictures whose boxes and masks follow from the pixels."""

from pathlib import Path

import tensorflow as tf

PICTURE = tf.TensorSpec([None], tf.string, name="image_bytes")
COLOURS = ("red", "green", "blue")  # classes 1, 2, 3; class 0 is everything else


def detector(path: Path, named: bool = False) -> Path:
    """Boxes around what is red, green and blue; the score is the share of the box that has the colour."""

    class Module(tf.Module):
        @tf.function(input_signature=[PICTURE])
        def encoded_image(self, image_bytes):
            spec = (tf.TensorSpec([3, 4], tf.float32), tf.TensorSpec([3], tf.float32), tf.TensorSpec([3], tf.float32))
            boxes, classes, scores = tf.map_fn(_detect, image_bytes, fn_output_signature=spec)
            found = tf.reduce_sum(tf.cast(scores > 0, tf.float32), 1)
            answer = {"boxes": boxes, "classes": classes, "scores": scores, "num_detections": found}
            names = tf.gather(tf.constant(["", *COLOURS]), tf.cast(classes, tf.int32))
            return answer | ({"class_names": names} if named else {})

    return _save(path, Module())


def segmenter(path: Path, output: str, as_scores: bool = False, size: tuple[int, int] = (24, 32)) -> Path:
    """The class of each pixel, as int32 [N, H, W] or as scores [N, H, W, 4]."""

    class Module(tf.Module):
        @tf.function(input_signature=[PICTURE])
        def encoded_image(self, image_bytes):
            spec = tf.TensorSpec([*size, 4], tf.float32)
            scores = tf.map_fn(
                lambda one: tf.image.resize(_one_hot(_decode(one)), size), image_bytes, fn_output_signature=spec
            )
            return {output: scores if as_scores else tf.argmax(scores, -1, tf.int32)}

    return _save(path, Module())


def _detect(encoded):
    pixels = _one_hot(_decode(encoded))
    height, width = tf.unstack(tf.cast(tf.shape(pixels)[:2], tf.float32))
    boxes, scores = [], []
    for number in (1, 2, 3):
        plane = pixels[..., number]
        rows, columns = tf.where(tf.reduce_max(plane, 1) > 0)[:, 0], tf.where(tf.reduce_max(plane, 0) > 0)[:, 0]
        ends = [tf.reduce_min(rows), tf.reduce_min(columns), tf.reduce_max(rows) + 1, tf.reduce_max(columns) + 1]
        there = tf.size(rows) > 0
        box = tf.where(there, tf.cast(tf.stack(ends), tf.float32), tf.zeros(4))
        area = tf.maximum((box[2] - box[0]) * (box[3] - box[1]), 1.0)
        boxes.append(box / tf.stack([height, width, height, width]))
        scores.append(tf.where(there, tf.reduce_sum(plane) / area, 0.0))
    scores, order = tf.math.top_k(tf.stack(scores), 3)
    return tf.gather(tf.stack(boxes), order), tf.cast(order + 1, tf.float32), scores


def _decode(encoded):
    return tf.io.decode_image(encoded, channels=3, expand_animations=False)


def _one_hot(pixels):
    is_colour = [(pixels[..., c] > 180) & (tf.reduce_sum(tf.cast(pixels, tf.int32), -1) < 350) for c in range(3)]
    number = tf.reduce_sum(tf.stack([(c + 1) * tf.cast(mask, tf.int32) for c, mask in enumerate(is_colour)]), 0)
    return tf.one_hot(number, 4)


def _save(path: Path, module: tf.Module) -> Path:
    tf.saved_model.save(module, str(path), signatures={"encoded_image": module.encoded_image})
    return path
