"""The folder of a run belongs to one recipe."""

import dataclasses
import json
import os
from pathlib import Path

from training.recipe import Recipe

FILE = "recipe.json"
FREE = {"checkpoint_seconds", "strategy"}
"""Fields that may change when a run goes on; the result does not depend on them."""


def claim(folder: Path, recipe: Recipe) -> None:
    """Makes the folder of a run, or makes sure that what it holds is of the same recipe.

    Raises:
        ValueError: It holds a run of another recipe, which this one would go on with.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wanted = dataclasses.asdict(recipe)
    if (folder / FILE).exists():
        there = json.loads((folder / FILE).read_text())
        names = (there.keys() & wanted.keys()) - FREE
        differences = [f"{name}={there[name]!r}" for name in sorted(names) if there[name] != wanted[name]]
        if differences:
            raise ValueError(
                f"{folder} holds a run with {', '.join(differences)}: give the same flags to go on with it, or another "
                "--output_dir."
            )
        return
    unfinished = folder / f"unfinished-{FILE}"
    unfinished.write_text(json.dumps(wanted, indent=2) + "\n")
    os.replace(unfinished, folder / FILE)
