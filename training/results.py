"""What a run ends with: measured files, the exported version and `results.json`."""

import datetime
import json
import os
import platform
import shlex
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

import keras_mobilenet as km
from keras_mobilenet.runtime import Predictor
from training import data, evaluation, files, history, network, stages
from training.pictures import Pictures
from training.recipe import Recipe

FILE = "results.json"
PREDICTIONS = "predictions"


def write(
    recipe: Recipe, pictures: Pictures, finished: Mapping[str, Path], output_dir: Path, export_dir: str | None
) -> dict[str, Any]:
    """Measures every stage's model and its int8 file on the test pictures, exports, and writes `results.json`.

    Args:
        recipe: What was done.
        pictures: On which pictures.
        finished: Stage -> its model file.
        output_dir: Folder of the run.
        export_dir: Folder of the served model's versions; None for savedmodels/<name>.

    Returns:
        What `results.json` holds: figures of each file (accuracy and top_5, 0 to 1; bytes, gzip_bytes, latency_ms;
        sparsity of pruned ones; agreement of the int8 file with the fake-quant model), where the version is, seed,
        versions, command, seconds of training by stage.
    """
    config, names = stages.input_config(recipe), pictures.test.class_names
    stored = files.convert(finished, output_dir, stages.calibration_batches(recipe, pictures.train), names)
    figures = {row: measure(row, path, pictures.test, config, output_dir) for row, path in stored.items()}
    if "prune" in finished:
        for stage, path in finished.items():
            figures[files.ROWS[stage]]["sparsity"] = km.sparsity(network.load(path)).sparsity
    if "int8" in figures:
        figures["int8"]["agreement"] = agreement(output_dir, "int8", "fake_quant")
    last = list(stored)[-1]
    version = km.export_saved_model(
        network.load(list(finished.values())[-1]),
        export_dir or Path("savedmodels") / name(recipe),
        names,
        tflite=stored[last],
        card={"weights": recipe.weights or "random", "dataset": recipe.dataset, "accuracy": figures[last]},
    )
    result = {
        "name": name(recipe),
        "figures": figures,
        "export": str(version),
        "seed": recipe.seed,
        "recipe": dict(vars(recipe)),
        "command": shlex.join(["python", *sys.orig_argv[1:]]),
        "seconds": {stage: _seconds(path.parent) for stage, path in finished.items()},
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
        "versions": versions(),
    }
    unfinished = output_dir / f"unfinished-{FILE}"
    unfinished.write_text(json.dumps(result, indent=2) + "\n")
    os.replace(unfinished, output_dir / FILE)
    return result


def name(recipe: Recipe) -> str:
    """What a run's results are called: network, width multiplier, size, data set."""
    return f"{recipe.model}_{round(recipe.alpha * 100):03d}_{recipe.image_size}.{Path(recipe.dataset).name}"


def machine() -> str:
    """The processor and its number of cores."""
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    models = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return f"{models[0] if models else platform.machine()}, {os.cpu_count()} cores"


def versions() -> dict[str, str]:
    """Versions of what figures depend on."""
    packages = ("keras", "numpy", "tensorflow", "tensorflow-model-optimization", "ai-edge-litert")
    found = {
        distribution.name.lower().replace("_", "-"): distribution.version for distribution in metadata.distributions()
    }
    return {"python": platform.python_version()} | {name: found[name] for name in packages if name in found}


def measure(row: str, path: Path, split: data.Split, config: data.Input, output_dir: Path) -> dict[str, Any]:
    """Accuracy, size and speed of a stored model; what it said of each picture is kept for the report."""
    predictor = Predictor(path, threads=min(os.cpu_count() or 1, 4))
    said = evaluation.evaluate(predictor, split, config)
    figures: dict[str, Any] = {"file": str(path.relative_to(output_dir))} | said.figures()
    figures |= evaluation.stored_bytes(path)
    figures["latency_ms"] = evaluation.latency(predictor, config.image_size)
    _keep(said, output_dir / PREDICTIONS / f"{row}.npz")
    return figures


def _keep(said: evaluation.Evaluation, path: Path) -> None:
    """Keeps label, class and their probabilities; not all scores, which would be 200 MB for ImageNet."""
    path.parent.mkdir(exist_ok=True)
    probabilities, all_pictures = said.probabilities(), np.arange(len(said.labels))
    np.savez_compressed(
        path,
        labels=said.labels,
        predicted=said.predicted,
        probability=probabilities[all_pictures, said.labels].astype(np.float32),
        highest=probabilities[all_pictures, said.predicted].astype(np.float32),
    )


def agreement(output_dir: Path, row: str, other: str) -> float:
    """Share of the test pictures that two files take for the same class, 0 to 1."""
    said = [np.load(output_dir / PREDICTIONS / f"{name}.npz")["predicted"] for name in (row, other)]
    return float(np.mean(said[0] == said[1]))


def _seconds(folder: Path) -> float:
    rows = history.read(folder)
    return round(rows[-1]["seconds"], 1) if rows else 0.0


def table(result: Mapping[str, Any]) -> str:
    """The figures as a Markdown table."""
    lines = [
        "| model | top-1 | top-5 | zeros | file | KB | KB gzipped | ms a picture |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row, figures in result["figures"].items():
        zeros = f"{figures['sparsity']:.1%}" if "sparsity" in figures else ""
        lines.append(
            f"| {row} | {figures['accuracy']:.2%} | {figures['top_5']:.2%} | {zeros} | {figures['file']} "
            f"| {figures['bytes'] / 1000:,.0f} | {figures['gzip_bytes'] / 1000:,.0f} | {figures['latency_ms']:.2f} |"
        )
    return "\n".join(lines)
