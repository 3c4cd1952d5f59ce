"""Runs edgetpu_compiler on files; what it writes appears when all of it is there."""

import dataclasses
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from keras_mobilenet.export import edge_tpu
from serving.edge_tpu import compiler_output
from serving.edge_tpu.compiler_output import CompilerReport, ModelReport

PROGRAM = "edgetpu_compiler"
HOW_TO_GET_IT = (
    f"{PROGRAM} isn't on this machine. It comes from Coral's Debian repository for x86-64:\n"
    "  curl -fsSL https://packages.cloud.google.com/apt/doc/apt-key.gpg | sudo tee /etc/apt/keyrings/coral.asc\n"
    '  echo "deb [signed-by=/etc/apt/keyrings/coral.asc] https://packages.cloud.google.com/apt '
    'coral-edgetpu-stable main" | sudo tee /etc/apt/sources.list.d/coral-edgetpu.list\n'
    "  sudo apt-get update && sudo apt-get install edgetpu-compiler\n"
    "or in a container, from the checkout:\n"
    "  docker build -t edgetpu-compiler serving/edge_tpu\n"
    '  docker run --rm -u "$(id -u):$(id -g)" -v "$PWD:/work" edgetpu-compiler MODEL.tflite'
)


class CompilationError(Exception):
    """The compiler isn't there, or it refused."""


@dataclasses.dataclass(frozen=True)
class Options:
    """What is passed on to the compiler; None leaves its default."""

    out_dir: Path
    min_runtime_version: int | None = None
    num_segments: int | None = None
    timeout_seconds: int | None = None


@dataclasses.dataclass(frozen=True)
class CompiledFile:
    """One file that was written: what the compiler says of it, and what stands in it."""

    path: Path
    said: ModelReport
    holds: edge_tpu.CompiledModel | None  # None where nothing was mapped: the compiler then writes the model as it was


def find(program: str = PROGRAM) -> str | None:
    """The compiler's path, or None."""
    return shutil.which(program)


def command(program: str, models: Sequence[Path], options: Options, out_dir: Path) -> list[str]:
    """The compiler's command line."""
    arguments = [program, "--show_operations", "--out_dir", os.fspath(out_dir)]
    if options.min_runtime_version is not None:
        arguments += ["--min_runtime_version", str(options.min_runtime_version)]
    if options.num_segments is not None:
        arguments += ["--num_segments", str(options.num_segments)]
    if options.timeout_seconds is not None:
        arguments += ["--timeout_sec", str(options.timeout_seconds)]
    return [*arguments, *map(os.fspath, models)]


def run(models: Sequence[Path], options: Options, program: str = PROGRAM) -> tuple[CompilerReport, list[CompiledFile]]:
    """Compiles models; several are co-compiled and share the cache, earlier ones first.

    Args:
        models: The .tflite files.
        options: Where to write, and what else the compiler is told.
        program: The compiler.

    Returns:
        The compiler's report, and the files written into `options.out_dir` beside their logs.

    Raises:
        CompilationError: If the compiler is missing, fails, or leaves out a file; older files stay as they were.
    """
    if find(program) is None:
        raise CompilationError(HOW_TO_GET_IT)
    options.out_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".edgetpu-", dir=options.out_dir) as scratch:
        output = _call(command(program, models, options, Path(scratch)))
        try:
            report = compiler_output.parse(output)
            files = [_read(Path(scratch), said) for said in report.models]
        except (ValueError, FileNotFoundError) as error:
            raise CompilationError(f"{error}\n{output.strip()}") from error
        for written in sorted(Path(scratch).iterdir()):
            written.replace(options.out_dir / written.name)
    return report, [dataclasses.replace(file, path=options.out_dir / file.path.name) for file in files]


def _call(arguments: list[str]) -> str:
    done = subprocess.run(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    # Some failures end with status 0 and nothing but a sentence.
    if done.returncode != 0 or "Compilation failed" in done.stdout or "Internal compiler error" in done.stdout:
        said = done.stdout.strip() or "nothing"
        raise CompilationError(f"{arguments[0]} failed with status {done.returncode}. It said:\n{said}")
    return done.stdout


def _read(folder: Path, said: ModelReport) -> CompiledFile:
    """The log has the operators also where the output leaves mapped ones out."""
    path, log = folder / Path(said.output_model).name, folder / Path(said.operation_log).name
    rows = compiler_output.parse_rows(log.read_text().splitlines()) if log.exists() else ()
    content = path.read_bytes()
    holds = edge_tpu.inspect(content) if said.subgraphs else None
    return CompiledFile(path, dataclasses.replace(said, rows=rows or said.rows), holds)
