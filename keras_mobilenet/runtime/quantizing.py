"""Real values to stored integers and back, by the parameters of the file."""

import numpy as np

from keras_mobilenet.runtime.session import TensorSpec


def to_stored(value: np.ndarray, spec: TensorSpec) -> np.ndarray:
    """Brings a value into the dtype that the model reads.

    Floats for a quantized input are real values and are quantized; integers are taken as they are.

    Args:
        value: Any shape.
        spec: The input.

    Returns:
        The same shape in the input's dtype.

    Raises:
        ValueError: If the values don't fit: not finite, outside the integers' range, or floats for an input of plain
            integers.
    """
    if spec.dtype == "object" or value.dtype == spec.dtype:
        return value
    target = np.dtype(spec.dtype)
    if target.kind not in "iu":
        if value.dtype.kind not in "biuf":
            raise ValueError(f"input {spec.name!r} reads {target}; the values given are {value.dtype}")
        return value.astype(target)
    if value.dtype.kind == "f":
        return _quantize(value, spec)
    if value.dtype.kind not in "iu":
        raise ValueError(f"input {spec.name!r} reads {target}; the values given are {value.dtype}")
    limits = np.iinfo(target)
    if value.size and (value.min() < limits.min or value.max() > limits.max):
        raise ValueError(
            f"input {spec.name!r} reads {target}, {limits.min} to {limits.max}; the values given run from "
            f"{value.min()} to {value.max()}"
        )
    return value.astype(target)


def to_real(value: np.ndarray, spec: TensorSpec) -> np.ndarray:
    """Returns the real values, float32, of a quantized output; other outputs as they are."""
    if spec.quantization is None or value.dtype.kind not in "iu":
        return value
    scale, zero_point = spec.quantization.scale[0], spec.quantization.zero_point[0]
    return (value.astype(np.float32) - np.float32(zero_point)) * scale


def _quantize(value: np.ndarray, spec: TensorSpec) -> np.ndarray:
    if spec.quantization is None:
        raise ValueError(f"input {spec.name!r} reads {spec.dtype} without scale; give whole numbers, not {value.dtype}")
    if not np.isfinite(value).all():
        raise ValueError(f"input {spec.name!r} was given values that aren't finite")
    limits = np.iinfo(spec.dtype)
    steps = np.round(value / spec.quantization.scale[0]) + spec.quantization.zero_point[0]
    return np.clip(steps, limits.min, limits.max).astype(spec.dtype)
