"""What the job has to know of its model before it starts: names, size, and which output to read."""

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path

from keras_mobilenet.client import Client, ClientError
from keras_mobilenet.runtime import Kind, Predictor
from serving.batch import answers
from serving.edge_tpu import labels, tasks

LABELS_FILE = Path("assets") / "labels.txt"
ENCODED = "encoded_image"
"""Signature of a served model that takes pictures undecoded."""


@dataclasses.dataclass(frozen=True)
class Model:
    """A model, checked.

    Args:
        reading: How its outputs are read.
        size: Height and width of its input, in pixels; None for a server that decodes.
        signature: What a server is asked for; "" for a stored model.
    """

    reading: answers.Reading
    size: tuple[int, int] | None
    signature: str = ""


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What the job asks of a model.

    Args:
        task: One of `answers.TASKS`.
        top: Classes or boxes of a picture at most.
        threshold: Lowest score; None for 0, for boxes 0.4.
        label_file: Names of the classes, a line each; "" for what comes with the model.
    """

    task: str
    top: int = 5
    threshold: float | None = None
    label_file: str = ""

    def settings(self, own: Mapping[int, str]) -> tasks.Settings:
        """The settings, with the model's own labels where there is no file."""
        names = labels.read(self.label_file) if self.label_file else own
        return tasks.Settings(names, self.top, tasks.threshold(answers.TASKS[self.task], self.threshold))


def stored(path: str, wanted: Wanted) -> Model:
    """Loads a stored model and looks at it.

    Args:
        path: As `keras_mobilenet.runtime.Predictor` takes it.
        wanted: What it is for.

    Raises:
        FileNotFoundError: There is no model, or no label file.
        ValueError: It is damaged, does not read pictures of one size, or is not one for the task.
    """
    predictor = Predictor(path)
    shapes = {name: spec.shape for name, spec in predictor.outputs.items()}
    boxes = tasks.detection_outputs(predictor)
    try:
        output = answers.choose_output(wanted.task, shapes, boxes)
        size = _input_size([spec.shape for spec in predictor.inputs.values()])
    except ValueError as error:
        raise ValueError(f"{predictor.path}: {error}") from error
    name, version = _name_and_version(predictor)
    settings = wanted.settings(_own_labels(predictor))
    used = tuple(boxes) if wanted.task == "detect" and boxes else ()
    return Model(answers.Reading(wanted.task, output, used, settings, name, version), size)


def served(client: Client, name: str, wanted: Wanted) -> Model:
    """Asks a server for its model and looks at it.

    Args:
        client: Of the server.
        name: The model's.
        wanted: What it is for.

    Raises:
        ValueError: The server cannot be reached or has no such model, or it is not one for the task.
    """
    try:
        metadata = client.metadata()
    except ClientError as error:
        raise ValueError(f"the server cannot be asked about {name!r}: {error}") from error
    key = ENCODED if ENCODED in metadata.signatures else "serving_default"
    if key not in metadata.signatures:
        raise ValueError(f"{name} has neither {ENCODED} nor serving_default; it has {sorted(metadata.signatures)}")
    signature = metadata.signatures[key]
    shapes = {output: spec.shape for output, spec in signature.outputs.items()}
    boxes = tasks.exported_boxes(shapes)
    output = answers.choose_output(wanted.task, shapes, boxes)
    size = None if key == ENCODED else _input_size([spec.shape for spec in signature.inputs.values()])
    used = tuple(boxes) if boxes else ()
    version = str(metadata.version) if metadata.version is not None else ""
    return Model(answers.Reading(wanted.task, output, used, wanted.settings({}), name, version), size, key)


def _input_size(shapes: list[tuple[int | None, ...] | None]) -> tuple[int, int]:
    shape = shapes[0] or ()
    if len(shapes) != 1 or len(shape) != 4 or shape[3] != 3 or not shape[1] or not shape[2]:
        raise ValueError(f"it reads {shapes}, not one picture [N, H, W, 3] of a fixed size: export it with image_size=")
    return shape[1], shape[2]


def _name_and_version(predictor: Predictor) -> tuple[str, str]:
    """NAME/VERSION of an exported directory; of another file its name, and the start of its SHA-256."""
    path = predictor.path.resolve()
    folder = path if path.is_dir() else path.parent
    if folder.name.isdigit():
        return folder.parent.name, folder.name
    if path.is_dir():
        return path.name, ""
    return path.stem, hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def _own_labels(predictor: Predictor) -> Mapping[int, str]:
    folder = predictor.path if predictor.path.is_dir() else predictor.path.parent
    if (folder / LABELS_FILE).is_file():
        return labels.read(folder / LABELS_FILE)
    return labels.attached(predictor.path) if predictor.kind is Kind.TFLITE else {}
