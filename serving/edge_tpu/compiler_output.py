"""Reads what edgetpu_compiler prints and logs.

The format is that of compiler 16.0 as documented (coral.ai/docs/edgetpu/compiler) and as quoted in the issues of
github.com/google-coral/edgetpu, such as 458 for several models and 512 for operators left on the CPU.
"""

import dataclasses
import re
from collections.abc import Iterable
from typing import Any

MAPPED = "Mapped to Edge TPU"

_FIELDS = {
    "Input model": "input_model",
    "Input size": "input_bytes",
    "Output model": "output_model",
    "Output size": "output_bytes",
    "On-chip memory used for caching model parameters": "on_chip_bytes",
    "On-chip memory remaining for caching model parameters": "on_chip_remaining_bytes",
    "Off-chip memory used for streaming uncached model parameters": "off_chip_bytes",
    "Number of Edge TPU subgraphs": "subgraphs",
    "Total number of operations": "operations",
    "Operation log": "operation_log",
}
_TEXTS = ("input_model", "output_model", "operation_log")
_SIZE = re.compile(r"([\d.]+)\s*([KMG]i)?B?$")
_FACTORS = {None: 1, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}
_ROW = re.compile(r"^(\S+)\s+(\d+)\s+(\S.*?)\s*$")
_DURATION = re.compile(r"^Models? compiled successfully in (\d+) ms")
_VERSION = re.compile(r"^Edge TPU Compiler version (\S+)")


@dataclasses.dataclass(frozen=True)
class OperatorRow:
    """One row of the operation log."""

    name: str
    count: int
    status: str

    @property
    def mapped(self) -> bool:
        """Whether these run on the Edge TPU."""
        return self.status == MAPPED


@dataclasses.dataclass(frozen=True)
class ModelReport:
    """What the compiler says of one model. Sizes are bytes, as exact as its three digits are."""

    input_model: str
    output_model: str
    input_bytes: int
    output_bytes: int
    on_chip_bytes: int
    on_chip_remaining_bytes: int
    off_chip_bytes: int
    subgraphs: int
    operations: int
    operation_log: str
    rows: tuple[OperatorRow, ...] = ()

    @property
    def on_cpu(self) -> int:
        """Operators left on the CPU."""
        return sum(row.count for row in self.rows if not row.mapped)

    @property
    def mapped(self) -> int:
        """Operators on the Edge TPU."""
        return sum(row.count for row in self.rows if row.mapped)


@dataclasses.dataclass(frozen=True)
class CompilerReport:
    """What the compiler says of one run: its version, how long it took, and a report per output file."""

    version: str
    milliseconds: int
    models: tuple[ModelReport, ...]


def parse(output: str) -> CompilerReport:
    """Reads the compiler's standard output.

    Args:
        output: The whole of it; operators are read where --show_operations printed them.

    Returns:
        The report; its models are in the output's order.

    Raises:
        ValueError: If it tells of no compiled model, or a line that should be there is missing.
    """
    lines = [line.strip() for line in output.splitlines()]
    starts = [index for index, line in enumerate(lines) if line.startswith("Input model:")]
    if not starts:
        raise ValueError("the compiler's output tells of no compiled model")
    ends = [*starts[1:], len(lines)]
    models = tuple(_model(lines[start:end]) for start, end in zip(starts, ends, strict=True))
    return CompilerReport(_first(_VERSION, lines, ""), int(_first(_DURATION, lines, "0")), models)


def parse_rows(lines: Iterable[str]) -> tuple[OperatorRow, ...]:
    """Reads the rows under `Operator Count Status`, in a log file or in the output."""
    rows, inside = [], False
    for line in lines:
        if line.split() == ["Operator", "Count", "Status"]:
            inside = True
        elif inside and (match := _ROW.match(line)):
            rows.append(OperatorRow(match[1], int(match[2]), match[3]))
        elif inside and line.strip():
            inside = False
    return tuple(rows)


def size(text: str) -> int:
    """Reads a size such as `4.21MiB` or `0.00B` as bytes.

    Raises:
        ValueError: If it isn't one.
    """
    match = _SIZE.match(text.strip())
    if match is None:
        raise ValueError(f"{text!r} isn't a size such as '4.21MiB'")
    return round(float(match[1]) * _FACTORS[match[2]])


def _model(lines: list[str]) -> ModelReport:
    found: dict[str, str] = {}
    for line in lines:
        label, separator, value = line.partition(":")
        if separator and label in _FIELDS:
            found[_FIELDS[label]] = value.strip()
    missing = [label for label, field in _FIELDS.items() if field not in found]
    if missing:
        raise ValueError(f"the compiler's output for {found['input_model']} lacks the line {missing[0]!r}")
    values: dict[str, Any] = {name: _value(name, text) for name, text in found.items()}
    return ModelReport(**values, rows=parse_rows(lines))


def _value(name: str, text: str) -> str | int:
    if name in _TEXTS:
        return text
    return size(text) if name.endswith("_bytes") else int(text)


def _first(pattern: re.Pattern[str], lines: list[str], default: str) -> str:
    return next((match[1] for line in lines if (match := pattern.match(line))), default)
