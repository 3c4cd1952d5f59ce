"""Export as a SavedModel that TF Serving, the embedded server and plain TensorFlow read."""

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from keras_mobilenet.arguments import MIN_SIZE
from keras_mobilenet.export import model_card, warmup
from keras_mobilenet.export.signatures import Signature, is_classifier, signatures
from keras_mobilenet.optimization.folding import fold_batch_norm

LABELS_FILE = Path("assets") / "labels.txt"


def export_saved_model(
    model: keras.Model,
    directory: str | PathLike[str],
    labels: Sequence[str] | str | PathLike[str] | None = None,
    *,
    image_size: tuple[int, int] | None = None,
    card: Mapping[str, Any] | None = None,
) -> Path:
    """Writes the next version of a served model.

    Batch norm is folded, the weights are constants, the batch size is free. The version appears under its number only
    when it is whole; a version that is there is never touched.

    Args:
        model: Keras model, float images [N, H, W, 3] in [-1, 1] -> class scores [N, classes] (probabilities or logits),
            or features.
        directory: Folder of the model's versions, such as "savedmodels/flowers"; its name is the served model's name.
        labels: Name of each class, or a text file with one a line.
        image_size: (height, width) in pixels, for a model whose input size is open.
        card: What `model_card.json` says beyond what is read off the model: `weights` (their source), `accuracy`, ...

    Returns:
        Folder of the new version. Signatures: `serving_default` (`image` uint8 [N, H, W, 3] -> `probabilities` float32
        [N, classes], `class_ids` int32 and `scores` float32 of the best five), `encoded_image` (`image_bytes` string
        [N], the same outputs), `classify` (tf.Example with `image/encoded` -> `classes`, `scores`). A model that is no
        classifier puts out `features`, or its outputs by layer name, and has no `classify`.

    Raises:
        ValueError: The labels don't fit, the input is not a three-channel image, or its size is open.
        OSError: The version can't be written; nothing is left behind.

    Example:
    ```python
    version = km.export_saved_model(model, "savedmodels/flowers", labels=["daisy", "rose"])
    ```
    """
    size = _image_size(model, image_size)
    names = _labels(model, labels)
    directory = Path(directory)
    served = signatures(fold_batch_norm(model), size, names)
    directory.mkdir(parents=True, exist_ok=True)
    # TF Serving passes over names that are not whole numbers.
    scratch = Path(tempfile.mkdtemp(prefix=".export-", dir=directory))
    try:
        _write_graph(served, scratch)
        if names is not None:
            (scratch / LABELS_FILE).parent.mkdir(exist_ok=True)
            (scratch / LABELS_FILE).write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
        warmup.write(scratch, directory.resolve().name, size, list(served))
        described = model_card.describe(model, size) | dict(card or {})
        (scratch / model_card.FILE).write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
        scratch.chmod(0o755)
        return _publish(scratch, directory)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def _write_graph(served: Mapping[str, Signature], folder: Path) -> None:
    module = tf.Module()
    module.functions = {key: signature.function for key, signature in served.items()}
    tf.saved_model.save(module, str(folder), signatures=module.functions)
    updater = tf.compat.v1.saved_model.signature_def_utils.MethodNameUpdater(str(folder))
    for key, signature in served.items():
        if signature.method:
            updater.replace_method_name(signature_key=key, method_name=signature.method)
    updater.save()


def _publish(scratch: Path, directory: Path) -> Path:
    """Renames to the next version; another export that took the number meanwhile makes it the one after."""
    while True:
        taken = [int(entry.name) for entry in directory.iterdir() if entry.name.isdigit()]
        version = directory / str(max(taken, default=0) + 1)
        try:
            return scratch.rename(version)
        except OSError:
            if not version.exists():
                raise


def _image_size(model: keras.Model, image_size: tuple[int, int] | None) -> tuple[int, int]:
    if len(model.inputs) != 1 or len(model.input_shape) != 4 or model.input_shape[-1] != 3:
        raise ValueError(
            f"`{model.name}` reads {[tuple(x.shape) for x in model.inputs]}, but an export takes pictures: one input "
            "of shape (N, height, width, 3)."
        )
    fixed = model.input_shape[1:3]
    size = tuple(image_size) if image_size is not None else fixed
    if None not in size and min(size) < MIN_SIZE:
        raise ValueError(f"`image_size={size}` is too small: pass (height, width) of at least {MIN_SIZE} pixels each.")
    if None in size:
        raise ValueError(
            f"The input size of `{model.name}` is open: pass `image_size=(height, width)`, such as (224, 224)."
        )
    if any(side not in (None, asked) for side, asked in zip(fixed, size, strict=True)):
        raise ValueError(f"`image_size={size}` does not fit `{model.name}`, which reads {fixed}: leave it out.")
    return int(size[0]), int(size[1])


def _labels(model: keras.Model, labels: Sequence[str] | str | PathLike[str] | None) -> list[str] | None:
    if labels is None:
        return None
    if isinstance(labels, str | PathLike):
        names = Path(labels).read_text(encoding="utf-8").splitlines()
    else:
        names = [str(label) for label in labels]
    if not is_classifier(model):
        raise ValueError(f"`labels` were passed, but `{model.name}` is no classifier: leave them out.")
    if len(names) != model.output_shape[-1]:
        raise ValueError(
            f"{len(names)} labels don't fit the {model.output_shape[-1]} classes of `{model.name}`: pass one for each "
            "class, in the order of the outputs."
        )
    return names
