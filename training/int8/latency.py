"""How long LiteRT takes for a picture with our files and with Coral's, and what sparsity does to a file's size."""

import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

import keras_mobilenet as km
from keras_mobilenet import tflite_file
from keras_mobilenet.runtime import Predictor
from training.int8 import accuracy
from training.spread import quartiles

CORAL = "tf2_mobilenet_v2_1.0_224_ptq.tflite"
SPARSITY = 0.8


@dataclass(frozen=True)
class Timed:
    """Milliseconds for a picture: median, first and third quartile over the rounds' medians."""

    median: float
    low: float
    high: float


def files(data: Path) -> dict[str, bytes]:
    """Coral's int8 MobileNetV2 1.0, and ours with its weights as int8, float and sparse float files."""
    original = data / "weights" / CORAL
    model = km.MobileNetV2((accuracy.SIZE, accuracy.SIZE, 3), 1.0, weights=original)
    quantized = km.quantize_post_training(model, accuracy.calibration_pictures(data))
    pruned = km.prune(model, km.ConstantSparsity(SPARSITY, begin_step=0))
    return {
        f"Coral's {CORAL}": original.read_bytes(),
        "ours, int8": km.convert_tflite(quantized, "int8"),
        "ours, float32": km.convert_tflite(model, "float32"),
        f"ours, float32 with {SPARSITY:.0%} zeros": km.convert_tflite(pruned, "float32"),
    }


def timed(
    contents: Mapping[str, bytes], folder: Path, *, rounds: int, runs: int, threads: int, size: int = accuracy.SIZE
) -> dict[str, Timed]:
    """Times files that take turns in one process.

    Args:
        contents: Name -> file.
        folder: Where the files are put.
        rounds: Turns that each file gets.
        runs: Pictures in a turn.
        threads: CPU threads of LiteRT.
        size: Height and width of their input, in pixels.
    """
    predictors, pictures, medians = {}, {}, {}
    for number, (name, content) in enumerate(contents.items()):
        path = folder / f"{number}.tflite"
        path.write_bytes(content)
        predictors[name] = Predictor(path, threads=threads)
        picture = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), np.uint8)
        pictures[name] = predictors[name].image_input(picture)
        medians[name] = []
    for turn in range(rounds + 1):  # the first turn is to warm up
        for name, predictor in predictors.items():
            seconds = []
            for _ in range(runs):
                start = time.perf_counter()
                predictor.predict(pictures[name])
                seconds.append(time.perf_counter() - start)
            if turn:
                medians[name].append(1000 * statistics.median(seconds))
    return {name: Timed(statistics.median(all_), *quartiles(all_)) for name, all_ in medians.items()}


def operators(content: bytes) -> str:
    """The kinds of operators in a file, each with its newest version."""
    versions: dict[str, int] = {}
    for operator in tflite_file.read(content).main.operators:
        versions[operator.name] = max(operator.version, versions.get(operator.name, 0))
    return ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))


def table(data: Path, folder: Path, *, rounds: int = 15, runs: int = 40, threads: int = 2) -> Iterator[str]:
    """Lines of Markdown: latency, its ratio to Coral's file and to our float one, size, operators."""
    keras.backend.clear_session()
    contents = files(data)
    times = timed(contents, folder, rounds=rounds, runs=runs, threads=threads)
    coral, _, dense, sparse = times
    yield f"| MobileNetV2 1.0, 224 | ms a picture | to {CORAL} | to our float32 | bytes | operators and versions |"
    yield "|---|---|---|---|---|---|"
    for name, own in times.items():
        yield (
            f"| {name} | {own.median:.2f} ({own.low:.2f} to {own.high:.2f}) | {own.median / times[coral].median:.2f} "
            f"| {own.median / times[dense].median:.2f} | {len(contents[name]):,} | {operators(contents[name])} |"
        )
    share = len(contents[sparse]) / len(contents[dense])
    yield (
        f"\nMedian of {rounds} turns of {runs} pictures, first and third quartile; LiteRT with {threads} threads. "
        f"The file with {SPARSITY:.0%} zeros has {share:.2f} of the dense one's bytes.\n"
    )
