"""Detection: boxes around the objects of a picture, and their classes."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import keras_mobilenet as km
from keras_mobilenet import detection
from keras_mobilenet.detection.postprocessing import OUTPUTS
from keras_mobilenet.runtime import Predictor
from keras_mobilenet.runtime.artefact import Kind
from training import data, evaluation, losses, metrics, network
from training.average_precision import Found, Precision, average_precision
from training.cluster import Cluster
from training.data import boxes
from training.data.detection_sources import load_boxes
from training.recipe import Recipe
from training.tasks import detection_report
from training.tasks.task import Column


@dataclass(frozen=True)
class Said:
    """What a stored detector found in the pictures of a split, in their order.

    Attributes:
        found: Of each picture.
        precision: Average precision.
        seconds: What the model took, reading pictures not counted.
    """

    found: Sequence[Found]
    precision: Precision
    seconds: float

    def figures(self) -> dict[str, float]:
        """Average precision and speed."""
        return {
            "ap": self.precision.ap,
            "ap50": self.precision.ap50,
            "pictures": len(self.found),
            "images_per_second": len(self.found) / self.seconds,
        }

    def keep(self, path: Path) -> None:
        """Keeps all boxes, those of a picture behind those of the one before."""
        parts = {name: [getattr(found, name) for found in self.found] for name in ("corners", "classes", "scores")}
        counts = [len(found.scores) for found in self.found]
        kept = {name: np.concatenate(rows) for name, rows in parts.items()}
        np.savez_compressed(path, **kept, counts=counts, by_class=self.precision.by_class)

    def details(self) -> dict[str, Any]:
        """Average precision of each class; null where there is no object of it."""
        return {"ap_by_class": [None if np.isnan(value) else float(value) for value in self.precision.by_class]}

    def summary(self, names: Sequence[str]) -> str:
        """Average precision and speed, and the classes that there are objects of."""
        figures = self.figures()
        lines = [f"AP {figures['ap']:.2%}, AP50 {figures['ap50']:.2%}, {figures['images_per_second']:.1f} images/s"]
        known = [(name, value) for name, value in zip(names, self.precision.by_class, strict=True) if value == value]
        width = max(len(name) for name, _ in known)
        return "\n".join(lines + [f"  {name.ljust(width)}  {value:6.1%}" for name, value in known])


class Detection:
    """A single-shot detector; `training.tasks.Task` says what each function does."""

    metric = "ap"
    counts: Mapping[str, losses.Count] = MappingProxyType({})
    columns: Sequence[Column] = (Column("AP", "ap"), Column("AP50", "ap50"))
    conversion: Mapping[str, Any] = MappingProxyType({"non_max_suppression": km.NonMaxSuppression()})

    def load(self, name: str, data_dir: str | os.PathLike | None = None, **options: Any) -> data.Source:
        """As `load_boxes`."""
        return load_boxes(name, data_dir, **options)

    def input_config(self, recipe: Recipe) -> boxes.BoxInput:
        """Size and changes of the recipe; pictures are stretched to the size."""
        return boxes.BoxInput(
            image_size=(recipe.image_size, recipe.image_size),
            batch_size=recipe.batch_size,
            seed=recipe.seed,
            evaluation_crop=None,
            augmentation=data.Augmentation(flip=recipe.flip),
            crop=recipe.box_crop,
        )

    def batches(self, split: data.Split, config: boxes.BoxInput, *, training: bool, **options: int) -> tf.data.Dataset:
        """Labels are `boxes` and `classes`."""
        return boxes.batches(split, config, training=training, **options)

    def architecture(self, recipe: Recipe) -> str:
        """The detector and the network below it."""
        return f"{'ssd' if recipe.ssd_heads == 'standard' else 'ssdlite'}_{recipe.model}"

    def build(self, recipe: Recipe, names: Sequence[str]) -> keras.Model:
        """SSDLite or SSD."""
        return km.SSDLite(
            recipe.model,
            recipe.alpha,
            recipe.image_size,
            len(names),
            recipe.weights,
            convolution="standard" if recipe.ssd_heads == "standard" else "depthwise_separable",
            scores=recipe.scores,
            batch_norm_momentum=recipe.batch_norm_momentum,
        )

    def loss(self, recipe: Recipe, names: Sequence[str], model: keras.Model) -> losses.Loss:
        """Smooth L1 on boxes; focal loss or hard negatives on classes."""
        del names
        loss = detection.multibox_loss(detection.head_of(model), box_weight=recipe.box_weight)
        return lambda images, labels, outputs: loss(labels, outputs)

    def validation(
        self, recipe: Recipe, split: data.Split, config: boxes.BoxInput, model: keras.Model, cluster: Cluster
    ) -> metrics.Evaluate:
        """Average precision; every process looks at all pictures, as it is no sum over them."""
        del recipe, cluster
        head, truth = detection.head_of(model), _truth(split)

        def evaluate(predict: metrics.Predict) -> dict[str, float]:
            found: list[Found] = []
            for images, _ in self.batches(split, config, training=False):
                found += _rows(detection.suppress(*predict(images), head))
            precision = average_precision(truth, found, len(split.class_names))
            return {"ap": precision.ap, "ap50": precision.ap50}

        return evaluate

    def measure(self, predictor: Predictor, split: data.Split, config: boxes.BoxInput, progress: bool = False) -> Said:
        """Average precision of a stored detector."""
        head = detection.head_of(network.load(predictor.path)) if predictor.kind is Kind.KERAS else None
        found: list[Found] = []
        seconds = 0.0
        batches = self.batches(split, config, training=False)
        for _, outputs, took in evaluation.answers(predictor, batches, split.count if progress else None):
            found += _rows(_detections(predictor, outputs, head))
            seconds += took
        truth, classes = _truth(split), len(split.class_names)
        highest = max((int(each.classes.max()) for each in found if len(each.classes)), default=0)
        if highest >= classes or (head is not None and head.classes != classes):
            raise ValueError(f"{predictor.path} is a detector of other classes than the {classes} of the data set.")
        return Said(found, average_precision(truth, found, classes), seconds)

    def agreement(self, one: Path, other: Path) -> dict[str, float]:
        """Nothing: average precision says how far boxes agree with the right ones."""
        del one, other
        return {}

    def sections(
        self, row: str, kept: Mapping[str, np.ndarray], split: data.Split, worst: int
    ) -> Iterator[tuple[str, str]]:
        """Average precision by class, and pictures with what was found in them."""
        yield detection_report.by_class(row, kept, split)
        yield detection_report.pictures(row, kept, split, worst)


def _truth(split: data.Split) -> list[boxes.Boxes]:
    return [split.read(index)[1] for index in range(split.count)]


def _rows(outputs: Mapping[str, Any]) -> list[Found]:
    return Found.rows(*(np.asarray(outputs[name]) for name in OUTPUTS))


def _detections(
    predictor: Predictor, outputs: Mapping[str, np.ndarray], head: detection.Head | None
) -> Mapping[str, Any]:
    """Boxes, classes, scores and counts; of a Keras file from its encodings and logits."""
    if outputs.keys() >= set(OUTPUTS):
        return outputs
    names = ("box_encodings", "class_logits")
    if head is None or not outputs.keys() >= set(names):
        shapes = {name: value.shape for name, value in outputs.items()}
        raise ValueError(
            f"{predictor.path} puts out {shapes}, not {', '.join(OUTPUTS)}: it is no detector, or a .tflite file that "
            "was converted without non_max_suppression."
        )
    return detection.suppress(*(outputs[name] for name in names), head)


TASK = Detection()
