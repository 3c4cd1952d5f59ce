"""Trains, prunes, quantizes and exports a MobileNet: `python -m training.train --recipe=digits --output_dir=RUN`.

Killed at any moment and started again with the same flags, it goes on from its last checkpoint.
"""

import dataclasses
from pathlib import Path
from typing import get_type_hints

import tensorflow as tf
from absl import app, flags, logging

from training import cluster, console, pictures, recipe, restart, results, run_folder, stages

_RECIPE = flags.DEFINE_string("recipe", None, "Name of a recipe in training/recipes; flags override its fields.")
_OUTPUT = flags.DEFINE_string("output_dir", None, "Folder of checkpoints, curves and results.json.", required=True)
_EXPORT = flags.DEFINE_string("export_dir", None, "Folder of the served model's versions; default savedmodels/NAME.")


def _define_recipe_flags() -> None:
    """One flag for each field of a recipe; its default, None, leaves the recipe's value."""
    kinds = get_type_hints(recipe.Recipe)
    for item in dataclasses.fields(recipe.Recipe):
        text, choices = item.metadata["help"], item.metadata["choices"]
        text = f"{text} (default: {item.default})"
        if choices:
            flags.DEFINE_enum(item.name, None, choices, text)
        elif kinds[item.name] is bool:
            flags.DEFINE_bool(item.name, None, text)
        elif kinds[item.name] is int:
            flags.DEFINE_integer(item.name, None, text)
        elif kinds[item.name] is float:
            flags.DEFINE_float(item.name, None, text)
        else:
            flags.DEFINE_string(item.name, None, text)


def recipe_from_flags() -> recipe.Recipe:
    """The recipe of the command line."""
    base = recipe.load(_RECIPE.value) if _RECIPE.value else recipe.Recipe()
    names = [item.name for item in dataclasses.fields(base)]
    given = {name: flags.FLAGS[name].value for name in names if flags.FLAGS[name].value is not None}
    return dataclasses.replace(base, **given)


def run(chosen: recipe.Recipe, output_dir: Path, export_dir: str | None) -> None:
    """Runs the stages, then measures and exports."""
    if chosen.deterministic:
        tf.config.experimental.enable_op_determinism()
    joined = cluster.join(chosen.strategy)
    if joined.chief:
        run_folder.claim(output_dir, chosen)
    splits = pictures.open_splits(chosen, output_dir, joined.worker)
    finished = stages.run(chosen, splits, output_dir, joined)
    if joined.chief:
        result = results.write(chosen, splits, finished, output_dir, export_dir)
        print(results.table(result))
    joined.wait()


def main(argv: list[str]) -> None:
    """Reads the flags and runs."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    console.only_ours()
    output_dir = Path(_OUTPUT.value)
    if (output_dir / results.FILE).exists():
        logging.info("This run is done: %s. Remove that file to measure and export again.", output_dir / results.FILE)
        return
    try:
        chosen = recipe_from_flags()
        run(chosen, output_dir, _EXPORT.value)
    except (ValueError, OSError, ImportError) as error:
        raise SystemExit(f"{type(error).__name__}: {error}") from error
    except restart.LOST as error:
        if chosen.strategy == "multi_worker":
            restart.start_again(output_dir, error)
        raise


if __name__ == "__main__":
    _define_recipe_flags()
    app.run(main)
