"""The benchmark's results, as Markdown and as JSON."""

import dataclasses
import datetime
import importlib.metadata
import json
import platform
import shlex
import statistics
import sys
from collections.abc import Sequence
from typing import Any

import psutil

_PACKAGES = ("tensorflow", "ai-edge-litert", "grpcio", "numpy", "apache-beam")


@dataclasses.dataclass(frozen=True)
class Row:
    """One figure.

    Args:
        figure: What was measured.
        target: What it should reach, in words.
        values: The figure of each round.
        reached: Whether the median does.
        unit: Behind each value.
        detail: What the figure is made of.
    """

    figure: str
    target: str
    values: tuple[float, ...]
    reached: bool
    unit: str = ""
    detail: str = ""

    @property
    def median(self) -> float:
        """The middle of the rounds."""
        return statistics.median(self.values)


def markdown(rows: Sequence[Row]) -> str:
    """Writes the table with the circumstances it stands for."""
    head = ["| figure | target | median | rounds, least to most | reached | detail |", "|---|---|---|---|---|---|"]
    facts = circumstances()
    packages = ", ".join(f"{name} {version}" for name, version in facts["packages"].items())
    foot = f"{facts['date']}, {facts['machine']}, {packages}: `{facts['command']}`"
    return "\n".join([*head, *map(line, rows), "", foot])


def line(row: Row) -> str:
    """Writes one line of the table."""
    reached = "yes" if row.reached else "no"
    spread = f"{min(row.values):.2f} to {max(row.values):.2f}"
    return f"| {row.figure} | {row.target} | {row.median:.2f}{row.unit} | {spread} | {reached} | {row.detail} |"


def as_json(rows: Sequence[Row]) -> str:
    """Writes the same as JSON."""
    entries = [dataclasses.asdict(row) | {"median": row.median} for row in rows]
    return json.dumps({**circumstances(), "rows": entries}, indent=2)


def circumstances() -> dict[str, Any]:
    """Returns when, where, with what and by which command."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes"),
        "machine": f"{platform.machine()}, {psutil.cpu_count()} CPUs, load {psutil.getloadavg()[2]:.1f} before",
        "python": platform.python_version(),
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
        "command": f"python -m {_program()} {shlex.join(sys.argv[1:])}",
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _program() -> str:
    """The module that was run with `-m`, a package for its `__main__`; else the program's file."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec.name.removesuffix(".__main__") if spec else sys.argv[0]
