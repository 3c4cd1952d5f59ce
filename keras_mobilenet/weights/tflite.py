"""Quantized `.tflite` files of MobileNetV1, V2 and DeepLabv3 on them, turned back into float weights.

In these files batch normalisation is folded into the convolutions. Their dequantized kernels go into the convolutions,
their biases into the offsets of batch norms that otherwise do nothing, so the model computes what the file does, in
float, and can be trained on.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from keras_mobilenet import tflite_file
from keras_mobilenet.arguments import IMAGENET_CLASSES
from keras_mobilenet.weights import deeplab_head, plan

_PASSED_OVER = {
    *("ADD", "AVERAGE_POOL_2D", "DEQUANTIZE", "MEAN", "PAD", "PADV2", "QUANTIZE", "RELU6", "RESHAPE", "SHAPE"),
    *("SOFTMAX", "SQUEEZE", "STRIDED_SLICE", "PACK"),
    *("ARG_MAX", "BATCH_TO_SPACE_ND", "CAST", "CONCATENATION", "RELU", "RESIZE_BILINEAR", "SPACE_TO_BATCH_ND"),
}
_V2_CONVOLUTIONS = 51  # below its last, to 1280
_KINDS = {
    "CONV_2D": keras.layers.Conv2D,
    "DEPTHWISE_CONV_2D": keras.layers.DepthwiseConv2D,
    "FULLY_CONNECTED": keras.layers.Dense,
}


@dataclass(frozen=True)
class Stored:
    """A convolution or fully connected layer of the file.

    Attributes:
        kind: The operator's name.
        kernel: float32, as TFLite lays it out: [out, h, w, in], depthwise [1, h, w, channels], connected [out, in].
        bias: float32 [out].
        stride: (height, width), in pixels.
        dilation: Distance of the kernel's taps, in pixels.
        pooled: Whether it reads a single pixel, as behind global pooling.
        clamped: Whether the output is cut to [0, 6], by a fused ReLU6 or by the range of its quantization.
    """

    kind: str
    kernel: np.ndarray
    bias: np.ndarray
    stride: tuple[int, int]
    dilation: int
    pooled: bool
    clamped: bool


@dataclass(frozen=True)
class Slot:
    """A convolution of the model with its batch norm and whether a ReLU6 follows, or the classifier without either."""

    layer: keras.layers.Layer
    batch_norm: keras.layers.Layer | None
    clamped: bool


def read(path: Path, model: keras.Model) -> plan.Plan:
    """Reads a `.tflite` file against a model, operator by layer in the order of the graph.

    Args:
        path: The file: quantized per tensor or per channel, with float16 weights, or float.
        model: MobileNetV1 or V2 of the file's alpha, or DeepLabv3 on it, at any input size; unchanged. With 1000
            classes against the file's 1001, the file's first, the background, is dropped; without a classifier, or with
            another number of classes, the file's is passed over. DeepLabv3 takes the backbone of a classifier's file.

    Returns:
        What to assign.

    Raises:
        ValueError: The file is damaged or of another network.
    """
    graph = tflite_file.read(path).main
    stored, slots = list(_operators(graph, path)), list(_slots(model))
    additions = sum(operator.name == "ADD" for operator in graph.operators)
    segmenter = deeplab_head.is_segmenter(model)
    body = [slot for slot in slots if slot.batch_norm is not None and slot.layer.name not in deeplab_head.NAMES]
    problem = _difference(stored, body, additions, model)
    if problem is None and segmenter:
        problem = deeplab_head.other_order(graph)
    if problem:
        raise plan.misfit(model, str(path), _describe(stored), problem)
    result = plan.Plan()
    for operator, slot in zip(stored, body, strict=False):
        result.values += _body_values(operator, slot)
    if segmenter:
        has_head = any(operator.name == "CONCATENATION" for operator in graph.operators)
        _read_head(stored[len(body) :] if has_head else [], model, result)
        return result
    for slot in slots[len(body) :]:
        values = _classifier_values(stored[len(body) :], slot)
        result.values += values
        result.left += [] if values else [slot.layer.name]
    return result


def divisor(path: Path) -> int:
    """What the channel counts of V2 in a file are multiples of: 8, or 1."""
    stored = list(_operators(tflite_file.read(path).main, path))[:_V2_CONVOLUTIONS]
    return 8 if all(len(operator.bias) % 8 == 0 for operator in stored) else 1


def _read_head(stored: Sequence[Stored], model: keras.Model, result: plan.Plan) -> None:
    """Adds DeepLabv3's layers to a plan; those that the file lacks or has in another shape are left."""
    found = deeplab_head.by_name(stored)
    layers = {layer.name: layer for layer in plan.weighted_layers(model)}
    for name in (name for name in deeplab_head.NAMES if name in layers):
        layer, norm = layers[name], layers.get(f"{name}_bn")
        kernel = _kernel(found[name], tuple(layer.kernel.shape)) if name in found else None
        if kernel is None:
            result.left += [name] if norm is None else [name, norm.name]
        elif norm is None:
            result.values += [(layer.kernel, kernel), (layer.bias, found[name].bias)]
        else:
            result.values += _body_values(found[name], Slot(layer, norm, clamped=False))


def _operators(graph: tflite_file.Subgraph, path: Path) -> Iterator[Stored]:
    for operator in graph.operators:
        if operator.name == "edgetpu-custom-op":
            raise ValueError(f"{path} is compiled for the Edge TPU: pass the .tflite file that it was compiled from.")
        if operator.name not in _KINDS:
            if operator.name not in _PASSED_OVER:
                raise ValueError(
                    f"{path} is no MobileNetV1 or V2 classifier or DeepLabv3: it has an operator {operator.name}. "
                    "Pass a .tflite file of one of these networks. The model is unchanged."
                )
            continue
        image, kernel, *bias = graph.input_tensors(operator)
        output = graph.output_tensors(operator)[0]
        kernel_value = _constant(graph, kernel)
        yield Stored(
            kind=operator.name,
            kernel=kernel_value,
            bias=_bias(graph, image, kernel, bias[0] if bias else None, kernel_value, operator.name),
            stride=(operator.options.get("stride_h", 1), operator.options.get("stride_w", 1)),
            dilation=operator.options.get("dilation_h_factor", 1),
            pooled=image is not None and tuple(image.shape[1:3]) == (1, 1),
            clamped=_is_clamped(graph, operator, output),
        )


def _constant(graph: tflite_file.Subgraph, tensor: tflite_file.Tensor | None) -> np.ndarray:
    """A constant as float32; float16 weights reach their operator through a DEQUANTIZE."""
    if tensor is not None and not tensor.is_constant:
        makers = [op for op in graph.operators if tensor.index in op.outputs and op.name == "DEQUANTIZE"]
        tensor = graph.input_tensors(makers[0])[0] if makers else tensor
    if tensor is None:
        raise ValueError("an operator has no weights")
    return tensor.dequantized()


def _bias(
    graph: tflite_file.Subgraph,
    image: tflite_file.Tensor | None,
    kernel: tflite_file.Tensor | None,
    bias: tflite_file.Tensor | None,
    kernel_value: np.ndarray,
    kind: str,
) -> np.ndarray:
    if bias is None:
        return np.zeros(kernel_value.shape[3 if kind == "DEPTHWISE_CONV_2D" else 0], np.float32)
    if bias.dtype == "int32" and bias.quantization is None and image is not None and kernel is not None:
        # The scale of a bias is that of the products it is added to, whether or not the file repeats it.
        scales = [tensor.quantization.scale for tensor in (image, kernel) if tensor.quantization is not None]
        return (bias.value * np.prod(np.broadcast_arrays(*scales), axis=0)).astype(np.float32)
    return _constant(graph, bias)


def _is_clamped(graph: tflite_file.Subgraph, operator: tflite_file.Operator, output: tflite_file.Tensor) -> bool:
    if operator.options.get("fused_activation_function") == "RELU6":
        return True
    if any(reader.name == "RELU6" and output.index in reader.inputs for reader in graph.operators):
        return True
    if output.quantization is None or output.dtype not in ("int8", "uint8"):
        return False
    scale, zero = float(output.quantization.scale[0]), int(output.quantization.zero_point[0])
    limits = np.iinfo(output.dtype)
    return zero == limits.min and abs((limits.max - zero) * scale - 6) < 0.1


def _slots(model: keras.Model) -> Iterator[Slot]:
    layers = [layer for layer in _leaves(model) if layer.weights or isinstance(layer, keras.layers.ReLU)]
    for layer, after, last in zip(layers, [*layers[1:], None], [*layers[2:], None, None], strict=True):
        if isinstance(layer, tuple(_KINDS.values())):
            batch_norm = after if isinstance(after, keras.layers.BatchNormalization) else None
            yield Slot(layer, batch_norm, batch_norm is not None and isinstance(last, keras.layers.ReLU))


def _leaves(model: keras.Model) -> Iterator[keras.layers.Layer]:
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _leaves(layer)
        else:
            yield layer


def _difference(stored: Sequence[Stored], body: Sequence[Slot], additions: int, model: keras.Model) -> str | None:
    """What keeps the file's operators from being the model's convolutions, or None."""
    if not body:
        return "the model has no convolution with a batch norm to take the file's weights"
    if not len(body) <= len(stored) or (len(stored) > len(body) + 1 and not deeplab_head.is_segmenter(model)):
        return f"it has {len(stored)} layers with weights, the model {len(body)} below its classifier"
    leaves = list(_leaves(model))
    model_additions = sum(isinstance(layer, keras.layers.Add) for layer in leaves)
    if additions != model_additions:
        return f"it adds {additions} shortcuts, the model {model_additions}"
    # With an output stride below 32, dilation stands in for strides: the weights are the same.
    dilated = any(getattr(layer, "dilation_rate", (1, 1)) != (1, 1) for layer in leaves)
    for operator, slot in zip(stored, body, strict=False):
        name, wanted = slot.layer.name, tuple(slot.layer.kernel.shape)
        if not isinstance(slot.layer, _KINDS[operator.kind]):
            return f"it has a {operator.kind} where the model has `{name}`, a {type(slot.layer).__name__}"
        if _kernel(operator, wanted) is None:
            return f"for `{name}` it has a {operator.kind} {operator.kernel.shape}, the model wants {wanted}"
        if not dilated and operator.stride != tuple(slot.layer.strides):
            return f"its stride for `{name}` is {operator.stride}, the model's {tuple(slot.layer.strides)}"
        if operator.clamped != slot.clamped:
            file, ours = ("a", "none") if operator.clamped else ("no", "one")
            return f"it has {file} ReLU6 behind `{name}`, the model {ours}"
    return None


def _kernel(operator: Stored, wanted: tuple[int, ...]) -> np.ndarray | None:
    """The kernel in Keras's layout, or None where its shape is another."""
    kernel = operator.kernel
    if operator.kind == "DEPTHWISE_CONV_2D":  # [1, h, w, channels x multiplier] -> [h, w, channels, multiplier]
        height, width, channels, multiplier = wanted
        fits = kernel.shape == (1, height, width, channels * multiplier)
        return kernel.reshape(wanted) if fits else None
    if operator.kind == "CONV_2D":  # [out, h, w, in] -> [h, w, in, out]
        kernel = kernel.transpose(1, 2, 3, 0)
    return kernel if kernel.shape == wanted else None


def _body_values(operator: Stored, slot: Slot) -> list[tuple[object, np.ndarray]]:
    norm, channels = slot.batch_norm, operator.bias.shape
    kernel = _kernel(operator, tuple(slot.layer.kernel.shape))
    assert norm is not None and kernel is not None  # _difference has looked
    # y = gamma (x - mean) / sqrt(variance + epsilon) + beta is x + bias.
    return [
        (slot.layer.kernel, kernel),
        (norm.gamma, np.ones(channels, np.float32)),
        (norm.beta, operator.bias),
        (norm.moving_mean, np.zeros(channels, np.float32)),
        (norm.moving_variance, np.full(channels, 1 - norm.epsilon, np.float32)),
    ]


def _classifier_values(operators: Sequence[Stored], slot: Slot) -> list[tuple[object, np.ndarray]]:
    """The classifier's weights; empty where the model's has another shape."""
    if not operators:
        return []
    kernel, bias = operators[0].kernel, operators[0].bias
    kernel = kernel.reshape(kernel.shape[0], -1)  # [classes, features]; a classifier's convolution is 1x1
    wanted = tuple(slot.layer.kernel.shape)
    if (len(bias), wanted[-1]) == (IMAGENET_CLASSES + 1, IMAGENET_CLASSES):
        kernel, bias = kernel[1:], bias[1:]  # the background class stands first
    if (kernel.shape[1], len(bias)) != (wanted[-2], wanted[-1]) or np.prod(wanted) != kernel.size:
        return []
    return [(slot.layer.kernel, kernel.T.reshape(wanted)), (slot.layer.bias, bias)]


def _describe(stored: Sequence[Stored]) -> str:
    depthwise = sum(operator.kind == "DEPTHWISE_CONV_2D" for operator in stored)
    text = f"{len(stored)} layers with weights, {depthwise} of them depthwise"
    if depthwise == 13 and len(stored) > 26:
        names: plan.Shapes = {"conv_pw_13": [(1, stored[26].kernel.shape[0])], "conv_preds": [(len(stored[-1].bias),)]}
    elif depthwise == 17 and len(stored) >= _V2_CONVOLUTIONS:
        width = stored[_V2_CONVOLUTIONS - 1].kernel.shape[0]
        names = {"block_16_project": [(1, width)], "predictions": [(len(stored[-1].bias),)]}
    else:
        return text
    return plan.describe(names)
