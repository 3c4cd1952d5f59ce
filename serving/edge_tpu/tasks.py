"""What the outputs of a model say: classes, boxes or a mask."""

import abc
import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from PIL import Image

from keras_mobilenet import tflite_file
from keras_mobilenet.runtime import Kind, Predictor
from serving.edge_tpu import labels, pictures

DETECTION_OPERATOR = "TFLite_Detection_PostProcess"
DETECTION_OUTPUTS = ("boxes", "classes", "scores", "num_detections")
"""Of an exported detector's SavedModel."""
NAMES = ("classification", "detection", "segmentation")
_BOX_THRESHOLD = 0.4
_LEAST_SHARE = 0.001  # of a picture, for a class to be listed


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is listed: the names of classes, how many, and from which score on."""

    labels: Mapping[int, str]
    top: int
    threshold: float


def threshold(task: str, wanted: float | None) -> float:
    """The lowest score that is listed: what is wanted, or by default 0, for boxes 0.4."""
    return _BOX_THRESHOLD * (task == "detection") if wanted is None else wanted


class Answer(abc.ABC):
    """What a model says of one picture."""

    @abc.abstractmethod
    def lines(self) -> list[str]:
        """For people, a line each."""

    @abc.abstractmethod
    def json(self) -> list[dict[str, Any]]:
        """For programs."""

    def overlay(self, image: Image.Image) -> Image.Image | None:
        """The answer laid over the picture, where it has a place in it."""
        del image
        return None


@dataclasses.dataclass(frozen=True)
class Classes(Answer):
    """The best classes: number, name, score."""

    rows: tuple[tuple[int, str, float], ...]

    def lines(self) -> list[str]:
        """Score and name, and what else there is."""
        return [f"{score:.4f}  {name}" for _, name, score in self.rows]

    def json(self) -> list[dict[str, Any]]:
        """`class`, `label`, `score`."""
        return [{"class": number, "label": name, "score": score} for number, name, score in self.rows]


@dataclasses.dataclass(frozen=True)
class Boxes(Answer):
    """Boxes: number, name, score, and left, top, right, bottom in the picture's pixels."""

    rows: tuple[tuple[int, str, float, tuple[int, int, int, int]], ...]

    def lines(self) -> list[str]:
        """Score and name, and what else there is."""
        return [f"{score:.4f}  {name}  {box}" for _, name, score, box in self.rows] or ["nothing found"]

    def json(self) -> list[dict[str, Any]]:
        """`class`, `label`, `score`, `box`."""
        keys = ("class", "label", "score", "box")
        return [dict(zip(keys, row, strict=True)) for row in self.rows]

    def overlay(self, image: Image.Image) -> Image.Image:
        """The boxes drawn into the picture."""
        return pictures.draw_boxes(image, ((box, f"{name} {score:.2f}") for _, name, score, box in self.rows))


@dataclasses.dataclass(frozen=True)
class Mask(Answer):
    """A class for every position; rows are number, name, share of the picture."""

    mask: np.ndarray
    rows: tuple[tuple[int, str, float], ...]

    def lines(self) -> list[str]:
        """Score and name, and what else there is."""
        return [f"{share:6.1%}  {name}" for _, name, share in self.rows]

    def json(self) -> list[dict[str, Any]]:
        """`class`, `label`, `share`."""
        return [{"class": number, "label": name, "share": share} for number, name, share in self.rows]

    def overlay(self, image: Image.Image) -> Image.Image:
        """The mask's colours over the picture."""
        return pictures.lay_over(image, self.mask)


def exported_boxes(outputs: Collection[str]) -> list[str] | None:
    """Names of boxes, classes, scores and count among the outputs of an exported detector, or None."""
    return list(DETECTION_OUTPUTS) if set(outputs) >= set(DETECTION_OUTPUTS) else None


def detection_outputs(predictor: Predictor) -> list[str] | None:
    """Names of boxes, classes, scores and count of a detector, or None.

    A .tflite file has to end in TFLite's post-processing, a SavedModel to have the outputs of `km.export_saved_model`.
    """
    if predictor.kind is not Kind.TFLITE:
        return exported_boxes(predictor.outputs)
    operators = tflite_file.read(predictor.path).main.operators
    operator = next((operator for operator in operators if operator.name == DETECTION_OPERATOR), None)
    names = {spec.index: name for name, spec in predictor.outputs.items()}
    return [names[index] for index in operator.outputs[:4]] if operator is not None else None


def recognise(predictor: Predictor, outputs: Mapping[str, np.ndarray]) -> str:
    """Tells the task by the model's outputs.

    Raises:
        ValueError: If they are of no known form.
    """
    if detection_outputs(predictor) is not None:
        return "detection"
    scores = _one(outputs)
    if scores.ndim == 2:
        return "classification"
    if scores.ndim == 4 or (scores.ndim == 3 and scores.dtype.kind in "iu"):
        return "segmentation"
    raise ValueError(
        f"outputs of the shapes {[value.shape for value in outputs.values()]} are neither classes [1, N] nor a mask "
        f"[1, H, W(, N)], and the model doesn't end in {DETECTION_OPERATOR}: name the --task"
    )


def read(
    task: str, boxes: list[str] | None, outputs: Mapping[str, np.ndarray], settings: Settings, size: tuple[int, int]
) -> Answer:
    """Reads the outputs for one picture of (width, height) `size`; `boxes` are the model's `detection_outputs`."""
    if task == "detection":
        return _boxes(boxes, outputs, settings, size)
    if task == "segmentation":
        return _mask(_one(outputs), settings)
    return _classes(_one(outputs), settings)


def _one(outputs: Mapping[str, np.ndarray]) -> np.ndarray:
    for name in ("class_map", "probabilities"):
        if name in outputs:
            return outputs[name]
    if len(outputs) != 1:
        raise ValueError(f"the model has the outputs {sorted(outputs)}; which of them to read isn't known")
    return next(iter(outputs.values()))


def _classes(scores: np.ndarray, settings: Settings) -> Classes:
    row = scores.reshape(-1)
    best = [int(i) for i in np.argsort(-row, kind="stable")[: settings.top]]
    # A quantized softmax is 0 nearly everywhere.
    listed = [i for i in best if row[i] >= settings.threshold and row[i] != 0]
    return Classes(tuple((i, labels.name(settings.labels, i), float(row[i])) for i in listed))


def _boxes(
    names: list[str] | None, outputs: Mapping[str, np.ndarray], settings: Settings, size: tuple[int, int]
) -> Boxes:
    if names is None:
        raise ValueError(
            f"the model doesn't end in {DETECTION_OPERATOR}, nor are its outputs {', '.join(DETECTION_OUTPUTS)}; other "
            "detectors aren't read here"
        )
    boxes, classes, scores, count = (outputs[name] for name in names)
    width, height = size
    rows = []
    for index in range(int(count.reshape(-1)[0])):
        score, number = float(scores[0, index]), int(classes[0, index])
        if score < settings.threshold:
            continue
        top, left, bottom, right = np.clip(boxes[0, index], 0, 1) * (height, width, height, width)
        box = (round(float(left)), round(float(top)), round(float(right)), round(float(bottom)))
        rows.append((number, labels.name(settings.labels, number), score, box))
    return Boxes(tuple(sorted(rows, key=lambda row: -row[2])[: settings.top]))


def _mask(scores: np.ndarray, settings: Settings) -> Mask:
    mask = scores[0].argmax(-1) if scores.ndim == 4 else scores[0]
    numbers, counts = np.unique(mask, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    rows = [(int(numbers[i]), labels.name(settings.labels, int(numbers[i])), counts[i] / mask.size) for i in order]
    return Mask(mask, tuple((number, name, float(share)) for number, name, share in rows if share >= _LEAST_SHARE))
