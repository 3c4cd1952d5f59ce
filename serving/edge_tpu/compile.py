"""Compiles .tflite files for the Edge TPU: `python -m serving.edge_tpu.compile MODEL.tflite...`.

First each file is checked by itself, which needs no compiler; then edgetpu_compiler runs. Several models are
co-compiled: they share the on-chip cache, earlier ones first. Exit status: 0; 1 where an operator is left on the CPU
(unless --allow_cpu_ops); 2 where nothing could be compiled.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import app, flags

from keras_mobilenet.export import edge_tpu
from serving.edge_tpu import compiler, tables

_OUT_DIR = flags.DEFINE_string("out_dir", ".", "Where compiled files and logs go.")
_RUNTIME = flags.DEFINE_integer(
    "min_runtime_version", None, "Oldest Edge TPU runtime to run on; by default the compiler's.", 10, 14
)
_SEGMENTS = flags.DEFINE_integer("num_segments", None, "Cut into this many files, one per Edge TPU.", 1)
_TIMEOUT = flags.DEFINE_integer("timeout_sec", None, "Seconds the compiler may take; by default 180.", 1)
_SHOW = flags.DEFINE_bool("show_operations", False, "List every operator of the check, mapped ones too.")
_ALLOW = flags.DEFINE_bool("allow_cpu_ops", False, "End with status 0 though operators are left on the CPU.")
_JSON = flags.DEFINE_string("json", None, "Write what the tables say to this file as JSON.")
_COMPILER = flags.DEFINE_string("compiler", compiler.PROGRAM, "The compiler's program.")

_ON_CPU, _FAILED = 1, 2


def main(argv: list[str]) -> int:
    """Checks and compiles the files named on the command line."""
    models = [Path(name) for name in argv[1:]]
    try:
        _check_names(models)
        checks = [_check(model) for model in models]
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return _FAILED
    for model, report in zip(models, checks, strict=True):
        print(tables.check(model, report, _SHOW.value))
    said: dict[str, Any] = {"checks": [tables.check_json(*pair) for pair in zip(models, checks, strict=True)]}
    foretold = any(not report.fully_mapped for report in checks)
    try:
        status, said["compiled"] = _compile(models, checks)
    except compiler.CompilationError as error:
        print(f"error: {error}", file=sys.stderr)
        status = _ON_CPU if foretold and not _ALLOW.value else _FAILED
    if _JSON.value is not None:
        Path(_JSON.value).write_text(json.dumps(said, indent=2) + "\n")
    return status


def _check_names(models: Sequence[Path]) -> None:
    if not models:
        raise ValueError("name one or more .tflite files: python -m serving.edge_tpu.compile MODEL.tflite...")
    names = [model.name for model in models]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(
            f"two of the files are called {twice[0]}: their outputs would overwrite each other; rename one"
        )


def _check(model: Path) -> edge_tpu.CheckReport:
    try:
        report = edge_tpu.check(model, **({"runtime": _RUNTIME.value} if _RUNTIME.value else {}))
    except ValueError as error:
        raise ValueError(f"{model}: {error}") from error
    reasons = {operator.reason for operator in report.operators}
    if edge_tpu.Reason.DYNAMIC in reasons:
        raise ValueError(f"{model}: {report.operators[0].detail}; the compiler refuses dynamic sizes")
    if reasons == {edge_tpu.Reason.DATA_TYPE}:
        raise ValueError(
            f"{model}: no operator works on 8-bit integers: the model isn't quantized. Convert it with "
            "quantization='int8' (km.convert_tflite)"
        )
    return report


def _compile(models: Sequence[Path], checks: Sequence[edge_tpu.CheckReport]) -> tuple[int, dict[str, Any]]:
    options = compiler.Options(Path(_OUT_DIR.value), _RUNTIME.value, _SEGMENTS.value, _TIMEOUT.value)
    report, files = compiler.run(models, options, _COMPILER.value)
    print(f"Edge TPU Compiler {report.version}, {report.milliseconds} ms")
    for file in files:
        print(tables.compiled(file))
    if len(files) == len(checks):
        for model, check, file in zip(models, checks, files, strict=True):
            for line in tables.differences(check, file):
                print(f"note: {model.name}: {line}", file=sys.stderr)
    left = any(file.said.on_cpu for file in files)
    return (_ON_CPU if left and not _ALLOW.value else 0), tables.compiled_json(report, files)


if __name__ == "__main__":
    app.run(main)
