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

import keras_mobilenet as km
from keras_mobilenet.runtime import Predictor
from training import data, evaluation, files, history, network, stages, tasks
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
        What `results.json` holds: figures of each file (those of the task, 0 to 1; bytes, gzip_bytes, latency_ms;
        sparsity of pruned ones; agreement of the int8 file with the fake-quant model), where the version is, seed,
        versions, command, seconds of training by stage.
    """
    task, names = tasks.get(recipe.task), pictures.test.class_names
    stored = files.convert(
        finished, output_dir, stages.calibration_batches(recipe, pictures.train), names, task.conversion
    )
    figures = {
        row: measure(task, row, path, pictures.test, task.input_config(recipe), output_dir)
        for row, path in stored.items()
    }
    if "prune" in finished:
        for stage, path in finished.items():
            figures[files.ROWS[stage]]["sparsity"] = km.sparsity(network.load(path)).sparsity
    if "int8" in figures:
        figures["int8"] |= task.agreement(*(output_dir / PREDICTIONS / f"{row}.npz" for row in ("int8", "fake_quant")))
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
    network = tasks.get(recipe.task).architecture(recipe)
    return f"{network}_{round(recipe.alpha * 100):03d}_{recipe.image_size}.{Path(recipe.dataset).name}"


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


def measure(
    task: tasks.Task, row: str, path: Path, split: data.Split, config: data.Input, output_dir: Path
) -> dict[str, Any]:
    """Accuracy, size and speed of a stored model; what it said of each picture is kept for the report."""
    predictor = Predictor(path, threads=min(os.cpu_count() or 1, 4))
    said = task.measure(predictor, split, config)
    figures: dict[str, Any] = {"file": str(path.relative_to(output_dir))} | said.figures()
    figures |= evaluation.stored_bytes(path)
    figures["latency_ms"] = evaluation.latency(predictor, config.image_size)
    kept = output_dir / PREDICTIONS / f"{row}.npz"
    kept.parent.mkdir(exist_ok=True)
    said.keep(kept)
    return figures


def _seconds(folder: Path) -> float:
    rows = history.read(folder)
    return round(rows[-1]["seconds"], 1) if rows else 0.0


def table(result: Mapping[str, Any]) -> str:
    """The figures as a Markdown table."""
    columns = tasks.get(result["recipe"].get("task", Recipe.task)).columns
    lines = [
        f"| model | {' | '.join(c.heading for c in columns)} | zeros | file | KB | KB gzipped | ms a picture |",
        "|---" * (6 + len(columns)) + "|",
    ]
    for row, figures in result["figures"].items():
        zeros = f"{figures['sparsity']:.1%}" if "sparsity" in figures else ""
        lines.append(
            f"| {row} | {' | '.join(format(figures[c.figure], c.form) for c in columns)} | {zeros} | {figures['file']} "
            f"| {figures['bytes'] / 1000:,.0f} | {figures['gzip_bytes'] / 1000:,.0f} | {figures['latency_ms']:.2f} |"
        )
    return "\n".join(lines)
