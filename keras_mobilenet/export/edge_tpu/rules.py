"""Which operators the Edge TPU compiler 16.0 maps: a table of version ceilings, runtimes and limits.

Sources: Coral's table of supported operations (coral.ai/docs/edgetpu/models-intro), Coral's compiled files, and the
compiler's logs in the issues of github.com/google-coral/edgetpu, whose numbers stand beside what was learnt there. The
compiler is closed: where a limit is published without a figure, the figure here lies between the largest case that was
seen to map and the smallest that was not.
"""

import dataclasses
import enum
import math
from collections.abc import Callable

from keras_mobilenet.tflite_file import Operator, Tensor


class Reason(enum.StrEnum):
    """Why an operator maps or stays on the CPU, in the words of the compiler's log."""

    MAPPED = "Mapped to Edge TPU"
    SECOND_SUBGRAPH = "More than one subgraph is not supported"
    LIMITATION = "Operation is otherwise supported, but not mapped due to some unspecified limitation"
    RANK = "Tensor has unsupported rank (up to 3 innermost dimensions mapped)"
    DATA_TYPE = "Operation is working on an unsupported data type"
    VERSION = "Operation version not supported"
    OPERATION = "Operation not supported"
    DYNAMIC = (
        "Attempting to use a delegate that only supports static-sized tensors "
        "with a graph that has dynamic-sized tensors"
    )


@dataclasses.dataclass(frozen=True)
class Case:
    """An operator with its tensors; an optional input that isn't given is None."""

    operator: Operator
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor, ...]

    @property
    def constants(self) -> tuple[Tensor, ...]:
        """The inputs whose values the file stores."""
        return tuple(tensor for tensor in self.inputs if tensor is not None and tensor.is_constant)

    @property
    def activations(self) -> tuple[Tensor, ...]:
        """The tensors that are computed: inputs that aren't constant, then outputs."""
        computed = tuple(tensor for tensor in self.inputs if tensor is not None and not tensor.is_constant)
        return computed + self.outputs


Limit = Callable[[Case], str | None]
"""Says what keeps the case off the Edge TPU, or None where nothing does."""


@dataclasses.dataclass(frozen=True)
class Rule:
    """One row of the table.

    Attributes:
        operator: the name in the TFLite schema.
        newest_version: the newest operator version that the compiler takes.
        since_runtime: the first Edge TPU runtime with it; 10 stands for all.
        limit: what else has to hold.
    """

    operator: str
    newest_version: int
    since_runtime: int = 10
    limit: Limit | None = None


NEWEST_RUNTIME = 14
MAX_SOFTMAX = 16_000
# deeplabv3_mnv2_dm05_pascal enlarges 1x1 to 33x33 on the CPU; factors of 2 are mapped in many logs.
MAX_RESIZE_FACTOR = 8
# Issue 31: 512x512x32 stays on the CPU, 128x128x32 is mapped.
MAX_RESIZE_BYTES = 4 << 20
# Issue 461: a mean over 256x128 stays on the CPU, one over 64x128 is mapped.
MAX_MEAN_POSITIONS = 16_384
_BATCH = 0


def _no_activation(case: Case) -> str | None:
    activation = case.operator.options.get("fused_activation_function", "NONE")
    return None if activation == "NONE" else f"it has the fused activation {activation}; put a RELU operator behind it"


def _constant_weights(case: Case) -> str | None:
    if len(case.inputs) < 2 or case.inputs[1] is None or not case.inputs[1].is_constant:
        return "its weights aren't constant"
    return None


def _convolution(case: Case) -> str | None:
    options = case.operator.options
    across, down = options.get("dilation_w_factor", 1), options.get("dilation_h_factor", 1)
    if across != down:
        return f"its dilation is {down} in y and {across} in x; they have to be equal"
    return _constant_weights(case)


def _transposed_convolution(case: Case) -> str | None:
    if not all(tensor is not None and tensor.is_constant for tensor in case.inputs[:2]):
        return "its output shape or weights aren't constant"
    return None


def _fully_connected(case: Case) -> str | None:
    options, weights = case.operator.options, case.inputs[1] if len(case.inputs) > 1 else None
    if options.get("weights_format", 0) != 0:
        return "its weights are shuffled; only the default format is known to the compiler"
    if weights is not None and weights.quantization is not None and weights.quantization.per_channel:
        return "its weights have a scale per channel; use a 1x1 convolution, or quantize them per tensor"
    if _long_axes(case.outputs[0]) > 1:
        return f"its output {case.outputs[0].shape} isn't one-dimensional"
    return _constant_weights(case)


def _concatenation(case: Case) -> str | None:
    if case.constants:
        if len(case.inputs) != 2:
            return f"it has a constant among {len(case.inputs)} inputs; with a constant there may be two"
        constant = case.constants[0]
        zero = constant.quantization.zero_point[0] if constant.quantization is not None else 0
        if (constant.value != zero).any():
            return "its constant input isn't all zeros"
    return _no_activation(case)


def _axes(case: Case) -> list[int]:
    """The axes that a reduction runs over, counted from the front."""
    rank = len(case.inputs[0].shape) if case.inputs[0] is not None else 0
    return [int(axis) % max(rank, 1) for tensor in case.constants for axis in tensor.value.reshape(-1)]


def _reduction(case: Case) -> str | None:
    source = case.inputs[0]
    if source is None or not case.constants:
        return "its axes aren't constant"
    if _BATCH in _axes(case) and len(source.shape) > 1:
        return "it reduces the batch dimension"
    return None


def _mean(case: Case) -> str | None:
    problem, source = _reduction(case), case.inputs[0]
    if problem is not None or source is None:
        return problem
    axes, innermost = _axes(case), len(source.shape) - 1
    if innermost in axes and source.shape[innermost] % 4:
        return f"it reduces {source.shape[innermost]} channels; their number has to be a multiple of 4"
    positions = math.prod(source.shape[axis] for axis in axes if axis != innermost)
    if positions > MAX_MEAN_POSITIONS:
        return f"it reduces {positions:,} positions; up to {MAX_MEAN_POSITIONS:,} are expected to map"
    return None


def _pack(case: Case) -> str | None:
    rank = len(case.outputs[0].shape)
    return (
        "it packs along the batch dimension" if case.operator.options.get("axis", 0) % max(rank, 1) == _BATCH else None
    )


def _pad(case: Case) -> str | None:
    if not case.constants:
        return "its padding isn't constant"
    paddings = case.constants[0].value
    if len(paddings) == 4 and paddings[_BATCH].any():
        return "it pads the batch dimension"
    return None


def _prelu(case: Case) -> str | None:
    alpha = case.inputs[1] if len(case.inputs) > 1 else None
    if alpha is None or not alpha.is_constant or math.prod(alpha.shape) != alpha.shape[-1]:
        return "its alpha isn't a constant with one value per channel (Keras: shared_axes=[1, 2])"
    return None


def _quantize(case: Case) -> str | None:
    source = case.inputs[0]
    if source is not None and source.dtype == "float32":
        return "its input is float; convert with an integer input type"
    return None


def _reshape(case: Case) -> str | None:
    if len(case.inputs) > 1 and case.inputs[1] is not None and not case.inputs[1].is_constant:
        return "its shape isn't constant"
    return None


def _resize(case: Case) -> str | None:
    source, result = case.inputs[0], case.outputs[0]
    if not case.constants:
        return "its size isn't constant"
    if source is None or len(source.shape) != 4 or len(result.shape) != 4:
        return "its input isn't a picture"
    factor = max(result.shape[axis] / max(1, source.shape[axis]) for axis in (1, 2))
    if factor > MAX_RESIZE_FACTOR:
        return f"it enlarges {factor:g} times; up to {MAX_RESIZE_FACTOR} are expected to map"
    if math.prod(result.shape) > MAX_RESIZE_BYTES:
        return f"its output is {math.prod(result.shape):,} bytes; up to {MAX_RESIZE_BYTES:,} are expected to map"
    return None


def _softmax(case: Case) -> str | None:
    shape = case.outputs[0].shape
    if _long_axes(case.outputs[0]) > 1:
        return f"its input {shape} isn't one-dimensional"
    if math.prod(shape) > MAX_SOFTMAX:
        return f"it runs over {math.prod(shape):,} values; up to {MAX_SOFTMAX:,} are supported"
    return None


def _strided_slice(case: Case) -> str | None:
    if len(case.constants) < 3:
        return "its begin, end or strides aren't constant"
    strides = case.constants[-1].value
    return None if (strides == 1).all() else f"its strides are {strides.tolist()}; they have to be 1"


def _unmapped_transpose(case: Case) -> str | None:
    del case
    return "the compiler knows it, and its logs leave it on the CPU (issue 433)"


def _long_axes(tensor: Tensor) -> int:
    return sum(size > 1 for size in tensor.shape)


RULES = (
    Rule("ADD", 2),
    Rule("AVERAGE_POOL_2D", 2, limit=_no_activation),
    Rule("CONCATENATION", 2, limit=_concatenation),
    Rule("CONV_2D", 5, limit=_convolution),  # 6 is refused: issue 631
    Rule("DEPTHWISE_CONV_2D", 5, limit=_convolution),
    Rule("EXPAND_DIMS", 1, since_runtime=13),
    Rule("FULLY_CONNECTED", 4, limit=_fully_connected),  # 4 is compiled in keras_lstm_mnist_ptq, 9 is refused in logs
    Rule("L2_NORMALIZATION", 2),
    Rule("LOGISTIC", 2),
    Rule("LSTM", 3, since_runtime=14),
    Rule("MAXIMUM", 2),
    Rule("MAX_POOL_2D", 2, limit=_no_activation),
    Rule("MEAN", 2, limit=_mean),
    Rule("MINIMUM", 2),
    Rule("MUL", 2),
    Rule("PACK", 2, since_runtime=13, limit=_pack),
    Rule("PAD", 2, limit=_pad),
    Rule("PRELU", 1, limit=_prelu),
    Rule("QUANTIZE", 2, since_runtime=13, limit=_quantize),  # 3 is refused
    Rule("REDUCE_MAX", 2, since_runtime=14, limit=_reduction),
    Rule("REDUCE_MIN", 2, since_runtime=14, limit=_reduction),
    Rule("RELU", 2),
    Rule("RELU6", 2),
    Rule("RELU_N1_TO_1", 1),
    Rule("RESHAPE", 1, limit=_reshape),
    Rule("RESIZE_BILINEAR", 3, limit=_resize),
    Rule("RESIZE_NEAREST_NEIGHBOR", 3, limit=_resize),
    Rule("RSQRT", 2, since_runtime=14),  # compiler 15 didn't know version 2: issue 384
    Rule("SLICE", 2),
    Rule("SOFTMAX", 2, limit=_softmax),
    Rule("SPACE_TO_DEPTH", 2),
    Rule("SPLIT", 2),
    Rule("SQUARED_DIFFERENCE", 2, since_runtime=14),  # mapped in issue 461
    Rule("SQUEEZE", 1),
    Rule("STRIDED_SLICE", 2, limit=_strided_slice),
    Rule("SUB", 2),
    Rule("SUM", 1, since_runtime=13, limit=_reduction),
    Rule("TANH", 2),
    Rule("TRANSPOSE", 2, since_runtime=14, limit=_unmapped_transpose),
    Rule("TRANSPOSE_CONV", 3, since_runtime=13, limit=_transposed_convolution),  # 4 is refused
    Rule("UNIDIRECTIONAL_SEQUENCE_LSTM", 3),  # compiled for runtime 12 in keras_lstm_mnist_ptq
)
_BY_NAME = {rule.operator: rule for rule in RULES}


def judge(case: Case, runtime: int) -> tuple[Reason, str]:
    """Judges one operator by itself.

    Args:
        case: The operator and its tensors, all of known size.
        runtime: The Edge TPU runtime that the compiled model has to run on, 10 to 14.

    Returns:
        `Reason.MAPPED` and nothing, or the compiler's reason and what it comes from.
    """
    problem = _data_types(case)
    if problem is not None:
        return Reason.DATA_TYPE, problem
    rule = None if case.operator.is_custom else _BY_NAME.get(case.operator.name)
    if rule is None:
        return Reason.OPERATION, f"{case.operator.name} isn't among the operators of the Edge TPU"
    if rule.since_runtime > runtime:
        return Reason.OPERATION, f"{rule.operator} needs runtime {rule.since_runtime}, asked for is {runtime}"
    if case.operator.version > rule.newest_version:
        return Reason.VERSION, f"its version is {case.operator.version}; up to {rule.newest_version} is known to map"
    problem = _dimensions(case)
    if problem is not None:
        return Reason.RANK, problem
    problem = rule.limit(case) if rule.limit is not None else None
    return (Reason.MAPPED, "") if problem is None else (Reason.LIMITATION, problem)


def _data_types(case: Case) -> str | None:
    """Activations are 8-bit with a scale; constants 8-bit, or 32-bit for biases, axes and shapes."""
    for tensor in case.constants:
        if tensor.dtype not in ("int8", "uint8", "int16", "int32"):
            return f"its constant {tensor.name!r} is {tensor.dtype}"
    for tensor in case.activations:
        state = tensor.is_variable and tensor.dtype == "int16"
        float_input = case.operator.name == "QUANTIZE" and tensor.dtype == "float32" and tensor not in case.outputs
        if tensor.dtype not in ("int8", "uint8") and not state and not float_input:
            return f"{tensor.name!r} is {tensor.dtype}"
    return None


def _dimensions(case: Case) -> str | None:
    for tensor in case.activations:
        if math.prod(tensor.shape[:-3]) > 1:
            return f"{tensor.name!r} is {tensor.shape}; only the three innermost dimensions may be larger than 1"
    return None
