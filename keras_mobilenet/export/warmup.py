"""Requests that TF Serving runs before it takes a new version into service."""

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from keras_mobilenet import wire

FILE = Path("assets.extra") / "tf_serving_warmup_requests"  # where TF Serving looks, inside a version


def write(version: Path, model_name: str, size: tuple[int, int], signature_keys: list[str]) -> None:
    """Writes one request for each signature.

    Args:
        version: Folder of the version.
        model_name: Name that the model is served under.
        size: Height and width of the model's input, in pixels.
        signature_keys: Signatures of the model: `serving_default`, `encoded_image`, `classify`. Without any, no file
            is written.
    """
    if not signature_keys:
        return
    path = version / FILE
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for key in signature_keys:
            writer.write(_request(model_name, key, size).SerializeToString())


def _request(model_name: str, signature_key: str, size: tuple[int, int]) -> Any:
    picture = np.zeros((*size, 3), np.uint8)
    encoded = tf.io.encode_jpeg(picture).numpy()
    log = wire.message_class("tensorflow.serving.PredictionLog")()
    if signature_key == "classify":
        request = log.classify_log.request
        example = request.input.example_list.examples.add()
        example.features.feature["image/encoded"].bytes_list.value.append(encoded)
    else:
        request = log.predict_log.request
        name, value = ("image", picture[None]) if signature_key == "serving_default" else ("image_bytes", [encoded])
        request.inputs[name].CopyFrom(wire.to_tensor_proto(np.asarray(value)))
    request.model_spec.name = model_name
    request.model_spec.signature_name = signature_key
    return log
