"""Measures a stored model on pictures: `python -m training.evaluate --artifact=MODEL --dataset=digits`.

A `.keras` file, a SavedModel and a `.tflite` file are measured alike.
"""

import csv
import datetime
import json
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags

from keras_mobilenet import segmentation
from keras_mobilenet.runtime import Predictor
from training import console, data, evaluation, recipe, results, tasks
from training.data.boxes import BoxInput
from training.data.masks import MaskInput

_ARTIFACT = flags.DEFINE_string(
    "artifact", None, ".keras or .tflite file, SavedModel, or folder of its versions.", required=True
)
_DEVICE = flags.DEFINE_string("device", "cpu", "cpu, or for a compiled .tflite file edgetpu, usb:0, pci:0, ...")
_THREADS = flags.DEFINE_integer("threads", 2, "CPU threads of a .tflite file.", lower_bound=1)
_TASK = flags.DEFINE_enum("task", recipe.TASKS[0], recipe.TASKS, "What the model was trained for.")
_DATASET = flags.DEFINE_string("dataset", "digits", "digits, folder, tfrecord, or a tensorflow-datasets data set.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of the pictures.")
_SPLIT = flags.DEFINE_string("split", None, "train, validation or test; default test, or validation without one.")
_FILES = flags.DEFINE_string(
    "files", None, "tfrecord: file pattern of the pictures; mask_folder: their folder of masks."
)
_LABELS = flags.DEFINE_string("labels_file", None, "tfrecord, mask_folder: text file of class names, one a line.")
_LABEL_OFFSET = flags.DEFINE_integer("label_offset", 0, "tfrecord: label of the first class.")
_VALIDATION_SHARE = flags.DEFINE_float("validation_share", 0.1, "As in the training run, for --split=validation.")
_MAX_BAD_SHARE = flags.DEFINE_float("max_bad_share", 0.01, "Share of pictures that may be unreadable.")
_IMAGE_SIZE = flags.DEFINE_integer("image_size", None, "Pixels, for a model whose input size is open.", lower_bound=1)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 64, "Pictures in a call.", lower_bound=1)
_CROP = flags.DEFINE_float("evaluation_crop", 0.875, "Side of the centre crop, 224/256 as published; 0 resizes.")
_MULTI_SCALE = flags.DEFINE_bool("multi_scale", False, "segmentation: average over six scales; a .keras file.")
_FLIP = flags.DEFINE_bool("flip", False, "segmentation: average with mirrored pictures; a .keras file.")
_JSON = flags.DEFINE_string("json", None, "File for the figures and what the task adds; - for standard output.")
_CONFUSION = flags.DEFINE_string("confusion", None, "classification: CSV file for the confusion matrix.")


def open_split() -> data.Split:
    """The pictures of the flags, without those that can't be read."""
    split = _SPLIT.value or "test"
    patterns = {split: _FILES.value} if _FILES.value else None
    source = tasks.get(_TASK.value).load(
        _DATASET.value,
        _DATA_DIR.value,
        patterns=patterns,
        labels_file=_LABELS.value,
        label_offset=_LABEL_OFFSET.value,
        validation_share=_VALIDATION_SHARE.value,
    )
    if _SPLIT.value is None and "test" not in source.splits:
        split = "validation"
    return data.verify(source[split], _MAX_BAD_SHARE.value)[0]


def input_config(size: tuple[int, int], batch_size: int) -> data.Input:
    """What the model is fed."""
    if _TASK.value == "classification":
        return data.Input(size, batch_size, evaluation_crop=_CROP.value or None)
    if _TASK.value == "detection":
        return BoxInput(size, batch_size, evaluation_crop=None)
    scales = segmentation.SCALES if _MULTI_SCALE.value else ()
    return MaskInput(size, batch_size, evaluation_crop=None, evaluation_scales=scales, evaluation_flip=_FLIP.value)


def evaluate() -> tuple[dict[str, Any], tasks.Said, data.Split]:
    """Figures of the model and the data of the flags."""
    predictor = Predictor(_ARTIFACT.value, device=_DEVICE.value, threads=_THREADS.value)
    size = evaluation.image_size(predictor)
    if size is None:
        if _IMAGE_SIZE.value is None:
            raise ValueError(f"The input size of {predictor.path} is open: give --image_size.")
        size = (_IMAGE_SIZE.value, _IMAGE_SIZE.value)
    split = open_split()
    config = input_config(size, min(_BATCH_SIZE.value, split.count))
    said = tasks.get(_TASK.value).measure(predictor, split, config, progress=True)
    facts = {
        "artifact": str(predictor.path),
        "kind": predictor.kind.value,
        "task": _TASK.value,
        "dataset": _DATASET.value,
        "split": split.name,
        "image_size": list(size),
        "batch_size": config.batch_size,
        "command": shlex.join(["python", *sys.orig_argv[1:]]),
        "date": datetime.date.today().isoformat(),
        "machine": results.machine(),
    }
    return facts | said.figures(), said, split


def write_confusion(path: Path, matrix: np.ndarray, names: tuple[str, ...]) -> None:
    """Writes a confusion matrix as CSV: the right class before each row, the answers as columns."""
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["", *names])
        table.writerows([name, *row] for name, row in zip(names, matrix.tolist(), strict=True))


def main(argv: list[str]) -> None:
    """Measures and prints."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    if (_MULTI_SCALE.value or _FLIP.value) and _TASK.value != "segmentation":
        raise app.UsageError(f"--task={_TASK.value} knows no --multi_scale and --flip: leave them out")
    if _CONFUSION.value and _TASK.value != "classification":
        raise app.UsageError(f"--task={_TASK.value} has no confusion matrix: leave --confusion out")
    console.only_ours()
    try:
        figures, said, split = evaluate()
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        raise SystemExit(f"{type(error).__name__}: {error}") from error
    if _CONFUSION.value and isinstance(said, evaluation.Evaluation):
        write_confusion(Path(_CONFUSION.value), said.confusion, split.class_names)
    content = json.dumps(figures | {"classes": split.class_names} | said.details(), indent=2)
    if _JSON.value == "-":
        print(content)
        return
    if _JSON.value:
        Path(_JSON.value).write_text(content + "\n")
    print(f"{figures['artifact']} ({figures['kind']}) on {figures['pictures']} pictures of {split.name}")
    print(said.summary(split.class_names))


if __name__ == "__main__":
    app.run(main)
