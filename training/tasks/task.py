"""The face of a task: what the loop, the stages, the results and the programs ask of it."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf

from keras_mobilenet.runtime import Predictor
from training import data
from training.cluster import Cluster
from training.losses import Count, Loss
from training.metrics import Evaluate
from training.recipe import Recipe


@dataclass(frozen=True)
class Column:
    """A column of the table of results.

    Attributes:
        heading: Above it.
        figure: Name of the figure in it.
        form: How a figure is written, as in a format string.
    """

    heading: str
    figure: str
    form: str = ".2%"


class Said(Protocol):
    """What a stored model said of the pictures of a split."""

    def figures(self) -> dict[str, float]:
        """The task's figures, `pictures` and `images_per_second`."""

    def keep(self, path: Path) -> None:
        """Writes what the report shows as an `.npz` file."""

    def details(self) -> dict[str, Any]:
        """What `training.evaluate --json` says beyond the figures."""

    def summary(self, names: Sequence[str]) -> str:
        """What `training.evaluate` prints; `names` are the classes'."""


class Task(Protocol):
    """What a network is trained for.

    Attributes:
        metric: The figure of `validation` that early stopping and curves look at; higher is better.
        counts: Name -> what is summed up over the pictures of an epoch beside the loss, and divided by their number.
        columns: Of the table of results.
        conversion: Options of `km.convert_tflite` for the files that are measured.
    """

    metric: str
    counts: Mapping[str, Count]
    columns: Sequence[Column]
    conversion: Mapping[str, Any]

    def load(self, name: str, data_dir: str | os.PathLike | None = None, **options: Any) -> data.Source:
        """Opens a data set; the options are those of `data.load`."""

    def input_config(self, recipe: Recipe) -> data.Input:
        """What the model is fed."""

    def batches(
        self,
        split: data.Split,
        config: data.Input,
        *,
        training: bool,
        start_step: int = 0,
        num_workers: int = 1,
        worker: int = 0,
    ) -> tf.data.Dataset:
        """Batches of images, float32 [N, height, width, 3] in [-1, 1], and labels (any structure of tensors).

        A training batch is a pure function of the seed and the step, as in `data.batches`, whose arguments these are.
        """

    def architecture(self, recipe: Recipe) -> str:
        """What the network is called in names of results, such as `ssdlite_mobilenet_v2`."""

    def build(self, recipe: Recipe, names: Sequence[str]) -> keras.Model:
        """The network of a recipe, with its starting weights; `names` are the classes'."""

    def loss(self, recipe: Recipe, names: Sequence[str], model: keras.Model) -> Loss:
        """The loss of each picture, on what `model` puts out."""

    def validation(
        self, recipe: Recipe, split: data.Split, config: data.Input, model: keras.Model, cluster: Cluster
    ) -> Evaluate:
        """Measures the model on a split at the end of an epoch; every process of the cluster gets the same figures."""

    def measure(self, predictor: Predictor, split: data.Split, config: data.Input, progress: bool = False) -> Said:
        """Runs a stored model over a split.

        Raises:
            ValueError: Its outputs are not those of this task, or not for the split's classes.
        """

    def agreement(self, one: Path, other: Path) -> dict[str, float]:
        """How far two models agree, from the files that `Said.keep` wrote; nothing where that is not measured."""

    def sections(
        self, row: str, kept: Mapping[str, np.ndarray], split: data.Split, worst: int
    ) -> Iterator[tuple[str, str]]:
        """Sections of the report, title and HTML.

        Args:
            row: The measured file among the figures.
            kept: What `Said.keep` wrote of it.
            split: The pictures.
            worst: How many of the pictures to show that the model is most wrong about.
        """
