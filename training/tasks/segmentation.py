"""Segmentation: a class for each pixel."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tqdm

import keras_mobilenet as km
from keras_mobilenet import segmentation
from keras_mobilenet.export.segmentation import CLASS_MAP
from keras_mobilenet.runtime import Predictor
from keras_mobilenet.runtime.artefact import Kind
from training import data, evaluation, losses, metrics, network
from training.cluster import Cluster
from training.data import masks
from training.data.mask_sources import load_masks
from training.recipe import Recipe
from training.tasks import segmentation_report
from training.tasks.task import Column


@dataclass(frozen=True)
class Said:
    """What a stored segmenter said of the pictures of a split, in their order.

    Attributes:
        class_maps: uint8 [N, height, width].
        counts: How often each class was taken for each, int64 [classes, classes].
        seconds: What the model took, reading pictures not counted.
    """

    class_maps: np.ndarray
    counts: np.ndarray
    seconds: float

    @property
    def by_class(self) -> np.ndarray:
        """IoU of each class; nan where it is neither there nor found."""
        return segmentation.intersection_over_union(self.counts)

    def figures(self) -> dict[str, float]:
        """Mean IoU, share of right pixels, and speed."""
        return _figures(self.counts) | {
            "pictures": len(self.class_maps),
            "images_per_second": len(self.class_maps) / self.seconds,
        }

    def keep(self, path: Path) -> None:
        """Keeps the class of each pixel."""
        np.savez_compressed(path, class_maps=self.class_maps, by_class=self.by_class)

    def details(self) -> dict[str, Any]:
        """IoU of each class; null where it is neither there nor found."""
        return {"iou_by_class": [None if np.isnan(value) else float(value) for value in self.by_class]}

    def summary(self, names: Sequence[str]) -> str:
        """Mean IoU and speed, and the IoU of each class that is there or was found."""
        figures = self.figures()
        text = f"mean IoU {figures['mean_iou']:.2%}, {figures['pixel_accuracy']:.2%} of the pixels, "
        values = zip(names, self.by_class, strict=True)
        width = max(len(name) for name in names)
        rows = [f"  {name.ljust(width)}  {value:6.1%}" for name, value in values if value == value]
        return "\n".join([f"{text}{figures['images_per_second']:.1f} images/s", *rows])


class Segmentation:
    """DeepLabv3; `training.tasks.Task` says what each function does."""

    metric = "mean_iou"
    counts: Mapping[str, losses.Count] = MappingProxyType({})
    columns: Sequence[Column] = (Column("mIoU", "mean_iou"), Column("pixels", "pixel_accuracy"))
    conversion: Mapping[str, Any] = MappingProxyType({})

    def load(self, name: str, data_dir: str | os.PathLike | None = None, **options: Any) -> data.Source:
        """As `load_masks`."""
        return load_masks(name, data_dir, **options)

    def input_config(self, recipe: Recipe) -> masks.MaskInput:
        """Size and changes of the recipe; pictures keep their shape and are padded."""
        return masks.MaskInput(
            image_size=(recipe.image_size, recipe.image_size),
            batch_size=recipe.batch_size,
            seed=recipe.seed,
            evaluation_crop=None,
            augmentation=data.Augmentation(flip=recipe.flip),
            scale=(recipe.scale_min, recipe.scale_max),
        )

    def batches(self, split: data.Split, config: masks.MaskInput, *, training: bool, **options: int) -> tf.data.Dataset:
        """Labels are classes, int32 [N, height, width], with `segmentation.VOID` for none."""
        return masks.batches(split, config, training=training, **options)

    def architecture(self, recipe: Recipe) -> str:
        """DeepLabv3 and the network below it."""
        return f"deeplab_v3_{recipe.model}"

    def build(self, recipe: Recipe, names: Sequence[str]) -> keras.Model:
        """DeepLabv3."""
        return km.DeepLabV3(
            recipe.model,
            recipe.alpha,
            recipe.image_size,
            recipe.output_stride,
            recipe.aspp,
            len(names),
            recipe.weights,
            dropout=recipe.dropout,
            batch_norm_momentum=recipe.batch_norm_momentum,
        )

    def loss(self, recipe: Recipe, names: Sequence[str], model: keras.Model) -> losses.Loss:
        """Softmax cross-entropy, the mean over a picture's pixels that count."""
        del recipe, names, model
        return lambda images, labels, logits: pixel_cross_entropy(labels, logits)

    def validation(
        self, recipe: Recipe, split: data.Split, config: masks.MaskInput, model: keras.Model, cluster: Cluster
    ) -> metrics.Evaluate:
        """Each process counts on its share of the pictures, and all get the figures of the whole."""
        del recipe, model
        share = {"num_workers": cluster.workers, "worker": cluster.worker}
        classes = len(split.class_names)

        def evaluate(predict: metrics.Predict) -> dict[str, float]:
            counts = np.zeros((classes, classes), np.int64)
            for images, labels in self.batches(split, config, training=False, **share):
                counts += segmentation.confusion(labels, np.argmax(predict(images), -1), classes)
            return _figures(cluster.total(counts))

        return evaluate

    def measure(self, predictor: Predictor, split: data.Split, config: masks.MaskInput, progress: bool = False) -> Said:
        """Mean IoU of a stored segmenter."""
        class_map, classes = _reader(predictor, config), len(split.class_names)
        counts = np.zeros((classes, classes), np.int64)
        found: list[np.ndarray] = []
        seconds = 0.0
        with tqdm.tqdm(total=split.count, unit=" images", disable=not progress) as bar:
            for images, labels in self.batches(split, config, training=False).as_numpy_iterator():
                start = time.perf_counter()
                answer = class_map(images)
                seconds += time.perf_counter() - start
                if answer.max() >= classes:
                    raise ValueError(f"{predictor.path} has other classes than the {classes} of the data set.")
                counts += segmentation.confusion(labels, answer, classes)
                found.append(answer.astype(np.uint8))
                bar.update(len(images))
        return Said(np.concatenate(found), counts, seconds)

    def agreement(self, one: Path, other: Path) -> dict[str, float]:
        """Share of the pixels that both take for the same class, padding included, 0 to 1."""
        found = [np.load(path)["class_maps"] for path in (one, other)]
        return {"agreement": float(np.mean(found[0] == found[1]))}

    def sections(
        self, row: str, kept: Mapping[str, np.ndarray], split: data.Split, worst: int
    ) -> Iterator[tuple[str, str]]:
        """IoU by class, and pictures with what was found in them."""
        yield segmentation_report.by_class(row, kept, split)
        yield segmentation_report.pictures(row, kept, split, worst)


def pixel_cross_entropy(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Softmax cross-entropy of each picture, the mean over its pixels that count.

    Args:
        labels: int32 [N, H, W], `segmentation.VOID` for pixels that don't count.
        logits: [N, H, W, classes].

    Returns:
        float32 [N]; 0 for a picture of which nothing counts.
    """
    counted = labels != segmentation.VOID
    target = tf.where(counted, labels, 0)
    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(target, tf.cast(logits, tf.float32))
    weight = tf.cast(counted, tf.float32)
    return tf.math.divide_no_nan(tf.reduce_sum(loss * weight, [1, 2]), tf.reduce_sum(weight, [1, 2]))


def _figures(counts: np.ndarray) -> dict[str, float]:
    return {
        "mean_iou": segmentation.mean_iou(counts),
        "pixel_accuracy": float(np.trace(counts) / max(counts.sum(), 1)),
    }


def _reader(predictor: Predictor, config: masks.MaskInput) -> Any:
    """A function from float images [N, H, W, 3] in [-1, 1] to classes [N, H, W]."""
    scales = config.evaluation_scales
    flip = config.evaluation_flip
    if scales or flip:
        if predictor.kind is not Kind.KERAS:
            raise ValueError(f"Several scales and flips are for a .keras file; {predictor.path} reads a single size.")
        probabilities = segmentation.multi_scale(network.load(predictor.path), scales or (1.0,), flip)
        return lambda images: np.argmax(probabilities(images), -1)

    def class_map(images: np.ndarray) -> np.ndarray:
        if predictor.kind is Kind.KERAS:
            outputs = predictor.predict(images)
        else:
            outputs = predictor.predict(predictor.image_input(evaluation.pixels(images)))
        answer = outputs.get(CLASS_MAP, next(iter(outputs.values())))
        answer = np.argmax(answer, -1) if answer.ndim == 4 else answer
        if answer.shape != images.shape[:3]:
            shapes = {name: value.shape for name, value in outputs.items()}
            raise ValueError(f"{predictor.path} puts out {shapes}: it is no segmenter, which gives a class per pixel.")
        return answer

    return class_map


TASK = Segmentation()
