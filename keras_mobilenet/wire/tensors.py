"""NumPy arrays to TensorProto and back."""

import math
from typing import Any

import numpy as np

from keras_mobilenet.wire import dtypes
from keras_mobilenet.wire.messages import message_class

TensorProto = message_class("tensorflow.TensorProto")

# The repeated field that holds a type's values when they are not in tensor_content, and how those values are stored.
_FIELDS = {
    "float32": ("float_val", np.float32),
    "float64": ("double_val", np.float64),
    "int64": ("int64_val", np.int64),
    "bool": ("bool_val", np.bool_),
    "uint32": ("uint32_val", np.uint32),
    "uint64": ("uint64_val", np.uint64),
    "complex64": ("scomplex_val", np.float32),
    "complex128": ("dcomplex_val", np.float64),
    "float16": ("half_val", np.uint16),
    "bfloat16": ("half_val", np.uint16),
}


def to_tensor_proto(array: Any, dtype: str | None = None) -> Any:
    """Code an array as a TensorProto.

    Args:
        array: a NumPy array, or what `np.asarray` takes; str is coded as UTF-8.
        dtype: the TensorFlow type to send, where the array's own leaves a choice (`qint8` for int8); by default the
            array's. The values are not converted: an array of another type is refused.

    Returns:
        A `tensorflow.TensorProto` with numbers in `tensor_content` and strings in `string_val`.

    Raises:
        TypeError: TensorFlow has no such type, or the array is not of `dtype`.

    Example:
        >>> to_tensor_proto(np.full((2, 3), 65, np.uint8)).tensor_content
        b'AAAAAA'
    """
    proto = TensorProto()
    write_tensor(proto, np.asarray(array), dtype)
    return proto


def write_tensor(proto: Any, array: np.ndarray, dtype: str | None = None) -> None:
    """Code an array into an empty TensorProto, for instance one within a request, without a copy in between.

    Args:
        proto: where to write.
        array: see `to_tensor_proto`.
        dtype: see `to_tensor_proto`.

    Raises:
        TypeError: see `to_tensor_proto`.
    """
    name = dtype or dtypes.name_of_array(array)
    proto.dtype = dtypes.NUMBERS[name]
    proto.tensor_shape.SetInParent()  # a scalar's shape is empty, not absent
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    if name == "string":
        proto.string_val.extend(_as_bytes(value) for value in array.ravel().tolist())
        return
    wanted = dtypes.numpy_dtype(name)
    if array.dtype.newbyteorder("=") != wanted:
        raise TypeError(
            f"An array of {array.dtype} cannot be sent as {name}; convert it with array.astype({wanted.name!r})."
        )
    proto.tensor_content = array.astype(_wire_order(wanted), copy=False).tobytes()


def to_array(proto: Any) -> np.ndarray:
    """Read a TensorProto, with its values in typed fields or in `tensor_content`.

    Args:
        proto: a `tensorflow.TensorProto` of this package or of TensorFlow.

    Returns:
        A writable array of the proto's shape. Strings come as objects (bytes). Without the ml_dtypes package bfloat16
        comes as float32, which holds its values exactly.

    Raises:
        TypeError: NumPy cannot hold the type.
        ValueError: the values do not fit the shape.
    """
    name = dtypes.name_of(proto.dtype)
    shape = tuple(dim.size for dim in proto.tensor_shape.dim)
    if proto.tensor_shape.unknown_rank or any(size < 0 for size in shape):
        raise ValueError(f"A tensor with values cannot have the unknown shape {shape}.")
    if name == "string":
        return _filled(np.array(list(proto.string_val), dtype=object), shape, b"")
    bits, widen = _storage(name)
    values = _values(proto, name, bits)
    return _filled(widen(values), shape, 0)


def _storage(name: str) -> tuple[np.dtype[Any], Any]:
    """The NumPy type to read a tensor's bytes as, and what turns that into the type to hand out."""
    if name == "bfloat16":
        try:
            wanted = dtypes.numpy_dtype(name)
        except TypeError:
            return np.dtype(np.uint16), lambda values: (values.astype(np.uint32) << 16).view(np.float32)
        return np.dtype(np.uint16), lambda values: values.view(wanted)
    return dtypes.numpy_dtype(name), lambda values: values


def _values(proto: Any, name: str, stored: np.dtype[Any]) -> np.ndarray:
    """The flat values, in the type that `_storage` names."""
    if proto.tensor_content:
        if len(proto.tensor_content) % stored.itemsize:
            raise ValueError(f"{len(proto.tensor_content)} bytes are not a whole number of {name} values.")
        return np.frombuffer(proto.tensor_content, _wire_order(stored)).astype(stored)
    if name.startswith(("float8", "float4")):
        return np.frombuffer(proto.float8_val, np.uint8).view(stored).copy()
    field, held = _FIELDS.get(name, ("int_val", np.int32))
    values: np.ndarray = np.array(getattr(proto, field), dtype=held)
    if name in ("float16", "bfloat16") or name.startswith("complex"):
        return values.view(stored)
    return values.astype(stored)


def _filled(values: np.ndarray, shape: tuple[int, ...], empty: Any) -> np.ndarray:
    """Shape the values; as in TensorFlow, a short list goes on with its last value and an empty one is all zeros."""
    count = math.prod(shape)
    if values.size > count:
        raise ValueError(f"{values.size} values do not fit the shape {shape}, which holds {count}.")
    if values.size < count:
        tail = values[-1] if values.size else np.asarray(empty).astype(values.dtype)
        whole = np.full(count, tail, dtype=values.dtype)
        whole[: values.size] = values
        values = whole
    return values.reshape(shape)


def _wire_order(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type in the protocol's byte order; types of ml_dtypes have one order only."""
    return dtype.newbyteorder("<") if dtype.isbuiltin == 1 else dtype


def _as_bytes(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    raise TypeError(f"A string tensor takes bytes and str, not {type(value).__name__}.")
