"""Tables and JSON of the check and of the compiler's report."""

import collections
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from keras_mobilenet.export import edge_tpu
from serving.edge_tpu.compiler import CompiledFile
from serving.edge_tpu.compiler_output import CompilerReport


def check(model: Path, report: edge_tpu.CheckReport, every_operator: bool) -> str:
    """The check's table: operators by name, version and reason; or with `every_operator` one by one."""
    mapped = sum(operator.mapped for operator in report.operators)
    lines = [
        f"Check of {model}: {mapped} of {len(report.operators)} operators are expected to map",
        f"  parameters: {report.cached_bytes:,} bytes in the on-chip cache, {report.streamed_bytes:,} streamed",
    ]
    if every_operator:
        rows = [(str(i), op.name, f"v{op.version}", _why(op)) for i, op in enumerate(report.operators)]
        return "\n".join(lines + _table(("#", "operator", "version", "status"), rows))
    counts = collections.Counter((op.name, f"v{op.version}", _why(op)) for op in report.operators)
    rows = [(name, version, str(count), why) for (name, version, why), count in sorted(counts.items())]
    return "\n".join(lines + _table(("operator", "version", "count", "status"), rows))


def compiled(file: CompiledFile) -> str:
    """The table of one compiled file."""
    said = file.said
    lines = [
        f"{file.path}: {said.mapped} operators on the Edge TPU ({said.subgraphs} subgraphs), {said.on_cpu} on the CPU",
        f"  parameters: {said.on_chip_bytes:,} bytes on chip ({said.on_chip_remaining_bytes:,} remain), "
        f"{said.off_chip_bytes:,} off chip",
    ]
    if file.holds is not None:
        lines.append(
            f"  in the file: {file.holds.cached_bytes:,} bytes cached, {file.holds.streamed_bytes:,} streamed, "
            f"runtime {file.holds.min_runtime} or newer, caching token {file.holds.caching_token:#x}"
        )
    rows = [(row.name, str(row.count), row.status) for row in said.rows]
    return "\n".join(lines + _table(("operator", "count", "status"), rows))


def differences(report: edge_tpu.CheckReport, file: CompiledFile) -> Iterator[str]:
    """Sentences on what the check foretold otherwise than it came."""
    foretold = collections.Counter(operator.name for operator in report.operators if not operator.mapped)
    found = collections.Counter(file.holds.cpu_operators if file.holds else [op.name for op in report.operators])
    for name in sorted((foretold - found) + (found - foretold)):
        yield f"the check foretold {foretold[name]} {name} on the CPU, the compiled file has {found[name]}"


def check_json(model: Path, report: edge_tpu.CheckReport) -> dict[str, Any]:
    """The check for JSON."""
    return {"model": str(model), "fully_mapped": report.fully_mapped} | dataclasses.asdict(report)


def compiled_json(report: CompilerReport, files: Sequence[CompiledFile]) -> dict[str, Any]:
    """The compiler's report for JSON, with what stands in the files."""
    models = [
        {"path": str(file.path), "mapped": file.said.mapped, "on_cpu": file.said.on_cpu}
        | dataclasses.asdict(file.said)
        | {"file": dataclasses.asdict(file.holds) if file.holds else None}
        for file in files
    ]
    return {"compiler": report.version, "milliseconds": report.milliseconds, "models": models}


def _why(operator: edge_tpu.CheckedOperator) -> str:
    return f"{operator.reason}: {operator.detail}" if operator.detail else operator.reason


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return ["  " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in (head, *rows)]
