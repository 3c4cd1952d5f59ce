"""Predicts the memory that an operator's parameters take on the Edge TPU.

The layout was read off the parameters in Coral's compiled files (PARAMETER_CACHING) by finding the original's weights
in them. Convolutions and fully connected layers store, for every kernel position and four input channels, a row of four
bytes per output channel. A row takes a multiple of 64 bytes, so up to 64 output channels are padded to a multiple of
16, more to a multiple of 64. Depthwise layers go by fours: a 4 x 4 diagonal matrix per kernel position, so four bytes
per weight. Four bytes per output channel precede for the bias. With that the two convolutional networks among the four
pairs come out to the byte. What other operators store is small, and an estimate where it says so.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable

from keras_mobilenet.export.edge_tpu.rules import Case

ROW = 64
ON_CHIP_BYTES = 8 << 20
# Logs show 6.1 to 7.9 MiB for parameters: the smaller the activations, the more.
MAX_ACTIVATION_BYTES = 1 << 20
_BIAS = 4
_CHANNEL_SCALE = 4  # with one scale per channel; an estimate, a hundredth of a MobileNet


@dataclasses.dataclass(frozen=True)
class Memory:
    """Parameter bytes of a model: kept on the chip between calls, and sent to it in every call."""

    cached: int
    streamed: int


def predict(cases: Iterable[Case]) -> Memory:
    """Predicts what the mapped operators of a model need.

    Args:
        cases: The operators that map, in order.

    Returns:
        The bytes cached and streamed. What doesn't fit beside the activations is streamed.
    """
    mapped = tuple(cases)
    wanted = sum(_BYTES[case.operator.name](case) for case in mapped if case.operator.name in _BYTES)
    wanted += sum(_constant_operands(case) for case in mapped if case.operator.name in _BINARY)
    streamed = sum(_initial_state(case) for case in mapped if case.operator.name in _RECURRENT)
    capacity = ON_CHIP_BYTES - min(MAX_ACTIVATION_BYTES, max(map(_activation_bytes, mapped), default=0))
    return Memory(min(wanted, capacity), streamed + max(0, wanted - capacity))


def _up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple


def _output_channels(channels: int) -> int:
    return _up(channels, 64 if channels > 64 else 16)


def _per_channel(case: Case) -> int:
    quantization = case.inputs[1].quantization if case.inputs[1] is not None else None
    return _BIAS + (_CHANNEL_SCALE if quantization is not None and quantization.per_channel else 0)


def _dense(case: Case) -> int:
    """CONV_2D and TRANSPOSE_CONV (out, height, width, in), FULLY_CONNECTED (out, in)."""
    channels, *positions, inputs = _weight_shape(case)
    return _output_channels(channels) * (_per_channel(case) + math.prod(positions) * _up(inputs, 4))


def _depthwise(case: Case) -> int:
    *positions, channels = _weight_shape(case)
    return _up(channels, 4) * (_per_channel(case) + math.prod(positions) * 4)


def _weight_shape(case: Case) -> tuple[int, ...]:
    weights = case.inputs[1]
    return weights.shape if weights is not None else (0, 0)


def _softmax(case: Case) -> int:
    """Three vectors of floats, four in a row, and a row for the sum."""
    return ROW * (3 * _up(math.prod(case.outputs[0].shape), 4) // 4 + 1)


def _regrouping(case: Case) -> int:
    """CONCATENATION and SPLIT of channels: rows that move those whose place isn't a multiple of four."""
    pieces, whole = case.inputs, case.outputs[0]
    if case.operator.name == "SPLIT":
        pieces, whole = case.outputs, case.inputs[1] or case.outputs[0]
    axis = case.constants[0].value.item() if case.operator.name == "SPLIT" else case.operator.options.get("axis", 0)
    if axis % len(whole.shape) != len(whole.shape) - 1:
        return 0
    aligned = all(piece is None or piece.shape[-1] % 4 == 0 for piece in pieces)
    return 0 if aligned else ROW * _up(whole.shape[-1], 16) // 16


def _lstm(case: Case) -> int:
    """Four gates over input and state; and, an estimate, rows that take the sequence apart and together again."""
    source = case.inputs[0]
    if source is None or len(source.shape) < 2:
        return 0
    steps, features, units = source.shape[-2], source.shape[-1], case.outputs[0].shape[-1]
    gates = 4 * _output_channels(units) * (_BIAS + _up(features, 4) + _up(units, 4))
    return gates + ROW * steps * (_up(features, 4) + 2 * _up(units, 4)) // 4


def _initial_state(case: Case) -> int:
    return _up(math.prod(case.outputs[0].shape), ROW)


def _constant_operands(case: Case) -> int:
    return sum(_up(math.prod(tensor.shape), ROW) for tensor in case.constants)


def _activation_bytes(case: Case) -> int:
    """Bytes of an operator's inputs and outputs, channels in fours."""
    shapes = [tensor.shape or (1,) for tensor in case.activations]
    return sum(math.prod(shape[:-1]) * _up(shape[-1], 4) for shape in shapes)


_RECURRENT = ("LSTM", "UNIDIRECTIONAL_SEQUENCE_LSTM")
_BINARY = ("ADD", "MAXIMUM", "MINIMUM", "MUL", "PRELU", "SUB")
_BYTES: dict[str, Callable[[Case], int]] = {
    "CONV_2D": _dense,
    "TRANSPOSE_CONV": _dense,
    "FULLY_CONNECTED": _dense,
    "DEPTHWISE_CONV_2D": _depthwise,
    "SOFTMAX": _softmax,
    "CONCATENATION": _regrouping,
    "SPLIT": _regrouping,
    "LSTM": _lstm,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": _lstm,
}
