"""Evaluating networks that find a class for each pixel: mean IoU, padding, several scales and flips of a picture."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_mobilenet import graph
from keras_mobilenet.layers import ResizeLike

VOID = 255  # of a pixel that counts for no class
PADDING = 127.5  # of pixels beside a picture: zero once they are scaled to [-1, 1]
SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)  # arXiv:1706.05587, section 4.1


def confusion(labels: Any, class_map: Any, classes: int) -> np.ndarray:
    """Counts how often each class was taken for each.

    Args:
        labels: True class of each pixel, whole numbers of any shape; `VOID` for pixels that don't count.
        class_map: Class that was found, whole numbers of that shape.
        classes: Number of classes, the background among them.

    Returns:
        int64 [classes, classes], true classes along the first axis; those of several pictures may be added up.

    Raises:
        ValueError: The shapes differ, or there is a class outside 0 to `classes` - 1.

    Example: `confusion([[0, 1, 255]], [[0, 0, 1]], 2)` is `[[1, 0], [1, 0]]`.
    """
    labels, found = np.asarray(labels), np.asarray(class_map)
    if labels.shape != found.shape:
        raise ValueError(f"`labels` has the shape {labels.shape}, `class_map` {found.shape}; they have to be the same.")
    counted = labels != VOID
    labels, found = labels[counted].astype(np.int64), found[counted].astype(np.int64)
    for name, values in (("labels", labels), ("class_map", found)):
        if values.size and not 0 <= values.min() <= values.max() < classes:
            raise ValueError(
                f"`{name}` holds classes from {values.min()} to {values.max()}; with `classes={classes}` they run from "
                f"0 to {classes - 1}, and {VOID} in `labels` marks what doesn't count."
            )
    return np.bincount(labels * classes + found, minlength=classes**2).reshape(classes, classes)


def intersection_over_union(counts: np.ndarray) -> np.ndarray:
    """The IoU of each class: pixels rightly found, over those found or true.

    Args:
        counts: Of `confusion`, [classes, classes].

    Returns:
        float64 [classes], 0 to 1; NaN of a class that is neither there nor found.
    """
    right = np.diag(counts).astype(np.float64)
    either = counts.sum(0) + counts.sum(1) - right
    return np.divide(right, either, out=np.full(len(right), np.nan), where=either > 0)


def mean_iou(counts: np.ndarray) -> float:
    """The mean IoU over the classes that are there or were found.

    Args:
        counts: Of `confusion`, [classes, classes].

    Returns:
        0 to 1; NaN where nothing was counted.

    Example:
    ```python
    counts = sum(confusion(mask, found, 21) for mask, found in pairs)
    print(mean_iou(counts))
    ```

    Source: PASCAL VOC's measure of segmentation (Everingham et al., 2010).
    """
    values = intersection_over_union(counts)
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def fit(picture: Any, size: tuple[int, int]) -> tuple[np.ndarray, tuple[int, int]]:
    """Brings a picture into a network's size without distorting it: shrunk where it is larger, and padded.

    Args:
        picture: uint8 [H, W, 3].
        size: (height, width) in pixels.

    Returns:
        float32 [height, width, 3], 0 to 255, the picture in its upper left corner and `PADDING` beside it; and the
        (height, width) that it covers there.

    Example:
    ```python
    padded, (height, width) = fit(picture, (513, 513))
    class_map = predict(km.preprocess_input(padded[None]))[0, :height, :width]
    ```
    """
    from keras_mobilenet.preprocessing import resize

    picture = np.asarray(picture)
    shrink = min(1.0, size[0] / picture.shape[0], size[1] / picture.shape[1])
    if shrink < 1:
        inside = tuple(max(1, round(side * shrink)) for side in picture.shape[:2])
        picture = np.asarray(resize(picture, (inside[0], inside[1])))
    height, width = picture.shape[:2]
    padded = np.full((*size, 3), PADDING, np.float32)
    padded[:height, :width] = picture
    return padded, (height, width)


def is_segmenter(model: keras.Model) -> bool:
    """Whether the model's one output is scores that were enlarged to the size of the picture, as of `km.DeepLabV3`."""
    return len(model.outputs) == 1 and isinstance(graph.producer(model.outputs[0]), ResizeLike)


def with_scores(model: keras.Model) -> keras.Model:
    """The segmenter with its scores in two sizes.

    Args:
        model: A segmenter, which shares its layers with the result.

    Returns:
        Pictures [N, H, W, 3] -> scores on the network's map [N, h, w, classes], and enlarged [N, H, W, classes].
    """
    enlarged = model.outputs[0]
    scores = next(inputs[0] for _, inputs, outputs in graph.calls(model) if any(y is enlarged for y in outputs))
    return keras.Model(model.input, [scores, enlarged], name=model.name)


def multi_scale(model: keras.Model, scales: Sequence[float] = SCALES, flip: bool = True) -> Callable[[Any], tf.Tensor]:
    """Makes a function that looks at pictures at several scales, and mirrored, and averages the probabilities.

    Args:
        model: A segmenter of any input size, float, quantization-aware or folded. Its weights are copied as they are
            now.
        scales: Of the pictures' height and width, > 0.
        flip: Whether to look at mirrored pictures too.

    Returns:
        Function: float images [N, H, W, 3] in [-1, 1] -> probabilities float32 [N, H, W, classes].

    Raises:
        ValueError: The model is no segmenter, or there is no scale or one that is not above 0.

    Example:
    ```python
    probabilities = multi_scale(model)(km.preprocess_input(pictures))
    class_map = np.argmax(probabilities, -1)
    ```

    Source: arXiv:1706.05587, section 4.1; arXiv:1801.04381, table 7.
    """
    if not is_segmenter(model):
        raise ValueError(f"`{model.name}` is no segmenter: pass a model of km.DeepLabV3, or one made from it.")
    if not scales or not all(scale > 0 for scale in scales):
        raise ValueError(f"`scales={scales!r}` is not a list of numbers above 0, such as {SCALES}.")
    flat = graph.copy(model)
    picture = keras.Input((None, None, model.input_shape[-1]))
    network = with_scores(graph.rewrite(flat, lambda layer, *args, **kwargs: layer(*args, **kwargs), inputs=picture))

    @tf.function(reduce_retracing=True)
    def probabilities(images: Any) -> tf.Tensor:
        images = tf.convert_to_tensor(images, tf.float32)
        size = tf.shape(images)[1:3]
        views = [(scale, mirrored) for scale in scales for mirrored in ((False, True) if flip else (False,))]
        total = 0.0
        for scale, mirrored in views:
            scaled = _resized(images, tf.cast(tf.cast(size - 1, tf.float32) * scale, tf.int32) + 1)
            scores, _ = network(tf.reverse(scaled, [2]) if mirrored else scaled, training=False)
            scores = tf.reverse(scores, [2]) if mirrored else scores
            total += tf.nn.softmax(_resized(tf.cast(scores, tf.float32), size))
        return total / len(views)

    return probabilities


def _resized(images: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    return tf.raw_ops.ResizeBilinear(images=images, size=size, align_corners=True)
