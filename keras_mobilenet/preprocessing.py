"""The one definition of what happens to a picture before the network and to its answer after it.

Training, the signatures of an export and the clients share it. Importing it imports neither TensorFlow nor Keras.
"""

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf

CLASS_INDEX_URL = "https://storage.googleapis.com/download.tensorflow.org/data/imagenet_class_index.json"
_CLASS_INDEX_FILE = "imagenet_class_index.json"
_CLASS_INDEX_MD5 = "c2c37ea517e94d9795004a39431a14cb"
_IMAGENET_CLASSES = 1000
_PICTURES_AT_ONCE = 4  # of a batch; each may take 200 MB while it is decoded


def preprocess_input(x: Any, data_format: str | None = None) -> Any:
    """Scales pixels from [0, 255] to the [-1, 1] that the networks read.

    Args:
        x: Pixels of any shape and numeric dtype: NumPy (or a nested list), a tensor or a Keras tensor.
        data_format: None, "channels_last" or "channels_first"; every channel is scaled alike, so all give the same.

    Returns:
        float32 of the same shape: NumPy for NumPy, a tensor for a tensor. `x` is never written to.

    Raises:
        ValueError: `data_format` is another one.

    Example:
    ```python
    km.preprocess_input(np.full((1, 224, 224, 3), 255, "uint8"))  # all 1.0
    ```
    """
    if data_format not in (None, "channels_last", "channels_first"):
        raise ValueError(f'`data_format={data_format!r}` is not one of None, "channels_last", "channels_first".')
    if isinstance(x, np.ndarray | np.generic | Sequence | int | float):
        pixels = np.asarray(x, np.float32)
    else:
        import keras

        pixels = keras.ops.cast(x, "float32")
    return pixels / 127.5 - 1.0


def decode_image(contents: Any) -> "tf.Tensor":
    """Decodes one JPEG, PNG, BMP or GIF (its first frame) to RGB, also inside a graph.

    Greyscale, palette, RGBA (alpha is dropped), CMYK and 16-bit pictures become 8-bit RGB. An EXIF orientation is not
    followed: TensorFlow does not read it, so a photo that a camera stored sideways stays so.

    Args:
        contents: The encoded picture, a scalar string: bytes or a tensor. It may declare up to 64 million pixels.

    Returns:
        uint8 [H, W, 3].

    Raises:
        tf.errors.InvalidArgumentError: The picture is empty, truncated, of another format or declares too many pixels.

    Example:
    ```python
    image = km.decode_image(pathlib.Path("cat.jpg").read_bytes())
    ```
    """
    from keras_mobilenet import decoding

    return decoding.decode(contents)


def resize(images: Any, size: tuple[int, int]) -> "tf.Tensor":
    """Resizes pictures, bilinear; where they shrink, every pixel counts (antialiasing).

    The result for uint8 is that of Pillow's `Image.resize(..., BILINEAR)`, rounding included, so that a picture which a
    client resizes and one which the served graph resizes get the same answer.

    Args:
        images: [H, W, C] or [N, H, W, C], uint8 or float.
        size: (height, width) in pixels.

    Returns:
        float32 [h, w, C] or [N, h, w, C], in the range of `images`; whole numbers for uint8.

    Raises:
        ValueError: The size is not two whole numbers of at least 1.

    Example:
    ```python
    image = km.preprocess_input(km.resize(km.decode_image(jpeg), (224, 224)))
    ```
    """
    import tensorflow as tf

    height, width = _checked_size(size)
    images = tf.convert_to_tensor(images)
    swapped = [1, 0, 2] if images.shape.rank == 3 else [0, 2, 1, 3]
    columns = tf.transpose(_resize_rows(tf.transpose(images, swapped), width), swapped)
    return tf.cast(_resize_rows(columns, height), tf.float32)


def _resize_rows(images: "tf.Tensor", height: int) -> "tf.Tensor":
    """Resizes the height alone; asked for the width alone, TensorFlow's op makes a float copy of the whole picture."""
    import tensorflow as tf

    width = images.shape[-2] or tf.shape(images)[-2]
    resized = tf.image.resize(images, (height, width), method="bilinear", antialias=True)
    return tf.cast(resized + 0.5, tf.uint8) if images.dtype == tf.uint8 else resized  # halves go up, as in Pillow


def decode_and_resize(contents: Any, size: tuple[int, int]) -> "tf.Tensor":
    """Decodes pictures and resizes them, ready for `preprocess_input`.

    Args:
        contents: Encoded pictures: a string, or strings [N].
        size: (height, width) in pixels.

    Returns:
        float32 [h, w, 3], or [N, h, w, 3]: whole numbers from 0 to 255.

    Raises:
        ValueError: The size is not two whole numbers of at least 1.
        tf.errors.InvalidArgumentError: A picture is empty, truncated, of another format or too large.

    Example:
    ```python
    images = km.decode_and_resize([path.read_bytes() for path in paths], (224, 224))
    ```
    """
    import tensorflow as tf

    height, width = _checked_size(size)
    contents = tf.convert_to_tensor(contents, tf.string)
    if contents.shape.rank == 0:
        return resize(decode_image(contents), (height, width))
    return tf.map_fn(
        lambda one: resize(decode_image(one), (height, width)),
        contents,
        parallel_iterations=None if tf.executing_eagerly() else _PICTURES_AT_ONCE,  # eagerly it would only warn
        fn_output_signature=tf.TensorSpec((height, width, 3), tf.float32),
    )


def decode_predictions(
    preds: Any, top: int = 5, labels: Sequence[str] | None = None
) -> list[list[tuple[str, str, float]]]:
    """Names the classes of the highest scores.

    Args:
        preds: Scores [N, classes], NumPy or a tensor.
        top: How many of each row, >= 1.
        labels: Name of each class by index; None for ImageNet's 1000, whose names Keras downloads once.

    Returns:
        For each row the `top` highest as (id, name, score), highest first, equal scores in the order of the classes.
        The id is ImageNet's (such as "n02124075"), or the index as text where `labels` is given.

    Raises:
        ValueError: The shape, `top` or the number of labels doesn't fit.
        OSError: ImageNet's names are neither cached nor to be had; the message says where they belong.

    Example:
    ```python
    km.decode_predictions(np.array([[0.1, 0.7, 0.2]]), top=1, labels=["cat", "dog", "owl"])  # [[("1", "dog", 0.7)]]
    ```
    """
    scores = np.asarray(preds)
    if scores.ndim != 2:
        raise ValueError(f"`preds` has shape {scores.shape}, not [N, classes]; for a single row pass `preds[None]`.")
    if isinstance(top, bool) or not isinstance(top, int | np.integer) or top < 1:
        raise ValueError(f"`top={top!r}` is not a whole number of at least 1.")
    names = _imagenet_names(scores.shape[1]) if labels is None else _label_names(labels, scores.shape[1])
    best = np.argsort(-scores.astype(np.float64), axis=1, kind="stable")[:, :top]
    return [[(*names[i], float(row[i])) for i in order] for row, order in zip(scores, best, strict=True)]


def _checked_size(size: Any) -> tuple[int, int]:
    try:
        height, width = (int(side) for side in size)
        valid = (height, width) == tuple(size) and min(height, width) >= 1
    except (TypeError, ValueError):
        valid = False
    if not valid:
        raise ValueError(f"`size={size!r}` is not (height, width) in whole pixels, such as (224, 224).")
    return height, width


def _label_names(labels: Sequence[str], classes: int) -> list[tuple[str, str]]:
    if isinstance(labels, str) or len(labels) != classes:
        given = "a single string" if isinstance(labels, str) else f"{len(labels)} names"
        raise ValueError(f"`labels` is {given}, but `preds` has {classes} classes: pass the name of each, in order.")
    return [(str(index), str(label)) for index, label in enumerate(labels)]


def _imagenet_names(classes: int) -> list[tuple[str, str]]:
    if classes == _IMAGENET_CLASSES + 1:
        raise ValueError(
            "`preds` has 1001 classes, ImageNet's 1000 behind one for the background: pass `preds[:, 1:]` or `labels=`."
        )
    if classes != _IMAGENET_CLASSES:
        raise ValueError(
            f"`preds` has {classes} classes, ImageNet {_IMAGENET_CLASSES}: pass `labels=`, each class's name in order."
        )
    return _imagenet_class_index()


@functools.cache
def _imagenet_class_index() -> list[tuple[str, str]]:
    import keras

    from keras_mobilenet.weights import published

    try:
        path = keras.utils.get_file(
            _CLASS_INDEX_FILE, CLASS_INDEX_URL, cache_subdir="models", file_hash=_CLASS_INDEX_MD5
        )
    except Exception as error:  # get_file raises a bare Exception where the network fails
        cached = published.cache_folder() / _CLASS_INDEX_FILE
        raise OSError(
            f"ImageNet's class names could not be loaded: {error}. Put {CLASS_INDEX_URL} at {cached}, "
            "or pass `labels=`, the name of each class in order."
        ) from error
    entries = json.loads(Path(path).read_text())
    return [(entries[str(index)][0], entries[str(index)][1]) for index in range(_IMAGENET_CLASSES)]
