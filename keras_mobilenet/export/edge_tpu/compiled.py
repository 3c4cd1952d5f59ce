"""Reads what the Edge TPU compiler wrote: what stayed on the CPU, where the parameters are, which runtime it needs.

Each part for the Edge TPU is one custom operator. Its options are a FlexBuffer map whose key "4" holds a flatbuffer
`Package`; the package holds executables. The schema is public: github.com/google-coral/libedgetpu,
executable/executable.fbs. Only the slots read here are named below, by their number in the schema's tables.
"""

import dataclasses
import os
import struct
from collections.abc import Iterator

from flatbuffers import flexbuffers, number_types
from flatbuffers.encode import Get
from flatbuffers.packer import uoffset
from flatbuffers.table import Table

from keras_mobilenet import tflite_file

CUSTOM_OPERATOR = "edgetpu-custom-op"
IDENTIFIER = b"DWN1"

_PACKAGE_KEY = "4"
_PACKAGE_MIN_RUNTIME, _PACKAGE_EXECUTABLES, _PACKAGE_COMPILER = 0, 1, 4
_EXECUTABLES_LIST = 0
_EXECUTABLE_PARAMETERS, _EXECUTABLE_TYPE, _EXECUTABLE_TOKEN = 6, 13, 14
_PARAMETER_CACHING = 1  # the other types, stand-alone and execution-only, carry the parameters that are streamed


@dataclasses.dataclass(frozen=True)
class CompiledModel:
    """What a compiled file shows.

    Attributes:
        cpu_operators: names of the operators left on the CPU, one per operator, in the file's order.
        cached_bytes: parameters kept on the chip between calls.
        streamed_bytes: parameters sent to the chip in every call.
        min_runtime: the oldest Edge TPU runtime that runs it.
        caching_token: models with equal tokens were co-compiled and share the cache; 0 where nothing is cached.
        subgraphs: how many parts run on the Edge TPU.
        compiler: the compiler's own version string.
    """

    cpu_operators: tuple[str, ...]
    cached_bytes: int
    streamed_bytes: int
    min_runtime: int
    caching_token: int
    subgraphs: int
    compiler: str


def inspect(file: str | os.PathLike[str] | bytes) -> CompiledModel:
    """Reads a compiled .tflite file; neither compiler nor device is needed.

    Args:
        file: The path or the bytes of a file that the Edge TPU compiler wrote.

    Returns:
        What stayed on the CPU, the parameter bytes on and off the chip, the oldest runtime and the caching token.

    Raises:
        FileNotFoundError: If there is no file at the path.
        ValueError: If the file is foreign, truncated, damaged, or has no part for the Edge TPU.

    Example:
        >>> import keras_mobilenet as km
        >>> km.edge_tpu.inspect("mobilenet_v1_edgetpu.tflite").cpu_operators  # doctest: +SKIP
        ()

    Source: executable/executable.fbs of github.com/google-coral/libedgetpu.
    """
    model = tflite_file.read(file)
    if not is_compiled(model):
        raise ValueError(
            f"the file has no {CUSTOM_OPERATOR}: it isn't compiled for the Edge TPU, or nothing of it could be mapped. "
            "check() says what of it will map."
        )
    operators = model.main.operators
    try:
        packages = [_package(operator) for operator in operators if operator.name == CUSTOM_OPERATOR]
        executables = [executable for package in packages for executable in _executables(package)]
    except (struct.error, IndexError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"the part for the Edge TPU is damaged: {error}. Compile the model again.") from error
    cached = [executable for executable in executables if executable.kind == _PARAMETER_CACHING]
    return CompiledModel(
        cpu_operators=tuple(operator.name for operator in operators if operator.name != CUSTOM_OPERATOR),
        cached_bytes=sum(executable.parameters for executable in cached),
        streamed_bytes=sum(executable.parameters for executable in executables if executable not in cached),
        min_runtime=max(package.integer(_PACKAGE_MIN_RUNTIME, number_types.Int32Flags) for package in packages),
        caching_token=cached[0].token if cached else 0,
        subgraphs=len(packages),
        compiler=packages[0].data(_PACKAGE_COMPILER).decode(errors="replace"),
    )


def is_compiled(model: tflite_file.TFLiteFile) -> bool:
    """Whether the file has a part for the Edge TPU."""
    return any(operator.name == CUSTOM_OPERATOR for operator in model.main.operators)


@dataclasses.dataclass(frozen=True)
class _Executable:
    kind: int
    parameters: int
    token: int


class _Row:
    """A flatbuffer table read by slot numbers."""

    def __init__(self, data: bytes) -> None:
        self._table = Table(data, Get(uoffset, data, 0))

    def integer(self, slot: int, flags: type) -> int:
        offset = self._table.Offset(4 + 2 * slot)
        return self._table.Get(flags, self._table.Pos + offset) if offset else 0

    def data(self, slot: int) -> bytes:
        """A byte vector or a string."""
        offset = self._table.Offset(4 + 2 * slot)
        return self._vector(self._table.Pos + offset) if offset else b""

    def data_list(self, slot: int) -> Iterator[bytes]:
        """A vector of strings."""
        offset = self._table.Offset(4 + 2 * slot)
        if offset:
            start = self._table.Vector(offset)
            for index in range(self._table.VectorLen(offset)):
                yield self._vector(start + 4 * index)

    def _vector(self, place: int) -> bytes:
        start = place + Get(uoffset, self._table.Bytes, place)
        size = Get(uoffset, self._table.Bytes, start)
        content = self._table.Bytes[start + 4 : start + 4 + size]
        if len(content) != size:
            raise ValueError(f"{size:,} bytes are announced, {len(content):,} are there")
        return content


def _package(operator: tflite_file.Operator) -> _Row:
    options = flexbuffers.GetRoot(bytes(operator.custom_options or b""))
    data = bytes(options.AsMap[_PACKAGE_KEY].AsStringBytes)
    if data[4:8] != IDENTIFIER:
        raise ValueError(f"its identifier is {data[4:8]!r}, {IDENTIFIER!r} is known")
    return _Row(data)


def _executables(package: _Row) -> Iterator[_Executable]:
    for data in _Row(package.data(_PACKAGE_EXECUTABLES)).data_list(_EXECUTABLES_LIST):
        executable = _Row(data)
        yield _Executable(
            kind=executable.integer(_EXECUTABLE_TYPE, number_types.Int16Flags),
            parameters=len(executable.data(_EXECUTABLE_PARAMETERS)),
            token=executable.integer(_EXECUTABLE_TOKEN, number_types.Uint64Flags),
        )
