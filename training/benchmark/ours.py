"""This package's contestants, and keras.applications under Keras 3's `fit`."""

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any

import keras
from absl import app, flags

import keras_mobilenet as km
from training import data, losses, optimizers, tasks
from training.benchmark import contestant
from training.loop import Trainer
from training.recipe import Recipe

STEPS_PER_EPOCH = 142  # of imagenette96
LEARNING_RATE = 0.002

_CONTESTANT = flags.DEFINE_enum("contestant", None, ["float", "prune", "quantize", "pictures", "keras"], "Which one.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 64, "Pictures in a step.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of the pictures' TFRecords, for `pictures`.")


def recipe() -> Recipe:
    """imagenette96 with the flags of this program."""
    from training.recipes import imagenette96

    return imagenette96.RECIPE


class Training:
    """Steps of this package's own loop.

    Args:
        model: The model.
        batch_size: Pictures in a step.
    """

    def __init__(self, model: keras.Model, batch_size: int) -> None:
        self._model = model
        self._data = iter(contestant.pictures(batch_size))
        self._step: Callable[..., Any] | None = None

    def first(self) -> float:  # noqa: D102
        start = time.perf_counter()
        optimizer = optimizers.build(
            recipe(),
            self._model,
            learning_rate=LEARNING_RATE,
            steps=4 * STEPS_PER_EPOCH,
            steps_per_epoch=STEPS_PER_EPOCH,
        )
        self._step = Trainer(
            self._model, optimizer, losses.cross_entropy(contestant.CLASSES), counts=tasks.get(recipe().task).counts
        ).step
        self._step(*next(self._data)).numpy()
        return time.perf_counter() - start

    def seconds(self, count: int) -> list[float]:  # noqa: D102
        return contestant.differences(list(self._ends(count + 1)))

    def _ends(self, count: int) -> Iterator[float]:
        for _ in range(count):
            self._step(*next(self._data)).numpy()
            yield time.perf_counter()


class Reading:
    """The input pipeline alone, JPEG decoding included: imagenette96 as it is trained on, and nobody who uses it."""

    def __init__(self, data_dir: str, batch_size: int) -> None:
        chosen = recipe()
        source = data.load("tfrecord", data_dir, patterns={"train": chosen.train_files}, labels_file=chosen.labels_file)
        config = dataclasses.replace(tasks.get(chosen.task).input_config(chosen), batch_size=batch_size)
        self._batches = data.batches(source["train"], config, training=True)
        self._data: Iterator[Any] | None = None

    def first(self) -> float:  # noqa: D102
        start = time.perf_counter()
        self._data = iter(self._batches)
        next(self._data)
        return time.perf_counter() - start

    def seconds(self, count: int) -> list[float]:  # noqa: D102
        # Batches that lie ready from the time when others computed are not counted.
        start = time.perf_counter()
        while time.perf_counter() - start < 1.0:
            next(self._data)
        ends = [time.perf_counter()]
        for _ in range(count):
            next(self._data)
            ends.append(time.perf_counter())
        return contestant.differences(ends)


def _ours(kind: str) -> keras.Model:
    model = tasks.get(recipe().task).build(recipe(), [str(number) for number in range(contestant.CLASSES)])
    if kind == "prune":
        return km.prune(model, km.PolynomialDecay(0.0, 0.5, 0, STEPS_PER_EPOCH, frequency=10))
    return km.quantize_aware(model) if kind == "quantize" else model


def _keras_applications() -> keras.Model:
    model = keras.applications.MobileNetV2(
        (contestant.SIZE, contestant.SIZE, 3),
        alpha=contestant.ALPHA,
        weights=None,
        classes=contestant.CLASSES,
        classifier_activation=None,
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(LEARNING_RATE, momentum=0.9), loss, metrics=["accuracy"])
    return model


def main(argv: list[str]) -> None:
    """Takes part as the contestant of the flag."""
    del argv
    keras.utils.set_random_seed(0)
    name, batch_size = _CONTESTANT.value, _BATCH_SIZE.value
    if name == "pictures":
        contestant.serve(Reading(_DATA_DIR.value, batch_size))
    elif name == "keras":
        contestant.serve(contestant.Fit(keras, _keras_applications(), batch_size))
    else:
        contestant.serve(Training(_ours(name), batch_size))


if __name__ == "__main__":
    app.run(main)
