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

from keras_mobilenet import tflite_file
from keras_mobilenet.detection.head import head_of
from keras_mobilenet.detection.postprocessing import NonMaxSuppression
from keras_mobilenet.export import arguments, model_card, segmentation, tflite_metadata, warmup
from keras_mobilenet.export.signatures import Signature, output_names, signatures
from keras_mobilenet.export.tflite import QUANTIZATIONS, convert_tflite
from keras_mobilenet.optimization.folding import fold_batch_norm
from keras_mobilenet.segmentation import is_segmenter

LABELS_FILE = Path("assets") / "labels.txt"
TFLITE_FILE = "model.tflite"  # where TF Serving looks


def export_saved_model(
    model: keras.Model,
    directory: str | PathLike[str],
    labels: Sequence[str] | str | PathLike[str] | None = None,
    *,
    image_size: tuple[int, int] | None = None,
    card: Mapping[str, Any] | None = None,
    tflite: bytes | str | PathLike[str] | None = None,
    non_max_suppression: NonMaxSuppression | None = None,
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
        tflite: `model.tflite` of the version, which TF Serving runs with `--prefer_tflite_model`, and an Edge TPU: what
            `km.convert_tflite` returned, the path of such a file, or, to convert `model`, "float32", "float16",
            "dynamic" or (of a quantization-aware model) "int8". That of a detector ends in `non_max_suppression`.
            Warm-up requests are then for what both forms answer: `serving_default` beside a file that takes uint8,
            none beside another.
        non_max_suppression: Which boxes of a detector remain; by default `km.NonMaxSuppression()`.

    Returns:
        Folder of the new version. Signatures: `serving_default` (`image` uint8 [N, H, W, 3] -> `probabilities` float32
        [N, classes], `class_ids` int32 and `scores` float32 of the best five), `encoded_image` (`image_bytes` string
        [N], the same outputs), `classify` (tf.Example with `image/encoded` -> `classes`, `scores`). A detector puts out
        `boxes` float32 [N, max_detections, 4] (ymin, xmin, ymax, xmax as shares of the picture's sides), `classes`
        float32 (numbers from 0 on), `scores` float32, `num_detections` float32 [N], and with labels `class_names`
        string [N, max_detections]. A segmenter puts out `class_map` uint8 [N, H, W], `probabilities` float32
        [N, h, w, classes] on the network's own map, and with labels `class_names` string [N, classes]. Another model
        puts out `features`, or its outputs by layer name. None of these has `classify`.

    Raises:
        ValueError: The labels or the .tflite file don't fit, the input is not a three-channel image, or its size is
            open.
        OSError: The version can't be written; nothing is left behind.

    Example:
    ```python
    version = km.export_saved_model(model, "savedmodels/flowers", labels=["daisy", "rose"])
    ```
    """
    size = arguments.image_size(model, image_size)
    names = arguments.labels(model, labels)
    directory = Path(directory)
    folded = fold_batch_norm(model)
    if head_of(model) is not None:
        non_max_suppression = non_max_suppression or NonMaxSuppression()
    served = signatures(folded, size, names, non_max_suppression)
    if isinstance(tflite, str) and tflite in QUANTIZATIONS:
        tflite = convert_tflite(model, tflite, labels=names, image_size=size, non_max_suppression=non_max_suppression)
    content = None if tflite is None else _fitting(tflite, folded, size)
    directory.mkdir(parents=True, exist_ok=True)
    # TF Serving passes over names that are not whole numbers.
    scratch = Path(tempfile.mkdtemp(prefix=".export-", dir=directory))
    try:
        _write_graph(served, scratch)
        if names is not None:
            (scratch / LABELS_FILE).parent.mkdir(exist_ok=True)
            (scratch / LABELS_FILE).write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
        if content is not None:
            (scratch / TFLITE_FILE).write_bytes(content)
        warmup.write(scratch, directory.resolve().name, size, _warmed_up(served, content))
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


def _warmed_up(served: Mapping[str, Signature], tflite: bytes | None) -> list[str]:
    """Signatures that warm-up requests may ask for, whichever of its two forms a server runs the version in.

    TF Serving replays all of them on that form, and one that fails fails the version. A .tflite file has no operator
    that decodes pictures, and its one signature is that of the SavedModel if it takes the pictures' bytes.
    """
    if tflite is None:
        return list(served)
    graph = tflite_file.read(tflite).main
    takes_bytes = all(graph.tensors[index].dtype == "uint8" for index in graph.inputs)
    return [tflite_metadata.SIGNATURE_KEY] if takes_bytes else []


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


def _fitting(tflite: bytes | str | PathLike[str], model: keras.Model, size: tuple[int, int]) -> bytes:
    """The bytes of a .tflite file, after a look at whether it is one of this model."""
    content = tflite_file.read_bytes(tflite)
    file = tflite_file.read(content)
    if tflite_metadata.SIGNATURES not in file.metadata:
        raise ValueError("The .tflite file has no signature for TF Serving: make it with km.convert_tflite.")
    tensors = [file.main.tensors[index] for index in (*file.main.inputs, *file.main.outputs)]
    found = {tensor.name: tensor.shape[1:] for tensor in tensors}
    wanted: dict[str, tuple[int | None, ...]] = {"image": (*size, model.input_shape[-1])}
    if head_of(model) is not None:
        wanted |= {"boxes": (None, 4), "classes": (None,), "scores": (None,), "num_detections": ()}
    elif is_segmenter(model):
        wanted[segmentation.CLASS_MAP] = size
    else:
        wanted |= {name: tuple(y.shape[1:]) for name, y in zip(output_names(model), model.outputs, strict=True)}
    sizes_fit = all(
        len(found.get(name, ())) == len(shape)
        and all(side in (None, got) for side, got in zip(shape, found[name], strict=True))
        for name, shape in wanted.items()
    )
    if found.keys() != wanted.keys() or not sizes_fit:
        raise ValueError(
            f"The .tflite file computes {found}, but `{model.name}` {wanted}: convert the same model with "
            "km.convert_tflite, a detector with non_max_suppression."
        )
    return content
