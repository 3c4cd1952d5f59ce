"""Reads a .tflite file into frozen rows: tensors, quantization, operators with their options, signatures, metadata.

The flatbuffer schema comes with ai-edge-litert, which loads in a third of a second and needs no TensorFlow; so what is
written over this file also runs on a Coral board. Every offset is followed once while reading, so a truncated, foreign
or damaged file fails here with one ValueError and never later.
"""

import dataclasses
import enum
import functools
import importlib
import io
import os
import re
import struct
import zipfile
from collections.abc import Mapping
from types import MappingProxyType, ModuleType
from typing import Any

import numpy as np

IDENTIFIER = b"TFL3"
MAX_FILE_BYTES = (2 << 30) - 1  # A flatbuffer's offsets are of 32 bits, with a sign.

_DATA_SLOT = 4  # the place of Buffer.data in its table
_ZIP_HEAD = b"PK\3\4"
_ABSENT = -1  # the tensor index of an optional input that is not given
_DTYPES = {
    "FLOAT32": np.float32,
    "FLOAT16": np.float16,
    "FLOAT64": np.float64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "BOOL": np.bool_,
    "COMPLEX64": np.complex64,
    "COMPLEX128": np.complex128,
}
# What the flatbuffer runtime and NumPy raise when an offset points outside the bytes.
_DAMAGE = (struct.error, IndexError, TypeError, AttributeError, KeyError, OverflowError, ValueError, MemoryError)


class Padding(enum.IntEnum):
    """Padding of convolutions and pools, numbered as the schema does."""

    SAME = 0
    VALID = 1


@dataclasses.dataclass(frozen=True, eq=False)
class Quantization:
    """real = scale * (stored - zero_point), with one row per channel along `dimension` or one row for the tensor.

    Attributes:
        scale: float32, shape (1,) or (channels,).
        zero_point: int64, the same shape.
        dimension: the axis that the rows run along; meaningful when `per_channel`.
    """

    scale: np.ndarray
    zero_point: np.ndarray
    dimension: int

    @property
    def per_channel(self) -> bool:
        """Whether channels have scales of their own."""
        return self.scale.size > 1


@dataclasses.dataclass(frozen=True, eq=False)
class Tensor:
    """One tensor of a subgraph.

    Attributes:
        index: its number in the subgraph.
        name: its name in the file.
        shape: its shape, in which an unknown size reads 1; () for a scalar.
        shape_signature: the shape with -1 for an unknown size, or `shape` where the file states none.
        dtype: the schema's name in small letters: `float32`, `int8`, `uint8`, `int32`, `string`, ...
        quantization: None for a float tensor or one without scales.
        raw: the stored bytes of a constant, else None.
        is_variable: state kept between calls.
        is_sparse: `raw` holds compressed non-zero values.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    shape_signature: tuple[int, ...]
    dtype: str
    quantization: Quantization | None
    raw: memoryview | None = dataclasses.field(repr=False)
    is_variable: bool = False
    is_sparse: bool = False

    @property
    def is_constant(self) -> bool:
        """Whether the file stores its values."""
        return self.raw is not None

    @property
    def is_dynamic(self) -> bool:
        """Whether a size is unknown until the model runs."""
        return -1 in self.shape_signature

    @functools.cached_property
    def value(self) -> np.ndarray:
        """The constant as stored, read-only, in its own dtype and shape.

        Raises:
            ValueError: If the tensor isn't constant, is sparse, or of a type without a NumPy equivalent (string, int4).
        """
        if self.raw is None:
            raise ValueError(f"tensor {self.name!r} has no constant value: it is computed when the model runs")
        if self.is_sparse:
            raise ValueError(f"tensor {self.name!r} is stored sparse: read it from the file converted without sparsity")
        if self.dtype.upper() not in _DTYPES:
            raise ValueError(f"tensor {self.name!r} is of type {self.dtype}, which has no NumPy array")
        return np.frombuffer(self.raw, _DTYPES[self.dtype.upper()]).reshape(self.shape)

    def dequantized(self) -> np.ndarray:
        """The constant as float32: scale * (stored - zero_point), or the float values themselves."""
        if self.quantization is None:
            return self.value.astype(np.float32)
        rows = [1] * self.value.ndim
        if self.quantization.per_channel:
            rows[self.quantization.dimension] = -1
        shift, scale = self.quantization.zero_point, self.quantization.scale
        return ((self.value.astype(np.int64) - shift.reshape(rows)) * scale.reshape(rows)).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Operator:
    """One operator of a subgraph.

    Attributes:
        index: its place in execution order.
        name: the schema's name (`CONV_2D`), or the custom operator's own.
        version: the version that a runtime has to know.
        inputs: tensor indices; -1 for an optional input that isn't given.
        outputs: tensor indices.
        options: the built-in options by the schema's names (`stride_h`, `padding`, `dilation_h_factor`,
            `fused_activation_function`, ...); padding is a `Padding`, an activation a name such as `RELU6` or `NONE`.
        is_custom: the runtime needs a registration from outside.
        custom_options: the bytes that a custom operator reads.
    """

    index: int
    name: str
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, Any]
    is_custom: bool = False
    custom_options: memoryview | None = dataclasses.field(default=None, repr=False)


@dataclasses.dataclass(frozen=True)
class Subgraph:
    """Tensors, and the operators over them in execution order; inputs and outputs are tensor indices."""

    name: str
    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    def input_tensors(self, operator: Operator) -> tuple[Tensor | None, ...]:
        """The operator's inputs; None where an optional one isn't given."""
        return tuple(None if i == _ABSENT else self.tensors[i] for i in operator.inputs)

    def output_tensors(self, operator: Operator) -> tuple[Tensor, ...]:
        """The operator's outputs."""
        return tuple(self.tensors[i] for i in operator.outputs)


@dataclasses.dataclass(frozen=True)
class Signature:
    """A named entry point: argument and result names to tensor indices of its subgraph."""

    key: str
    subgraph: int
    inputs: Mapping[str, int]
    outputs: Mapping[str, int]


@dataclasses.dataclass(frozen=True)
class TFLiteFile:
    """A whole .tflite file.

    Attributes:
        version: the schema version, 3.
        description: what the converter wrote about itself.
        subgraphs: the graphs; the first is the one that runs.
        signatures: named entry points, empty in older files.
        metadata: named buffers (`min_runtime_version`, `TFLITE_METADATA`, ...).
        size: the file's size in bytes.
    """

    version: int
    description: str
    subgraphs: tuple[Subgraph, ...]
    signatures: tuple[Signature, ...]
    metadata: Mapping[str, memoryview]
    size: int

    @property
    def main(self) -> Subgraph:
        """The first subgraph."""
        return self.subgraphs[0]


def read_bytes(file: str | os.PathLike[str] | bytes | bytearray | memoryview) -> bytes:
    """Returns the bytes of a .tflite file, after a look at its size and identifier.

    Args:
        file: A path, or the bytes themselves.

    Returns:
        The bytes. A file that is foreign or larger than 256 MiB isn't read beyond its first eight bytes.

    Raises:
        FileNotFoundError: If there is no file at the path.
        ValueError: If it isn't a .tflite file, or is larger than 256 MiB.
    """
    if isinstance(file, bytes | bytearray | memoryview):
        _check_head(bytes(file[:8]), len(file), "the given bytes")
        return bytes(file)
    with open(file, "rb") as stream:
        _check_head(stream.read(8), os.fstat(stream.fileno()).st_size, os.fspath(file))
        stream.seek(0)
        return stream.read()


def read(file: str | os.PathLike[str] | bytes | bytearray | memoryview) -> TFLiteFile:
    """Reads a .tflite file into frozen rows; constants stay views of the file's bytes.

    Args:
        file: A path, or the bytes themselves, of at most 256 MiB.

    Returns:
        The file's subgraphs, signatures and metadata.

    Raises:
        FileNotFoundError: If there is no file at the path.
        ValueError: If the file is foreign, truncated, damaged or too large.

    Example:
        >>> import keras_mobilenet.tflite_file as tflite_file
        >>> model = tflite_file.read("model.tflite")  # doctest: +SKIP
        >>> [operator.name for operator in model.main.operators]  # doctest: +SKIP
        ['CONV_2D', 'DEPTHWISE_CONV_2D', ...]
    """
    data = read_bytes(file)
    try:
        return _Reader(data).model()
    except _DAMAGE as error:
        name = "the given bytes" if isinstance(file, bytes | bytearray | memoryview) else os.fspath(file)
        raise ValueError(
            f"{name} ({len(data):,} bytes) begins as a .tflite file but is truncated or damaged: {error}. "
            "Copy or convert it again."
        ) from error


def _check_head(head: bytes, size: int, name: str) -> None:
    if head[4:8] != IDENTIFIER:
        found = repr(head[4:8]) if size >= 8 else f"only {size} bytes"
        raise ValueError(
            f"{name} isn't a .tflite file: its identifier should be {IDENTIFIER!r} at byte 4, found {found}"
        )
    if size > MAX_FILE_BYTES:
        raise ValueError(
            f"{name} is {size:,} bytes, and the .tflite format ends at {MAX_FILE_BYTES:,}. "
            "A MobileNet has under 20 MB: check that this is the file you mean."
        )


@functools.cache
def _schema() -> ModuleType:
    try:
        return importlib.import_module("ai_edge_litert.schema_py_generated")
    except ImportError:
        return importlib.import_module("tensorflow.lite.python.schema_py_generated")


@functools.cache
def _names(enumeration: str) -> dict[int, str]:
    """The schema's names of an enumeration by number."""
    members = vars(getattr(_schema(), enumeration))
    return {number: name for name, number in members.items() if not name.startswith("_")}


def _text(value: bytes | None) -> str:
    return "" if value is None else value.decode("utf-8")


def _integers(values: Any) -> tuple[int, ...]:
    """A flatbuffer vector as NumPy; the runtime gives 0 for one that is absent."""
    return () if isinstance(values, int) else tuple(values.tolist())


class _Reader:
    """Walks the generated accessors once, checking every count and index before it is used."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._end = 0  # of the last constant
        self._model = _schema().Model.GetRootAs(data, 0)
        self._codes = [self._code(self._model.OperatorCodes(i)) for i in self._count(self._model.OperatorCodesLength())]
        self._buffers = [self._buffer(self._model.Buffers(i)) for i in self._count(self._model.BuffersLength())]

    def model(self) -> TFLiteFile:
        subgraphs = tuple(self._subgraph(self._model.Subgraphs(i)) for i in self._count(self._model.SubgraphsLength()))
        if not subgraphs:
            raise ValueError("it has no subgraph")
        self._check_attachment()
        return TFLiteFile(
            version=self._model.Version(),
            description=_text(self._model.Description()),
            subgraphs=subgraphs,
            signatures=tuple(
                self._signature(self._model.SignatureDefs(i), subgraphs)
                for i in self._count(self._model.SignatureDefsLength())
            ),
            metadata=MappingProxyType(dict(self._metadata())),
            size=len(self._data),
        )

    def _check_attachment(self) -> None:
        """Labels and the like are attached as a zip archive behind the flatbuffer, whose directory stands last."""
        start = self._data.find(_ZIP_HEAD, self._end)
        if start >= 0 and not zipfile.is_zipfile(io.BytesIO(self._data[start:])):
            raise ValueError("the archive attached at its end is incomplete")

    def _count(self, length: int) -> range:
        """A vector's indices; each entry takes four bytes or more, so a longer one than the file is damage."""
        if length * 4 > len(self._data):
            raise ValueError(f"a list of {length:,} entries doesn't fit into the file")
        return range(length)

    def _code(self, code: Any) -> tuple[str, int, bool]:
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())  # numbers up to 127 stand in the older field
        name = _names("BuiltinOperator").get(number, f"UNKNOWN_{number}")
        if name == "CUSTOM":
            return _text(code.CustomCode()), code.Version(), True
        return name, code.Version(), False

    def _buffer(self, buffer: Any) -> memoryview | None:
        if buffer.Offset() > 1:  # since 2023 large constants may stand behind the flatbuffer
            start, end = buffer.Offset(), buffer.Offset() + buffer.Size()
            if end > len(self._data):
                raise ValueError(f"a constant ends at byte {end:,} of {len(self._data):,}")
            return memoryview(self._data)[start:end]
        values = buffer.DataAsNumpy()
        if isinstance(values, int) or not values.size:
            return None
        self._end = max(self._end, buffer._tab.Vector(buffer._tab.Offset(_DATA_SLOT)) + values.size)
        return memoryview(values)

    def _subgraph(self, graph: Any) -> Subgraph:
        tensors = tuple(self._tensor(graph.Tensors(i), i) for i in self._count(graph.TensorsLength()))
        operators = tuple(
            self._operator(graph.Operators(i), i, len(tensors)) for i in self._count(graph.OperatorsLength())
        )
        inputs, outputs = _integers(graph.InputsAsNumpy()), _integers(graph.OutputsAsNumpy())
        self._check_indices(inputs + outputs, len(tensors), lowest=0)
        return Subgraph(_text(graph.Name()), tensors, operators, inputs, outputs)

    def _tensor(self, tensor: Any, index: int) -> Tensor:
        dtype = _names("TensorType")[tensor.Type()]
        shape = _integers(tensor.ShapeAsNumpy())
        result = Tensor(
            index=index,
            name=_text(tensor.Name()),
            shape=shape,
            shape_signature=_integers(tensor.ShapeSignatureAsNumpy()) or shape,
            dtype=dtype.lower(),
            quantization=self._quantization(tensor.Quantization(), shape),
            raw=self._buffers[tensor.Buffer()],
            is_variable=tensor.IsVariable(),
            is_sparse=tensor.Sparsity() is not None,
        )
        if result.raw is not None and not result.is_sparse and dtype in _DTYPES:
            result.value  # noqa: B018 - reads the bytes against the shape, and keeps the view
        return result

    def _quantization(self, details: Any, shape: tuple[int, ...]) -> Quantization | None:
        if details is None or not details.ScaleLength():
            return None
        scale = details.ScaleAsNumpy()
        zero_point = details.ZeroPointAsNumpy() if details.ZeroPointLength() else np.zeros(scale.size, np.int64)
        dimension = details.QuantizedDimension()
        if zero_point.size == 1:
            zero_point = np.repeat(zero_point, scale.size)
        if zero_point.size != scale.size or (scale.size > 1 and shape[dimension] != scale.size):
            raise ValueError(
                f"{scale.size} scales and {zero_point.size} zero points for shape {shape}, axis {dimension}"
            )
        return Quantization(scale, zero_point, dimension)

    def _operator(self, operator: Any, index: int, tensors: int) -> Operator:
        name, version, is_custom = self._codes[operator.OpcodeIndex()]
        inputs, outputs = _integers(operator.InputsAsNumpy()), _integers(operator.OutputsAsNumpy())
        self._check_indices(inputs, tensors, lowest=_ABSENT)
        self._check_indices(outputs, tensors, lowest=0)
        return Operator(
            index=index,
            name=name,
            version=version,
            inputs=inputs,
            outputs=outputs,
            options=MappingProxyType(_options(operator)),
            is_custom=is_custom,
            custom_options=self._custom_options(operator),
        )

    def _custom_options(self, operator: Any) -> memoryview | None:
        if operator.LargeCustomOptionsOffset() > 1:
            start = operator.LargeCustomOptionsOffset()
            return memoryview(self._data)[start : start + operator.LargeCustomOptionsSize()]
        values = operator.CustomOptionsAsNumpy()
        return None if isinstance(values, int) else memoryview(values)

    def _signature(self, signature: Any, subgraphs: tuple[Subgraph, ...]) -> Signature:
        inputs = [signature.Inputs(i) for i in self._count(signature.InputsLength())]
        outputs = [signature.Outputs(i) for i in self._count(signature.OutputsLength())]
        tensors = len(subgraphs[signature.SubgraphIndex()].tensors)
        self._check_indices(tuple(entry.TensorIndex() for entry in inputs + outputs), tensors, lowest=0)
        return Signature(
            key=_text(signature.SignatureKey()),
            subgraph=signature.SubgraphIndex(),
            inputs=MappingProxyType({_text(entry.Name()): entry.TensorIndex() for entry in inputs}),
            outputs=MappingProxyType({_text(entry.Name()): entry.TensorIndex() for entry in outputs}),
        )

    def _metadata(self) -> list[tuple[str, memoryview]]:
        rows = [self._model.Metadata(i) for i in self._count(self._model.MetadataLength())]
        return [(_text(row.Name()), self._buffers[row.Buffer()] or memoryview(b"")) for row in rows]

    def _check_indices(self, indices: tuple[int, ...], tensors: int, lowest: int) -> None:
        wrong = [i for i in indices if not lowest <= i < tensors]
        if wrong:
            raise ValueError(f"tensor number {wrong[0]} is outside 0..{tensors - 1}")


def _options(operator: Any) -> dict[str, Any]:
    schema = _schema()
    kind, table = operator.BuiltinOptionsType(), operator.BuiltinOptions()
    unpacked = schema.BuiltinOptionsCreator(kind, table)
    if unpacked is None and hasattr(schema, "BuiltinOptions2Creator"):
        unpacked = schema.BuiltinOptions2Creator(operator.BuiltinOptions2Type(), operator.BuiltinOptions2())
    return {_snake(name): _option(name, value) for name, value in vars(unpacked or object).items() if name[0] != "_"}


def _option(name: str, value: Any) -> Any:
    if name == "padding" and isinstance(value, int):
        return Padding(value)
    if name == "fusedActivationFunction":
        return _names("ActivationFunctionType")[value]
    if isinstance(value, np.ndarray | list):
        return tuple(int(entry) if isinstance(entry, np.integer) else entry for entry in value)
    return value


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
