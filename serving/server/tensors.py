"""TensorProto to numpy and back, without copies where the wire format allows."""

import functools
import math

import numpy as np
from tensorflow import dtypes
from tensorflow.core.framework import tensor_pb2, tensor_shape_pb2, types_pb2

from serving.server import status

# A TensorProto may hold fewer values than its shape asks for (the last one repeats), so a few bytes on the wire can
# ask for any amount of memory. This bounds what they get.
MAX_EXPANDED_BYTES = 256 * 1024 * 1024

_MAX_DIMENSIONS = 32
_MAX_ELEMENTS = 2**58  # Of 16 bytes each; also bounds the dimensions beside a 0.
_HALF_TYPES = (types_pb2.DT_HALF, types_pb2.DT_BFLOAT16)
_TYPED_FIELDS = {
    types_pb2.DT_FLOAT: "float_val",
    types_pb2.DT_DOUBLE: "double_val",
    types_pb2.DT_INT32: "int_val",
    types_pb2.DT_UINT8: "int_val",
    types_pb2.DT_INT16: "int_val",
    types_pb2.DT_INT8: "int_val",
    types_pb2.DT_UINT16: "int_val",
    types_pb2.DT_QINT8: "int_val",
    types_pb2.DT_QUINT8: "int_val",
    types_pb2.DT_QINT32: "int_val",
    types_pb2.DT_STRING: "string_val",
    types_pb2.DT_COMPLEX64: "scomplex_val",
    types_pb2.DT_COMPLEX128: "dcomplex_val",
    types_pb2.DT_INT64: "int64_val",
    types_pb2.DT_BOOL: "bool_val",
    types_pb2.DT_HALF: "half_val",
    types_pb2.DT_BFLOAT16: "half_val",
    types_pb2.DT_UINT32: "uint32_val",
    types_pb2.DT_UINT64: "uint64_val",
}
# Packed fields of fixed width can be appended as raw bytes, which spares one Python object per value.
_FIXED_WIDTH = {
    types_pb2.DT_FLOAT: "<f4",
    types_pb2.DT_DOUBLE: "<f8",
    types_pb2.DT_COMPLEX64: "<c8",
    types_pb2.DT_COMPLEX128: "<c16",
}
# So can the varints of bytes, which whole-array arithmetic makes.
_BYTE_TYPES = (types_pb2.DT_UINT8, types_pb2.DT_QUINT8, types_pb2.DT_BOOL)
_LENGTH_DELIMITED = 2
_RAW_TAGS = {
    dtype: bytes(
        [tensor_pb2.TensorProto.DESCRIPTOR.fields_by_name[_TYPED_FIELDS[dtype]].number << 3 | _LENGTH_DELIMITED]
    )
    for dtype in (*_FIXED_WIDTH, *_BYTE_TYPES)
}


@functools.lru_cache(64)  # Clients may send any number.
def numpy_dtype(dtype: int) -> np.dtype | None:
    """Returns the numpy dtype of a TensorFlow DataType, None for those that numpy cannot hold (DT_RESOURCE, ...)."""
    if dtype not in _TYPED_FIELDS:
        return None
    return np.dtype(object) if dtype == types_pb2.DT_STRING else np.dtype(dtypes.as_dtype(dtype).as_numpy_dtype)


def type_name(dtype: int) -> str:
    """Returns TensorFlow's short name of a DataType, such as `float` or `int64`."""
    names = {types_pb2.DT_FLOAT: "float", types_pb2.DT_DOUBLE: "double", types_pb2.DT_HALF: "half"}
    if dtype in names:
        return names[dtype]
    try:
        return dtypes.as_dtype(dtype).name
    except (TypeError, KeyError):
        return f"DataType({dtype})"


def shape_string(shape: tuple[int, ...] | tensor_shape_pb2.TensorShapeProto) -> str:
    """Writes a shape as `[1,224,224,3]`; `?` stands for an open dimension or rank."""
    if isinstance(shape, tensor_shape_pb2.TensorShapeProto):
        if shape.unknown_rank:
            return "?"
        shape = tuple(dim.size for dim in shape.dim)
    return "[" + ",".join("?" if size < 0 else str(size) for size in shape) + "]"


def to_numpy(proto: tensor_pb2.TensorProto, name: str) -> np.ndarray:
    """Reads a tensor from its message; values in `tensor_content` are not copied again.

    Args:
        proto: The message. Fewer values than the shape asks for repeat the last one, none at all gives zeros.
        name: The input's name, for error messages.

    Returns:
        The array; dtype object with `bytes` items for strings.

    Raises:
        ServingError: INVALID_ARGUMENT where type, shape and values do not fit together.
    """
    dtype = numpy_dtype(proto.dtype)
    if dtype is None:
        raise _parse_error(name, f"its dtype {type_name(proto.dtype)} is not one that a request can carry")
    shape = _shape(proto, name)
    count = math.prod(shape)
    content = proto.tensor_content  # Each access copies it.
    if content and proto.dtype != types_pb2.DT_STRING:
        if len(content) != count * dtype.itemsize:
            raise _parse_error(
                name,
                f"shape {shape_string(shape)} of {type_name(proto.dtype)} takes {count * dtype.itemsize} bytes, "
                f"tensor_content has {len(content)}",
            )
        return np.frombuffer(content, dtype).reshape(shape)
    return _fill(_typed_values(proto, dtype), count, dtype, name).reshape(shape)


def from_numpy(array: np.ndarray, dtype: int, proto: tensor_pb2.TensorProto, as_content: bool = False) -> None:
    """Writes an array into a message.

    Args:
        array: The values; object arrays hold `bytes` or `str`.
        dtype: TensorFlow's DataType of it.
        proto: An empty message, filled in place.
        as_content: Raw bytes in `tensor_content` instead of typed fields. Strings always go in `string_val`.
    """
    proto.dtype = dtype
    proto.tensor_shape.MergeFrom(_shape_proto(array.shape))
    if dtype == types_pb2.DT_STRING:
        proto.string_val.extend(
            item if isinstance(item, bytes) else str(item).encode() for item in array.ravel().tolist()
        )
    elif as_content:
        proto.tensor_content = array.tobytes()
    elif dtype in _FIXED_WIDTH:
        _append_packed(proto, dtype, np.ascontiguousarray(array, _FIXED_WIDTH[dtype]).tobytes())
    elif dtype in _BYTE_TYPES:
        _append_packed(proto, dtype, _byte_varints(array.ravel().view(np.uint8)))
    else:
        flat = array.ravel()
        values = flat.view(np.uint16) if dtype in _HALF_TYPES else flat
        getattr(proto, _TYPED_FIELDS[dtype]).extend(values.tolist())


def _append_packed(proto: tensor_pb2.TensorProto, dtype: int, raw: bytes) -> None:
    if raw:
        proto.MergeFromString(_RAW_TAGS[dtype] + _varint(len(raw)) + raw)


def _byte_varints(values: np.ndarray) -> bytes:
    """Writes uint8 values as varints: one byte each, from 128 on a second one of 1."""
    raw = values.tobytes()
    if raw.isascii():
        return raw
    (large,) = np.nonzero(values > 127)
    return np.insert(values, large + 1, 1).tobytes()


@functools.lru_cache(1024)  # Answers have few shapes and lengths.
def _shape_proto(shape: tuple[int, ...]) -> tensor_shape_pb2.TensorShapeProto:
    return tensor_shape_pb2.TensorShapeProto(dim=[tensor_shape_pb2.TensorShapeProto.Dim(size=size) for size in shape])


@functools.lru_cache(1024)
def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _shape(proto: tensor_pb2.TensorProto, name: str) -> tuple[int, ...]:
    message = proto.tensor_shape
    if message.unknown_rank:
        raise _parse_error(name, "its shape has unknown rank")
    shape = tuple([dim.size for dim in message.dim])
    if len(shape) > _MAX_DIMENSIONS:  # First, so that clients cannot fill the cache with long ones.
        raise _parse_error(name, f"its shape has {len(shape)} dimensions, at most {_MAX_DIMENSIONS} are allowed")
    if fault := _fault(shape):
        raise _parse_error(name, f"its shape {list(shape)} has {fault}")
    return shape


@functools.lru_cache(1024)  # Requests have few shapes.
def _fault(shape: tuple[int, ...]) -> str:
    if min(shape, default=0) < 0:
        return "a negative size"
    if math.prod([size or 1 for size in shape]) > _MAX_ELEMENTS:
        return "more elements than memory can address"
    return ""


def _typed_values(proto: tensor_pb2.TensorProto, dtype: np.dtype) -> np.ndarray:
    field = getattr(proto, _TYPED_FIELDS[proto.dtype])
    if proto.dtype == types_pb2.DT_STRING:
        values = np.empty(len(field), object)
        values[:] = field
        return values
    if proto.dtype in _HALF_TYPES:
        return np.asarray(field, np.int64).astype(np.uint16).view(dtype)
    if np.issubdtype(dtype, np.complexfloating):
        parts = np.asarray(field, np.float32 if dtype == np.complex64 else np.float64)
        return parts[: len(parts) // 2 * 2].view(dtype)
    if field and _TYPED_FIELDS[proto.dtype] == "int_val":
        return np.asarray(field, np.int32).astype(dtype)
    return np.asarray(field, dtype)


def _fill(values: np.ndarray, count: int, dtype: np.dtype, name: str) -> np.ndarray:
    if len(values) >= count:
        return values[:count]
    if count * dtype.itemsize > MAX_EXPANDED_BYTES:
        raise _parse_error(
            name, f"its shape asks for {count} values, the message has {len(values)}; send them all for one this large"
        )
    filled = np.empty(count, dtype)
    filled[: len(values)] = values
    if len(values):
        filled[len(values) :] = values[-1]
    else:
        filled[:] = b"" if dtype.kind == "O" else np.zeros((), dtype)
    return filled


def _parse_error(name: str, reason: str) -> status.ServingError:
    return status.invalid_argument(f"tensor parsing error: {name}: {reason}")
