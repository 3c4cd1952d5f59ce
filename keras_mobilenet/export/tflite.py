"""Conversion to a .tflite file for LiteRT, TF Serving and the Edge TPU compiler."""

import os
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from keras_mobilenet import graph, tflite_file
from keras_mobilenet.detection.head import Head, head_of
from keras_mobilenet.detection.postprocessing import OUTPUTS, NonMaxSuppression
from keras_mobilenet.export import arguments, detection, segmentation, tflite_metadata
from keras_mobilenet.export.signatures import PROBABILITIES, output_names
from keras_mobilenet.export.static_form import INPUT, is_quantized, static_form
from keras_mobilenet.export.tflite_packing import Packing
from keras_mobilenet.optimization.folding import fold_batch_norm
from keras_mobilenet.optimization.keras_form import is_quantization_aware
from keras_mobilenet.optimization.post_training import quantize_post_training
from keras_mobilenet.segmentation import is_segmenter

QUANTIZATIONS = ("float32", "float16", "dynamic", "int8")
INPUT_TYPES = ("uint8", "int8")


def convert_tflite(
    model: keras.Model,
    quantization: str = "float32",
    representative_data: Any = None,
    input_type: str = "uint8",
    *,
    labels: Sequence[str] | str | os.PathLike[str] | None = None,
    image_size: tuple[int, int] | None = None,
    non_max_suppression: NonMaxSuppression | None = None,
    path: str | os.PathLike[str] | None = None,
) -> bytes:
    """Converts a model to a .tflite file: batch norm folded, batch 1, every size constant.

    A classifier's dense layer becomes a 1x1 convolution, and one that ends in logits gets its softmax. In an int8 file
    every tensor is 8-bit (biases 32-bit); for pictures in [-1, 1] its input is the picture's bytes as they are. Zeros
    of a pruned model are left out of a float file; LiteRT runs it as fast as a dense one, not faster.

    Args:
        model: Float model of the zoo, or one of `km.quantize_aware` or `km.quantize_post_training`, trained, folded or
            not; images [N, H, W, 3] in [-1, 1] -> class scores, or the outputs of heads. It is left as it is.
        quantization: "float32"; "float16" stores weights in half; "dynamic" stores them in 8 bits and computes in
            float; "int8" computes in 8 bits.
        representative_data: A few hundred pictures that the ranges of an int8 file are measured on, for a float model;
            left out for a quantization-aware one. Float pictures [N, H, W, 3] in [-1, 1] or uint8 ones, which are
            scaled: an array, a `tf.data.Dataset`, an iterable of pictures or batches, or a function that gives one;
            labels beside the pictures, in a tuple, are left out. At most 512 are used.
        input_type: "uint8" or "int8", the type of an int8 file's input and outputs. Others are float32.
        labels: Name of each class, or a text file with one a line; stored in the file.
        image_size: (height, width) in pixels, for a model whose input size is open.
        non_max_suppression: For a detector: ends the file in TFLite_Detection_PostProcess, which decodes boxes and
            suppresses them, in float on the CPU. Without, a detector's file puts out what the model puts out.
        path: Where to write the file as well; it appears there when it is whole.

    Returns:
        The file. Its signature `serving_default` has the input `image` and the output `probabilities`, of a segmenter
        `class_map` int32 [1, height, width], `features`, or one for each head by its layer's name; with
        `non_max_suppression` the float32 outputs `boxes` [1, max_detections, 4], `classes`, `scores` and
        `num_detections`, as in `detection.suppress`, boxes not cut at the picture's edges. It carries normalisation and
        labels as TFLite metadata, and the signature where TF Serving looks for it.

    Raises:
        ValueError: An argument is not among those allowed, the model has no graph, an open size or an operation that
            does not convert to 8 bits, or the pictures are empty, of another shape or another range.
        OSError: `path` can't be written; a file that was there is as it was.

    Example:
    ```python
    km.convert_tflite(model, "int8", train_images[:256], labels=names, path="model.tflite")
    ```
    """
    _check(model, quantization, representative_data, input_type)
    head = _checked_head(model, non_max_suppression)
    size = arguments.image_size(model, image_size)
    names = arguments.labels(model, labels)
    folded = fold_batch_norm(model)
    if quantization == "int8" and not is_quantized(folded):
        folded = quantize_post_training(folded, representative_data)
    static = static_form(folded, size, quantized=quantization == "int8")
    if head is not None and non_max_suppression is not None:
        static = detection.with_scores(static, head)
        converted = _convert(static, quantization, input_type, output_type="float32")
        converted = detection.append_operator(converted, head, non_max_suppression)
        outputs = list(OUTPUTS)
    elif is_segmenter(static):
        converted = _convert(segmentation.with_class_map(static), quantization, input_type, output_type="float32")
        outputs = [segmentation.CLASS_MAP]
    else:
        converted, outputs = _convert(static, quantization, input_type, input_type), output_names(folded)
    content = _described(converted, outputs, model.name, quantization, names)
    _check_result(content, model.name, quantization)
    if path is not None:
        _write(content, Path(path))
    return content


def _check(model: keras.Model, quantization: str, representative_data: Any, input_type: str) -> None:
    if quantization not in QUANTIZATIONS:
        raise ValueError(f"`quantization={quantization!r}` is not one of {', '.join(map(repr, QUANTIZATIONS))}.")
    if input_type not in INPUT_TYPES:
        raise ValueError(
            f"`input_type={input_type!r}` is not one of {', '.join(map(repr, INPUT_TYPES))}: an int8 file holds no "
            'float tensor; for float input choose quantization="float32", "float16" or "dynamic".'
        )
    quantized = is_quantized(graph.functional(model)) or is_quantization_aware(graph.functional(model))
    if quantization == "int8" and not quantized and representative_data is None:
        raise ValueError(
            f"`{model.name}` is a float model: pass `representative_data`, a few hundred pictures, for "
            'quantization="int8", or convert the model that km.quantize_aware returns.'
        )
    if representative_data is not None and (quantization != "int8" or quantized):
        raise ValueError(
            "`representative_data` is for int8 files of float models: leave it out"
            + (f", `{model.name}` has its ranges already." if quantized else f" for quantization={quantization!r}.")
        )


def _checked_head(model: keras.Model, suppression: NonMaxSuppression | None) -> Head | None:
    if suppression is not None and head_of(model) is None:
        raise ValueError(f"`non_max_suppression` was passed, but `{model.name}` is no detector: leave it out.")
    return head_of(model)


def _convert(model: keras.Model, quantization: str, input_type: str, output_type: str) -> bytes:
    spec = tf.TensorSpec(model.input_shape, tf.float32, name=INPUT)

    @tf.function(input_signature=[spec])
    def network(image: tf.Tensor) -> list[tf.Tensor]:
        return keras.tree.flatten(model(image, training=False))

    function = convert_variables_to_constants_v2(network.get_concrete_function())
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function])
    if quantization == "float32":
        converter.optimizations = [tf.lite.Optimize.EXPERIMENTAL_SPARSITY]
    else:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantization == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if quantization == "int8":
        converter.inference_input_type = tf.as_dtype(input_type)
        converter.inference_output_type = tf.as_dtype(output_type)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Statistics for quantized inputs")  # fake quantization has them
        return converter.convert()


def _described(content: bytes, outputs: list[str], name: str, quantization: str, labels: list[str] | None) -> bytes:
    """Puts names, signature, metadata and labels into a converted file."""
    scores, boxes = outputs == [PROBABILITIES], outputs == list(OUTPUTS)
    packing = Packing(content)
    packing.rename([INPUT], outputs)
    packing.sign(tflite_metadata.SIGNATURE_KEY)
    if quantization != "int8" and not boxes:
        packing.free_rows()  # an int8 file keeps the constant shapes that are known to map to the Edge TPU
    packing.add_metadata(
        {
            tflite_metadata.METADATA: tflite_metadata.tflite_metadata(
                name, [INPUT], outputs, scores=scores, labels=labels is not None
            ),
            tflite_metadata.SIGNATURES: tflite_metadata.serving_signatures(
                packing.specs(packing.graph.inputs), packing.specs(packing.graph.outputs)
            ),
        }
    )
    packed = packing.pack()
    return packed if labels is None else tflite_metadata.attach_labels(packed, labels)


def _check_result(content: bytes, name: str, quantization: str) -> None:
    """Refuses a file that is not what was asked for: what the converter can't do, it passes over in silence."""
    file = tflite_file.read(content)
    dynamic = [tensor.name for tensor in file.main.tensors if tensor.is_dynamic]
    if dynamic or len(file.subgraphs) > 1:
        raise ValueError(
            f"`{name}` does not convert to constant sizes: {dynamic[0] if dynamic else 'control flow'!r} depends on "
            "the input. Keep it out of the model."
        )
    last = [operator for operator in file.main.operators if operator.name == detection.OPERATOR]
    beyond = {index for operator in last for index in (*operator.inputs, *operator.outputs)}
    floats = [
        tensor.name for tensor in file.main.tensors if tensor.dtype.startswith("float") and tensor.index not in beyond
    ]
    if quantization == "int8" and floats:
        raise ValueError(
            f"`{name}` does not convert to 8 bits as a whole: {len(floats)} tensors stay float, the first is "
            f"{floats[0]!r}. Keep preprocessing layers and operations without an 8-bit form out of the model."
        )


def _write(content: bytes, path: Path) -> None:
    """Writes the file beside its place and moves it there."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}-", delete=False) as scratch:
        try:
            scratch.write(content)
            scratch.close()
            os.chmod(scratch.name, 0o644)
            os.replace(scratch.name, path)
        except BaseException:
            os.unlink(scratch.name)
            raise
