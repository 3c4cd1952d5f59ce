"""Trains the contestants of the ablations, one run after another; a run that is done is not run again."""

import dataclasses
import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import tensorflow as tf
from absl import logging

import keras_mobilenet as km
from training import cluster, history, network, pictures, results, run_folder, stages, tasks
from training.paper.networks import Network
from training.recipe import Recipe

# From random weights in a few epochs.
BASE = Recipe(
    optimizer="sgd",
    learning_rate=0.05,
    momentum=0.9,
    schedule="cosine",
    warmup_epochs=0.5,
    weight_decay=4e-5,
    batch_norm_momentum=0.9,
    batch_size=64,
    reflect=8,
    epochs=4,
    evaluation_crop=0.0,
    validation_share=0.0,
    cache=True,
)


@dataclass(frozen=True)
class Result:
    """A run that is done.

    Attributes:
        accuracy: Top-1 accuracy on the test pictures after the last epoch, 0 to 1.
        seconds: Of training, reading included.
        parameters: Of the network.
        multiply_adds: Of one picture.
        date: When it was done.
    """

    accuracy: float
    seconds: float
    parameters: int
    multiply_adds: int
    date: str


@dataclass(frozen=True)
class Run:
    """One network from one seed."""

    network: Network
    seed: int

    def recipe(self, base: Recipe) -> Recipe:
        """What `training.train` would be told; the variant is not part of it."""
        network = self.network
        return dataclasses.replace(
            base, model=network.family, alpha=network.alpha, image_size=network.size, seed=self.seed
        )

    def folder(self, root: Path, base: Recipe) -> Path:
        """Where it is kept: under the pictures, the number of epochs and the network."""
        files = Path(base.train_files or "").name.partition("_")[0]
        name = f"{base.dataset}_{files}_{base.epochs}_epochs"
        return root / name / self.network.key / f"seed_{self.seed}"


def planned(networks: Iterable[Network], seeds: int) -> list[Run]:
    """The runs, seed by seed: where time runs out, all networks have had the same number of seeds."""
    distinct = list(dict.fromkeys(networks))
    return [Run(network, seed) for seed in range(seeds) for network in distinct]


def finished(run: Run, root: Path, base: Recipe) -> Result | None:
    """What a run gave, or None where it is not done."""
    file = run.folder(root, base) / results.FILE
    return Result(**json.loads(file.read_text())) if file.exists() else None


def picture_counts(root: Path, base: Recipe) -> tuple[int, int]:
    """How many pictures there are for training and for testing."""
    split = pictures.open_splits(dataclasses.replace(base, cache=False), root)
    return split.train.count, split.test.count


def train(runs: Sequence[Run], root: Path, base: Recipe, minutes: float) -> Iterator[tuple[Run, Result]]:
    """Trains what is not done yet, as long as the time lasts.

    Args:
        runs: In their order.
        root: Folder of all runs.
        base: Pictures and optimisation; each run puts its network and seed into it.
        minutes: No run is started that would probably end later.

    Yields:
        Each run that is done, those that were done before too.

    Raises:
        ValueError: The pictures can't be read, or a folder holds a run of another recipe.
    """
    started, split = time.monotonic(), None
    for number, run in enumerate(runs, start=1):
        result = finished(run, root, base)
        if result is None:
            expected = _expected_seconds(run, runs, root, base)
            if (time.monotonic() - started + expected) / 60 > minutes:
                logging.info("%s, seed %d: left out, %.0f minutes are over", run.network.name, run.seed, minutes)
                continue
            if split is None:
                root.mkdir(parents=True, exist_ok=True)
                split = pictures.open_splits(base, root)
            logging.info("run %d of %d: %s %s", number, len(runs), run.network, f"seed {run.seed}")
            result = _train(run, root, base, split)
        yield run, result


def _expected_seconds(run: Run, runs: Sequence[Run], root: Path, base: Recipe) -> float:
    """What the same network took with another seed; 0 where it was never trained."""
    same = (finished(other, root, base) for other in runs if other.network == run.network)
    return max((result.seconds for result in same if result), default=0.0)


def _train(run: Run, root: Path, base: Recipe, split: pictures.Pictures) -> Result:
    """Trains, measures on the test pictures, and keeps the result; goes on from a checkpoint where there is one."""
    recipe, folder = run.recipe(base), run.folder(root, base)
    run_folder.claim(folder, recipe)
    one = cluster.join("one")
    model_file = folder / stages.MODEL_FILE
    if not model_file.exists():
        options = {"classes": len(split.class_names), "classifier_activation": None}
        options["batch_norm_momentum"] = recipe.batch_norm_momentum
        stage = stages.Stage(
            "float", recipe.epochs, recipe.learning_rate, lambda model, steps: run.network.build(**options)
        )
        stages.train(stage, None, recipe, split, folder, one)
    model = network.load(model_file)
    task = tasks.get(recipe.task)
    evaluate = task.validation(recipe, split.test, task.input_config(recipe), model, one)
    counted = km.cost.count(model)
    result = Result(
        accuracy=evaluate(tf.function(lambda images: model(images, training=False)))["accuracy"],
        seconds=history.read(folder)[-1]["seconds"],
        parameters=counted.parameters,
        multiply_adds=counted.multiply_adds,
        date=time.strftime("%Y-%m-%d"),
    )
    unfinished = folder / f"unfinished-{results.FILE}"
    unfinished.write_text(json.dumps(vars(result), indent=2) + "\n")
    os.replace(unfinished, folder / results.FILE)
    keras.backend.clear_session()
    return result
