"""What the commands write: Markdown that says how it came about, and figures as PNG."""

import datetime
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from training import results


def stamp() -> str:
    """The command, the date, the machine and the versions, for the head of a document."""
    versions = results.versions()
    named = ", ".join(f"{name} {versions[name]}" for name in ("tensorflow", "keras", "numpy") if name in versions)
    command = shlex.join(["python", *sys.orig_argv[1:]])
    return f"`{command}`, {datetime.date.today()}, {results.machine()}, {named}"


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, with a blank line behind it."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"


def write(folder: Path, name: str, text: str) -> Path:
    """Writes a text file, whole or not at all, and says where."""
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f".{name}.unfinished"
    unfinished.write_text(text, encoding="utf-8")
    os.replace(unfinished, folder / name)
    print(folder / name, flush=True)
    return folder / name


def save(folder: Path, name: str, figure: Figure) -> Path:
    """Writes a figure as PNG, and closes it."""
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / name, dpi=110)
    plt.close(figure)
    print(folder / name, flush=True)
    return folder / name
