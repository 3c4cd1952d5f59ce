"""What an exported model answers to: the signatures of the SavedModel."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf
from keras import layers
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from keras_mobilenet import graph, preprocessing
from keras_mobilenet.detection.head import Head, head_of
from keras_mobilenet.detection.postprocessing import NonMaxSuppression, suppress
from keras_mobilenet.export import segmentation
from keras_mobilenet.optimization.fake_quant import FixedFakeQuant
from keras_mobilenet.segmentation import is_segmenter, with_scores

TOP = 5  # classes in `class_ids`, `scores` and Classify's answer
CLASSIFY_METHOD = "tensorflow/serving/classify"
PROBABILITIES = "probabilities"  # the output of a classifier

Answer = Callable[[list[tf.Tensor]], dict[str, tf.Tensor]]  # from the outputs of a model to those of a signature


@dataclass(frozen=True)
class Signature:
    """One signature.

    Args:
        function: `tf.function` with an input signature; returns named outputs.
        method: TF Serving's method name, where it is not Predict's.
    """

    function: Any
    method: str | None = None


def is_classifier(model: keras.Model) -> bool:
    """Whether the model's one output is a score per class, not a feature map or a pooled feature."""
    if len(model.outputs) != 1 or len(model.outputs[0].shape) != 2:
        return False
    return not isinstance(_last_layer(model), layers.GlobalAveragePooling2D | layers.GlobalMaxPooling2D)


def ends_in_logits(model: keras.Model) -> bool:
    """Whether the model is a classifier that lacks its softmax."""
    return is_classifier(model) and getattr(_last_layer(model), "activation", None) is keras.activations.linear


def output_names(model: keras.Model) -> list[str]:
    """Names of a .tflite file's outputs in their order.

    A classifier's is `probabilities`, a segmenter's `class_map`; of other models `features`, or the heads' layer names.
    """
    if is_segmenter(model):
        return [segmentation.CLASS_MAP]
    if len(model.outputs) == 1:
        return [PROBABILITIES if is_classifier(model) else "features"]
    return [_head_name(output) for output in model.outputs]


def _head_name(output: keras.KerasTensor) -> str:
    """Name of the layer behind an output, as it was before folding put rounding behind it and its activation apart."""
    layer = _computing_layer(output, FixedFakeQuant)
    if isinstance(layer, layers.Activation) and isinstance(graph.producer(layer.input), FixedFakeQuant):
        head = _computing_layer(layer.input, FixedFakeQuant)
        if layer.name == f"{head.name}_{layer.activation.__name__}":
            return head.name
    return layer.name


def _last_layer(model: keras.Model) -> layers.Layer:
    """The layer that computes the one output; what only reshapes or rounds it is passed over."""
    return _computing_layer(model.outputs[0], (FixedFakeQuant, layers.Reshape, layers.Flatten, layers.Dropout))


def _computing_layer(tensor: keras.KerasTensor, passed_over: Any) -> layers.Layer:
    layer = graph.producer(tensor)
    while isinstance(layer, passed_over):
        layer = graph.producer(layer.input)
    return layer


def signatures(
    model: keras.Model,
    size: tuple[int, int],
    labels: Sequence[str] | None,
    suppression: NonMaxSuppression | None = None,
) -> dict[str, Signature]:
    """The signatures of an inference model.

    Args:
        model: Inference model without batch norm, float images [N, H, W, 3] in [-1, 1] -> one or several outputs.
        size: Height and width of its input, in pixels.
        labels: Name of each class, or None.
        suppression: Which boxes of a detector remain.

    Returns:
        Signature key -> signature. A classifier has `serving_default`, `encoded_image` and `classify`; another model
        the first two.
    """
    segmenter = is_segmenter(model)
    network = frozen(with_scores(model) if segmenter else model, size)
    if head := head_of(model):
        answer = _detections(head, labels, suppression)
    elif segmenter:
        answer = functools.partial(segmentation.answer, labels=labels)
    else:
        answer = _classes_and_scores if is_classifier(model) else _named_outputs(model)

    @tf.function(input_signature=[tf.TensorSpec((None, *size, 3), tf.uint8, name="image")])
    def serving_default(image: tf.Tensor) -> dict[str, tf.Tensor]:
        return answer(network(preprocessing.preprocess_input(image)))

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name="image_bytes")])
    def encoded_image(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        return answer(network(_decoded(image_bytes, size)))

    result = {"serving_default": Signature(serving_default), "encoded_image": Signature(encoded_image)}
    if is_classifier(model):
        result["classify"] = Signature(_classify(network, size, labels or _numbers(model)), CLASSIFY_METHOD)
    return result


def frozen(model: keras.Model, size: tuple[int, int]) -> Callable[[tf.Tensor], list[tf.Tensor]]:
    """The model as a function whose weights are constants: float images [N, H, W, 3] -> float32 outputs."""
    activation = tf.nn.softmax if ends_in_logits(model) else tf.identity

    @tf.function(input_signature=[tf.TensorSpec((None, *size, model.input_shape[-1]), tf.float32)])
    def network(x: tf.Tensor) -> list[tf.Tensor]:
        outputs = keras.tree.flatten(model(x, training=False))
        return [activation(tf.cast(y, tf.float32)) for y in outputs]

    return convert_variables_to_constants_v2(network.get_concrete_function())


def _classes_and_scores(outputs: list[tf.Tensor]) -> dict[str, tf.Tensor]:
    (probabilities,) = outputs
    scores, class_ids = tf.math.top_k(probabilities, min(TOP, probabilities.shape[-1]))
    return {PROBABILITIES: probabilities, "class_ids": class_ids, "scores": scores}


def _named_outputs(model: keras.Model) -> Answer:
    names = output_names(model)
    return lambda outputs: dict(zip(names, outputs, strict=True))


def _detections(head: Head, labels: Sequence[str] | None, suppression: NonMaxSuppression | None) -> Answer:
    def answer(outputs: list[tf.Tensor]) -> dict[str, tf.Tensor]:
        encodings, logits = outputs
        found = suppress(encodings, logits, head, suppression)
        if labels is not None:
            names = tf.gather(tf.constant(list(labels)), tf.cast(found["classes"], tf.int32))
            there = tf.sequence_mask(tf.cast(found["num_detections"], tf.int32), names.shape[1])
            found["class_names"] = tf.where(there, names, "")
        return found

    return answer


def _decoded(image_bytes: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    return preprocessing.preprocess_input(preprocessing.decode_and_resize(image_bytes, size))


def _classify(network: Any, size: tuple[int, int], labels: Sequence[str]) -> Any:
    """TF Serving's Classify: serialized tf.Example with `image/encoded` -> the best classes' names and scores."""
    names = tf.constant(list(labels))
    features = {"image/encoded": tf.io.FixedLenFeature((), tf.string)}

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name="inputs")])
    def classify(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        image_bytes = tf.io.parse_example(inputs, features)["image/encoded"]
        best = _classes_and_scores(network(_decoded(image_bytes, size)))
        return {"classes": tf.gather(names, best["class_ids"]), "scores": best["scores"]}

    return classify


def _numbers(model: keras.Model) -> list[str]:
    return [str(number) for number in range(model.output_shape[-1])]
