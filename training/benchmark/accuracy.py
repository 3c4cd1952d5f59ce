"""The accuracy of the imagenette96 recipes next to the peer's: `training.train` runs those that are not there yet."""

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training import results

RECIPES = ("imagenette96_prune50", "imagenette96_prune80", "imagenette96_quantize")


@dataclass(frozen=True)
class Row:
    """One figure of a run.

    Attributes:
        title: What it is.
        recipe: Which run.
        row: Row of its `results.json`.
        figure: Figure of that row, a share.
        peer: The peer's on the same schedule, in percent; None where it has none.
        least: What is to be reached, in percent.
    """

    title: str
    recipe: str
    row: str
    figure: str
    peer: float | None
    least: float


# The peer's figures are those of a run of tf_keras with tensorflow-model-optimization 0.8.1 on the same schedule.
ROWS = (
    Row("float, 4 epochs", "imagenette96_quantize", "float", "accuracy", 83.8, 83.8),
    Row("pruned to 50 %, 2 epochs more", "imagenette96_prune50", "pruned", "accuracy", 83.6, 83.8),
    Row("pruned to 80 %, 2 epochs more", "imagenette96_prune80", "pruned", "accuracy", 77.0, 80.5),
    Row("int8 after training", "imagenette96_quantize", "float_int8", "accuracy", 83.6, 83.6),
    Row("int8 file of 2 epochs of QAT", "imagenette96_quantize", "int8", "accuracy", 79.1, 83.8),
    Row("int8 file of 50 % zeros and QAT", "imagenette96_prune50", "int8", "accuracy", None, 83.5),
    Row("same class: int8 file and fake-quant model", "imagenette96_quantize", "int8", "agreement", 97.6, 98.0),
)


def run(runs: Path, data_dir: Path, weights: Path) -> dict[str, dict[str, Any]]:
    """Trains what is not trained yet; the float stage, which the recipes share, once.

    Args:
        runs: Folder of the runs; each has a folder of its recipe's name there.
        data_dir: Folder of the pictures' TFRecords.
        weights: The weights that training starts from.

    Returns:
        Recipe -> its `results.json`.

    Raises:
        RuntimeError: A run failed.
    """
    shared: Path | None = None
    found = {}
    for recipe in RECIPES:
        output_dir = runs / recipe
        if shared and not (output_dir / "float").exists():
            shutil.copytree(shared, output_dir / "float", ignore=shutil.ignore_patterns("checkpoints"))
        command = [sys.executable, "-m", "training.train", f"--recipe={recipe}", f"--output_dir={output_dir}"]
        command += [f"--export_dir={output_dir}/savedmodel", f"--data_dir={data_dir}", f"--weights={weights}"]
        if subprocess.run(command).returncode:
            raise RuntimeError(f"The run failed: {' '.join(command)}")
        found[recipe] = json.loads((output_dir / results.FILE).read_text())
        shared = output_dir / "float"
    return found


def measured(found: Mapping[str, Mapping[str, Any]]) -> list[tuple[Row, float]]:
    """Each row with our figure, in percent."""
    return [(row, 100 * found[row.recipe]["figures"][row.row][row.figure]) for row in ROWS]


def table(figures: Sequence[tuple[Row, float]]) -> str:
    """The rows in Markdown."""
    lines = ["| figure, % | peer | ours | to reach |", "|---|---|---|---|"]
    for row, ours in figures:
        peer = "" if row.peer is None else f"{row.peer:.1f}"
        reached = "yes" if round(ours, 1) >= row.least else "NO"
        lines.append(f"| {row.title} | {peer} | {ours:.2f} | at least {row.least}: {reached} |")
    return "\n".join(lines)
