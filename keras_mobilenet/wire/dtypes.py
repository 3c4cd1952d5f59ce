"""TensorFlow's data types by number and name, and the NumPy types that hold them."""

import importlib
from typing import Any

import numpy as np

# tensorflow/core/framework/types.proto. The names are those of tf.DType.name.
NAMES = {
    1: "float32",
    2: "float64",
    3: "int32",
    4: "uint8",
    5: "int16",
    6: "int8",
    7: "string",
    8: "complex64",
    9: "int64",
    10: "bool",
    11: "qint8",
    12: "quint8",
    13: "qint32",
    14: "bfloat16",
    15: "qint16",
    16: "quint16",
    17: "uint16",
    18: "complex128",
    19: "float16",
    20: "resource",
    21: "variant",
    22: "uint32",
    23: "uint64",
    24: "float8_e5m2",
    25: "float8_e4m3fn",
    26: "float8_e4m3fnuz",
    27: "float8_e4m3b11fnuz",
    28: "float8_e5m2fnuz",
    29: "int4",
    30: "uint4",
    31: "int2",
    32: "uint2",
    33: "float4_e2m1fn",
}
NUMBERS = {name: number for number, name in NAMES.items()}

# Types that NumPy gets from the ml_dtypes package.
EXTENSIONS = frozenset(
    name
    for name in NAMES.values()
    if name.startswith(("bfloat", "float8", "float4")) or name in ("int4", "uint4", "int2", "uint2")
)


def name_of(number: int) -> str:
    """The name of a data type's number; `dtype 77` where TensorFlow has none."""
    return NAMES.get(number, f"dtype {number}")


def numpy_dtype(name: str) -> np.dtype[Any]:
    """The NumPy type that holds a TensorFlow type.

    Args:
        name: as `tf.DType.name` gives it: `uint8`, `string`, `bfloat16`, `qint8`, ...

    Returns:
        The type; strings are held as objects (bytes), quantized integers as plain integers.

    Raises:
        TypeError: NumPy cannot hold the type, or only with the ml_dtypes package, which is not installed.
    """
    if name == "string":
        return np.dtype(object)
    if name in EXTENSIONS:
        return _extension_dtype(name)
    if name not in NUMBERS or name in ("resource", "variant"):
        raise TypeError(f"A tensor of type {name} has no NumPy form; ask for the model's other tensors.")
    return np.dtype(name.removeprefix("q"))


def _extension_dtype(name: str) -> np.dtype[Any]:
    try:
        return np.dtype(getattr(importlib.import_module("ml_dtypes"), name))
    except ImportError:
        raise TypeError(f"NumPy holds {name} only with the ml_dtypes package: pip install ml_dtypes") from None


def name_of_array(array: np.ndarray) -> str:
    """The TensorFlow type that an array is sent as.

    Args:
        array: any array.

    Returns:
        The type's name; arrays of str, bytes and objects are strings.

    Raises:
        TypeError: TensorFlow has no such type.
    """
    if array.dtype.kind in "SUO":
        return "string"
    if array.dtype.name in NUMBERS:
        return array.dtype.name
    raise TypeError(f"TensorFlow has no type for a NumPy array of {array.dtype}; convert it with array.astype(...).")
