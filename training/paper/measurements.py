"""Latency and accuracy of networks on this machine, kept in a file beside the documents that show them."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

import keras_mobilenet as km
from keras_mobilenet.runtime import Predictor
from training import parity
from training.paper import document
from training.paper.networks import Network

FILE = "measurements.json"
WARM_UP = 2


@dataclass(frozen=True)
class Latency:
    """Milliseconds for one picture, float32 by LiteRT.

    Attributes:
        median: Of all rounds.
        first_quartile: Of the same.
        third_quartile: Of the same.
    """

    median: float
    first_quartile: float
    third_quartile: float

    def __str__(self) -> str:
        return f"{self.median:.1f} ({self.first_quartile:.1f} to {self.third_quartile:.1f})"


@dataclass(frozen=True)
class Accuracy:
    """Hits on pictures of the thousand classes, in percent.

    Attributes:
        top_1: Share of pictures whose class has the highest score.
        top_5: Share of pictures whose class is among the five highest.
        pictures: How many there were.
        file: Where the weights are from.
    """

    top_1: float
    top_5: float
    pictures: int
    file: str


def latencies(folder: Path) -> dict[str, Latency]:
    """What was measured: key of the network -> latency; nothing where nothing was."""
    return {key: Latency(**value) for key, value in _read(folder).get("latency", {}).items()}


def accuracies(folder: Path) -> dict[str, Accuracy]:
    """What was measured: key of the network and file -> accuracy; nothing where nothing was."""
    return {key: Accuracy(**value) for key, value in _read(folder).get("accuracy", {}).items()}


def note(folder: Path, kind: str) -> str:
    """When and where "latency" or "accuracy" was measured."""
    return str(_read(folder).get("about", {}).get(kind, "not measured"))


def _read(folder: Path) -> dict[str, Any]:
    file = folder / FILE
    return json.loads(file.read_text()) if file.exists() else {}


def _keep(folder: Path, kind: str, found: Mapping[str, Any]) -> None:
    kept = _read(folder)
    kept.setdefault(kind, {}).update({key: asdict(value) for key, value in found.items()})
    kept.setdefault("about", {})[kind] = document.stamp()
    document.write(folder, FILE, json.dumps(kept, indent=2) + "\n")


def measure_latency(networks: Sequence[Network], models: Path, output_dir: Path, rounds: int) -> None:
    """Converts the networks to LiteRT and lets them take turns.

    Args:
        networks: Which; their weights are random.
        models: Folder for the `.tflite` files; those that are there are not converted again.
        output_dir: Where `measurements.json` is.
        rounds: Pictures that each network gets after two more.
    """
    predictors = {network.key: _predictor(network, models) for network in networks}
    pictures = {
        network.key: predictors[network.key].image_input(
            np.random.default_rng(0).integers(0, 256, (1, network.size, network.size, 3), np.uint8)
        )
        for network in networks
    }
    taken: dict[str, list[float]] = {key: [] for key in predictors}
    for turn in range(rounds + WARM_UP):
        for key, predictor in predictors.items():
            start = time.perf_counter()
            predictor.predict(pictures[key])
            if turn >= WARM_UP:
                taken[key].append(1000 * (time.perf_counter() - start))
    found = {}
    for key, values in taken.items():
        first, middle, third = (round(float(value), 3) for value in np.quantile(values, [0.25, 0.5, 0.75]))
        found[key] = Latency(middle, first, third)
    _keep(output_dir, "latency", found)


def _predictor(network: Network, models: Path) -> Predictor:
    file = models / f"{network.key}.tflite"
    if not file.exists():
        models.mkdir(parents=True, exist_ok=True)
        keras.backend.clear_session()
        km.convert_tflite(network.build(), path=file)
    return Predictor(file, threads=2)


def measure_accuracy(data: Path, output_dir: Path, count: int) -> None:
    """Measures the weights files of `training.parity` on its pictures, as that program does."""
    pictures = parity.read_pictures(data, count)
    found = {}
    for file in parity.FILES:
        if not file.include_top:
            continue
        keras.backend.clear_session()
        scores = parity.our_scores(parity.build(file, data), pictures, file.size)
        top_1, top_5 = parity.accuracy(scores, pictures.labels)
        key = Network(file.network, file.alpha, file.size).key
        found[f"{key} {file.name}"] = Accuracy(top_1, top_5, len(pictures.labels), file.name)
    _keep(output_dir, "accuracy", found)
