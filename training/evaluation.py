"""A stored classifier on the pictures of a split, whatever it is stored as; sizes and latencies of any model."""

import gzip
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tqdm

from keras_mobilenet.runtime import Predictor
from training import data
from training.metrics import rank

SHOWN_CLASSES = 12  # a confusion matrix of more does not fit on a terminal


@dataclass(frozen=True)
class Evaluation:
    """What a model said of the pictures of a split, in their order.

    Attributes:
        labels: int64 [N], the right classes.
        scores: float32 [N, classes].
        seconds: What the model took, reading pictures not counted.
    """

    labels: np.ndarray
    scores: np.ndarray
    seconds: float

    @cached_property
    def ranks(self) -> np.ndarray:
        """How many classes stand before the right one, int64 [N]."""
        return rank(self.scores, self.labels)

    @cached_property
    def predicted(self) -> np.ndarray:
        """The class with the highest score, int64 [N]."""
        return self.scores.argmax(axis=1)

    @property
    def accuracy(self) -> float:
        """Share of pictures whose class has the highest score."""
        return float(np.mean(self.ranks == 0))

    @property
    def top_5(self) -> float:
        """Share of pictures whose class is among the five highest scores."""
        return float(np.mean(self.ranks < 5))

    @cached_property
    def confusion(self) -> np.ndarray:
        """int64 [classes, classes]: how many pictures of a class (row) were taken for which class (column)."""
        classes = self.scores.shape[1]
        return np.bincount(self.labels * classes + self.predicted, minlength=classes**2).reshape(classes, classes)

    def probabilities(self) -> np.ndarray:
        """The scores as probabilities: as they are where they already are some, else softmax of logits."""
        if self.scores.min() >= 0 and np.allclose(self.scores.sum(axis=1), 1, atol=0.05):
            return self.scores
        exponentials = np.exp(self.scores - self.scores.max(axis=1, keepdims=True))
        return exponentials / exponentials.sum(axis=1, keepdims=True)

    def figures(self) -> dict[str, float]:
        """Accuracies and speed."""
        return {
            "accuracy": self.accuracy,
            "top_5": self.top_5,
            "pictures": len(self.labels),
            "images_per_second": len(self.labels) / self.seconds,
        }

    def keep(self, path: Path) -> None:
        """Keeps label, class and their probabilities; not all scores, which would be 200 MB for ImageNet."""
        probabilities, all_pictures = self.probabilities(), np.arange(len(self.labels))
        np.savez_compressed(
            path,
            labels=self.labels,
            predicted=self.predicted,
            probability=probabilities[all_pictures, self.labels].astype(np.float32),
            highest=probabilities[all_pictures, self.predicted].astype(np.float32),
        )

    def details(self) -> dict[str, Any]:
        """The confusion matrix."""
        return {"confusion": self.confusion.tolist()}

    def summary(self, names: Sequence[str]) -> str:
        """Accuracies and speed, and the confusion matrix where it fits on a terminal."""
        figures = self.figures()
        line = f"top-1 {self.accuracy:.2%}, top-5 {self.top_5:.2%}, {figures['images_per_second']:.1f} images/s"
        if len(names) > SHOWN_CLASSES:
            return f"{line}\nThe confusion matrix of {len(names)} classes goes to --confusion=FILE.csv."
        return f"{line}\n{confusion_table(self.confusion, names)}"


def image_size(predictor: Predictor) -> tuple[int, int] | None:
    """Height and width in pixels that a model reads; None where they are open.

    Raises:
        ValueError: The model does not read one picture of three channels.
    """
    shapes = [spec.shape for spec in predictor.inputs.values()]
    if len(shapes) != 1 or shapes[0] is None or len(shapes[0]) != 4 or shapes[0][3] != 3:
        raise ValueError(f"{predictor.path} reads {shapes}, not one batch of pictures (N, height, width, 3).")
    _, height, width, _ = shapes[0]
    return None if height is None or width is None else (height, width)


def evaluate(predictor: Predictor, split: data.Split, config: data.Input, progress: bool = False) -> Evaluation:
    """Runs a stored model over a split.

    Args:
        predictor: The model.
        split: Verified pictures.
        config: Size, batch and crop; the size has to be the model's.
        progress: Shows a bar.

    Raises:
        ValueError: Its outputs are not the scores of the split's classes.
    """
    labels, scores, seconds = [], [], 0.0
    batches = data.batches(split, config, training=False)
    for batch_labels, outputs, took in answers(predictor, batches, split.count if progress else None):
        scores.append(_scores(predictor, outputs, len(split.class_names)))
        labels.append(batch_labels)
        seconds += took
    return Evaluation(np.concatenate(labels), np.concatenate(scores), seconds)


def answers(
    predictor: Predictor, batches: tf.data.Dataset, shown: int | None = None
) -> Iterator[tuple[Any, dict[str, np.ndarray], float]]:
    """What a stored model says of each batch.

    Args:
        predictor: The model.
        batches: Images, float32 [N, H, W, 3] in [-1, 1], and labels.
        shown: Number of pictures for a progress bar; None for no bar.

    Returns:
        Labels, outputs, and the seconds that the model took, batch by batch.
    """
    with tqdm.tqdm(total=shown, unit=" images", disable=shown is None) as bar:
        for images, labels in batches.as_numpy_iterator():
            outputs, timing = predictor.predict_timed(predictor.image_input(pixels(images)))
            yield labels, outputs, timing.total
            bar.update(len(images))


def pixels(images: np.ndarray) -> np.ndarray:
    """Images in [-1, 1] as uint8; resized pictures are whole numbers between 0 and 255."""
    return np.rint((images + 1) * 127.5).astype(np.uint8)


def _scores(predictor: Predictor, outputs: dict[str, np.ndarray], classes: int) -> np.ndarray:
    """The class scores among the outputs. Where there is one class more, the first is the background."""
    fitting = {name: value for name, value in outputs.items() if value.ndim == 2 and value.shape[1] == classes}
    fitting |= {name: v[:, 1:] for name, v in outputs.items() if v.ndim == 2 and v.shape[1] == classes + 1}
    if "probabilities" in fitting:
        return fitting["probabilities"]
    if len(fitting) != 1:
        shapes = {name: value.shape for name, value in outputs.items()}
        raise ValueError(
            f"{predictor.path} puts out {shapes}, and the data set has {classes} classes: it is a model of other "
            "classes, or no classifier."
        )
    return next(iter(fitting.values()))


def confusion_table(matrix: np.ndarray, names: Sequence[str]) -> str:
    """A confusion matrix for a terminal: a row for each class, a column for each answer."""
    cells = [["", *(str(number) for number in range(len(names)))]]
    cells += [
        [f"{number} {name}", *map(str, row)] for number, (name, row) in enumerate(zip(names, matrix, strict=True))
    ]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    first, *others = widths
    return "\n".join(
        "  ".join([row[0].ljust(first), *(cell.rjust(width) for cell, width in zip(row[1:], others, strict=True))])
        for row in cells
    )


def latency(predictor: Predictor, size: tuple[int, int], runs: int = 50) -> float:
    """Milliseconds for one picture, median of `runs` after five more."""
    picture = predictor.image_input(np.random.default_rng(0).integers(0, 256, (1, *size, 3), np.uint8))
    times = []
    for _ in range(runs + 5):
        start = time.perf_counter()
        predictor.predict(picture)
        times.append(time.perf_counter() - start)
    return float(np.median(times[5:]) * 1000)


def stored_bytes(path: Path) -> dict[str, int]:
    """Size of a file or folder, and what it takes when it is gzipped."""
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    contents = [file.read_bytes() for file in files]
    return {
        "bytes": sum(len(content) for content in contents),
        "gzip_bytes": sum(len(gzip.compress(content)) for content in contents),
    }
