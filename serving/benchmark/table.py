"""The benchmark's results, as Markdown and as JSON."""

import dataclasses
import datetime
import importlib.metadata
import json
import platform
import shlex
import sys
from collections.abc import Sequence
from typing import Any

import psutil

_PACKAGES = ("tensorflow", "ai-edge-litert", "grpcio", "numpy")


@dataclasses.dataclass(frozen=True)
class Row:
    """One figure.

    Args:
        figure: What was measured.
        target: What it should reach, in words.
        values: The figure of each round.
        reached: Whether the median does; None where the target does not apply.
        unit: Behind each value.
        detail: What the figure is made of.
    """

    figure: str
    target: str
    values: tuple[float, ...]
    reached: bool | None
    unit: str = ""
    detail: str = ""

    @property
    def median(self) -> float | None:
        """The middle of the rounds, None without any."""
        ordered = sorted(self.values)
        middle = len(ordered) // 2
        if not ordered:
            return None
        return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def markdown(rows: Sequence[Row]) -> str:
    """Writes the table with the circumstances it stands for."""
    lines = ["| figure | target | median | rounds, least to most | reached | detail |", "|---|---|---|---|---|---|"]
    for row in rows:
        reached = {True: "yes", False: "no", None: ""}[row.reached]
        middle, spread = "not measured", ""
        if row.values:
            middle = f"{row.median:.2f}{row.unit}"
            spread = f"{min(row.values):.2f} to {max(row.values):.2f}"
        lines.append(f"| {row.figure} | {row.target} | {middle} | {spread} | {reached} | {row.detail} |")
    facts = circumstances()
    packages = ", ".join(f"{name} {version}" for name, version in facts["packages"].items())
    lines += ["", f"{facts['date']}, {facts['machine']}, {packages}: `{facts['command']}`"]
    return "\n".join(lines)


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
        "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "command": "python -m serving.benchmark " + shlex.join(sys.argv[1:]),
    }
