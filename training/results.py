"""What a run ends with: measured accuracy, the exported version and `results.json`."""

import datetime
import json
import os
import platform
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

import keras_mobilenet as km
from training import data, stages
from training.metrics import evaluate
from training.recipe import Recipe

FILE = "results.json"


def write(
    recipe: Recipe,
    pictures: stages.Pictures,
    finished: Mapping[str, Path],
    output_dir: Path,
    export_dir: str | None,
    seconds: float,
) -> dict[str, Any]:
    """Measures every stage's model on the test pictures, exports the last one and writes `results.json`.

    Args:
        recipe: What was done.
        pictures: On which pictures.
        finished: Stage -> its model file.
        output_dir: Folder of `results.json`.
        export_dir: Folder of the served model's versions; None for savedmodels/<name>.
        seconds: How long the run took.

    Returns:
        What `results.json` holds.
    """
    figures = {stage: measure(keras.models.load_model(path), recipe, pictures.test) for stage, path in finished.items()}
    last = list(finished)[-1]
    card = {"weights": recipe.weights or "random", "dataset": recipe.dataset, "accuracy": figures[last]}
    version = km.export_saved_model(
        keras.models.load_model(finished[last]),
        export_dir or Path("savedmodels") / name(recipe),
        pictures.test.class_names,
        card=card,
    )
    result = {
        "name": name(recipe),
        "figures": figures,
        "test_pictures": pictures.test.count,
        "export": str(version),
        "seed": recipe.seed,
        "recipe": dict(vars(recipe)),
        "command": shlex.join([sys.executable, *sys.orig_argv[1:]]),
        "seconds": round(seconds, 1),
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {"python": platform.python_version(), "tensorflow": tf.__version__, "keras": keras.__version__},
    }
    unfinished = output_dir / f"unfinished-{FILE}"
    unfinished.write_text(json.dumps(result, indent=2) + "\n")
    os.replace(unfinished, output_dir / FILE)
    return result


def name(recipe: Recipe) -> str:
    """What a run's results are called: network, width multiplier, size, data set."""
    return f"{recipe.model}_{round(recipe.alpha * 100):03d}_{recipe.image_size}.{Path(recipe.dataset).name}"


def measure(model: keras.Model, recipe: Recipe, split: data.Split) -> dict[str, float]:
    """Accuracy of a model on a split, and its number of parameters."""
    predict = tf.function(lambda images: model(images, training=False), reduce_retracing=True)
    figures = evaluate(predict, data.batches(split, stages.input_config(recipe), training=False))
    return figures | {"parameters": km.cost.count(model).parameters}
