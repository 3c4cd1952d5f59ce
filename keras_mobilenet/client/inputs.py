"""Arrays fitted to a signature before they are sent."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_mobilenet.client.model_info import Signature, TensorSpec
from keras_mobilenet.wire import dtypes

INT32_MAX = 2**31 - 1

# Conversions that keep the meaning of a number: a whole number may become a fraction, never the other way round.
_ALLOWED = {
    "bool": ("bool",),
    "whole": ("whole", "real", "complex"),
    "real": ("real", "complex"),
    "complex": ("complex",),
}


def bind(inputs: Any, signature: Signature) -> dict[str, np.ndarray]:
    """Give each input its name and the signature's type.

    Args:
        inputs: arrays (or what `np.asarray` takes) by name; or one array where the signature has one input to fill.
        signature: what the model takes.

    Returns:
        An array for each input, of the signature's type and a shape that fits.

    Raises:
        ValueError: names, types or shapes do not fit; the message says what the signature takes.
    """
    named = inputs if isinstance(inputs, Mapping) else {_only_input(signature): inputs}
    unknown = sorted(str(name) for name in named.keys() - signature.inputs.keys())
    missing = sorted(signature.inputs.keys() - signature.optional - named.keys())
    if unknown or missing:
        parts = [f"{what}: {', '.join(names)}" for what, names in (("unknown", unknown), ("missing", missing)) if names]
        raise ValueError(f"the inputs do not have the signature's names ({'; '.join(parts)}). {expected(signature)}")
    arrays = {name: _fit(name, value, signature.inputs[name]) for name, value in named.items()}
    if sum(array.nbytes for array in arrays.values()) > INT32_MAX:
        raise ValueError("the inputs are over 2 GiB, the most that one message holds; send fewer at a time")
    return arrays


def expected(signature: Signature) -> str:
    """A sentence on what the signature takes."""
    specs = [
        f"{name}: {spec}" + (" (optional)" if name in signature.optional else "")
        for name, spec in signature.inputs.items()
    ]
    return f"It takes {', '.join(specs) or 'no inputs'}."


def _only_input(signature: Signature) -> str:
    required = [name for name in signature.inputs if name not in signature.optional] or list(signature.inputs)
    if len(required) != 1:
        raise ValueError(
            f"the signature takes {len(required)} inputs; give a dict of names and arrays. {expected(signature)}"
        )
    return required[0]


def _fit(name: str, value: Any, spec: TensorSpec) -> np.ndarray:
    try:
        array = _strings(value) if spec.dtype == "string" else _numbers(value, spec.dtype)
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"input {name!r} takes {spec}: {error}") from error
    if not spec.fits(array.shape):
        raise ValueError(
            f"input {name!r} takes {spec}, not the shape {list(array.shape)}{_batch_hint(array.shape, spec)}"
        )
    return array


def _batch_hint(shape: tuple[int, ...], spec: TensorSpec) -> str:
    if spec.fits((1, *shape)):
        return "; add the batch axis with array[np.newaxis]"
    return ""


def _strings(value: Any) -> np.ndarray:
    array = value if isinstance(value, np.ndarray) else np.array(value, dtype=object)
    for item in array.ravel().tolist():
        if not isinstance(item, str | bytes):
            raise TypeError(f"a string is str or bytes, not {type(item).__name__}")
    return array


def _numbers(value: Any, dtype: str) -> np.ndarray:
    wanted = dtypes.numpy_dtype(dtype)
    try:
        array = np.asarray(value)
    except ValueError:
        raise ValueError("the arrays in the list differ in shape; send them one by one, or resize them first") from None
    if array.dtype == wanted:
        return array
    if array.size and _family(wanted) not in _ALLOWED.get(_family(array.dtype), ()):
        pixels = " (pixels: 0 to 255)" if dtype == "uint8" else ""
        raise TypeError(f"an array of {array.dtype} was given; convert it with array.astype({wanted.name!r}){pixels}")
    if array.size and _family(array.dtype) == _family(wanted) == "whole":
        _check_range(array, dtype)
    with np.errstate(over="ignore"):
        return array.astype(wanted)


def _family(dtype: np.dtype[Any]) -> str:
    if dtype.name.startswith(("float", "bfloat")):
        return "real"
    if dtype.name.startswith(("int", "uint")):
        return "whole"
    return dtype.name.rstrip("0123456789")


def _check_range(array: np.ndarray, dtype: str) -> None:
    bits = int(dtype[len(dtype.rstrip("0123456789")) :])
    unsigned = dtype.startswith(("uint", "quint"))
    low, high = (0, 2**bits - 1) if unsigned else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    if int(array.min()) < low or int(array.max()) > high:
        raise ValueError(f"the values go from {array.min()} to {array.max()}, and {dtype} from {low} to {high}")
