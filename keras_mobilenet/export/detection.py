"""A detector's last step in a .tflite file: scores, and the operator that decodes boxes and suppresses them.

The operator is TFLite_Detection_PostProcess, which LiteRT brings along. It computes in float on the CPU; of an int8
file everything before the two DEQUANTIZE in front of it may run on an Edge TPU.
"""

import keras
import numpy as np
from flatbuffers import flexbuffers
from keras import layers

from keras_mobilenet.detection.box_coding import SCALES
from keras_mobilenet.detection.head import Head
from keras_mobilenet.detection.postprocessing import OUTPUTS, NonMaxSuppression
from keras_mobilenet.export.tflite_packing import Packing

OPERATOR = "TFLite_Detection_PostProcess"


def with_scores(model: keras.Model, head: Head) -> keras.Model:
    """The model of `static_form` with scores in the place of class logits."""
    boxes, logits = model.outputs
    activation = layers.Softmax if head.scores == "softmax" else layers.Activation
    options = {} if head.scores == "softmax" else {"activation": "sigmoid"}
    return keras.Model(model.input, [boxes, activation(**options, name="class_scores")(logits)], name=model.name)


def append_operator(content: bytes, head: Head, suppression: NonMaxSuppression) -> bytes:
    """Appends the operator to a converted file.

    Args:
        content: A file that puts out box encodings and scores in float32, batch 1.
        head: What they mean.
        suppression: Which boxes remain.

    Returns:
        The file, with the outputs `OUTPUTS`.

    Source: detection_postprocess.cc of TensorFlow Lite.
    """
    packing = Packing(content)
    anchors = packing.add_constant("anchors", head.anchors.boxes)
    most = suppression.max_detections
    shapes = {"boxes": (1, most, 4), "classes": (1, most), "scores": (1, most), "num_detections": (1,)}
    outputs = [packing.add_tensor(name, shapes[name]) for name in OUTPUTS]
    inputs = [*packing.graph.outputs, anchors]
    packing.add_custom_operator(OPERATOR, inputs, outputs, _options(head, suppression))
    packing.graph.outputs = np.array(outputs, np.int32)
    return packing.pack()


def _options(head: Head, suppression: NonMaxSuppression) -> bytes:
    """What the operator reads. Its regular suppression goes class by class, as `detection.suppress` does."""
    integers = {
        "max_detections": suppression.max_detections,
        "max_classes_per_detection": 1,
        "detections_per_class": suppression.max_detections,
        "num_classes": head.classes,
    }
    floats = {
        "nms_score_threshold": suppression.score_threshold,
        "nms_iou_threshold": suppression.iou_threshold,
        **dict(zip(("y_scale", "x_scale", "h_scale", "w_scale"), SCALES, strict=True)),
    }
    builder = flexbuffers.Builder()
    with builder.Map():
        for name, value in integers.items():
            builder.Int(name, value)
        for name, number in floats.items():
            builder.Float(name, number)
        builder.Bool("use_regular_nms", True)
    return bytes(builder.Finish())
