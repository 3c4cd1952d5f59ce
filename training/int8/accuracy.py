"""What each way of rounding costs MobileNetV1 0.25 in accuracy."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ai_edge_litert.interpreter as litert
import keras
import numpy as np
import tensorflow as tf

import keras_mobilenet as km
from keras_mobilenet import preprocessing
from training import parity

WEIGHTS = "mobilenet_v1_0.25_224_slim_float.h5"
SIZE = 224
OPTIONS: dict[str, dict[str, Any]] = {
    "ranges from the extremes": {"bias_correction": False},
    "ranges from percentiles": {"ranges": "percentile", "bias_correction": False},
    "ranges of least squared error": {"ranges": "squared_error", "bias_correction": False},
    "extremes, equalization": {"equalization": True, "bias_correction": False},
    "extremes, bias correction (the default)": {},
    "percentiles, bias correction": {"ranges": "percentile"},
    "squared error, bias correction": {"ranges": "squared_error"},
    "extremes, equalization, bias correction": {"equalization": True},
}


@dataclass(frozen=True)
class Scored:
    """Probabilities [N, 1000] of one variant of the network."""

    name: str
    probabilities: np.ndarray


def calibration_pictures(data: Path) -> np.ndarray:
    """The photos of COCO that ranges are measured on, uint8 [256, SIZE, SIZE, 3]; none is among those tested."""
    paths = [path for split in ("train", "val") for path in sorted((data / "coco128" / split / "images").iterdir())]
    encoded = [path.read_bytes() for path in paths]
    return np.concatenate([as_bytes(batch) for batch in parity.Pictures(encoded, np.zeros(0)).resized(SIZE)])


def converters_own(model: keras.Model, pictures: np.ndarray) -> bytes:
    """The model as `tf.lite.TFLiteConverter` quantizes it by itself, uint8 in and out."""
    spec = tf.TensorSpec((1, SIZE, SIZE, 3), tf.float32, name="image")
    function = tf.function(lambda image: model(image, training=False), input_signature=[spec])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], function)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.representative_dataset = lambda: ([preprocessing.preprocess_input(picture[None])] for picture in pictures)
    converter.inference_input_type = converter.inference_output_type = tf.uint8
    return converter.convert()


def variants(data: Path, pictures: parity.Pictures, threads: int) -> Iterator[Scored]:
    """The network as float model, as the converter's own int8 file, and as one of ours for each of `OPTIONS`."""
    model = km.MobileNetV1((SIZE, SIZE, 3), 0.25, weights=data / "weights" / WEIGHTS)
    yield Scored("float", parity.our_scores(model, pictures, SIZE))
    photos = calibration_pictures(data)
    yield Scored("int8, the converter's own", litert_scores(converters_own(model, photos), pictures, threads))
    for name, options in OPTIONS.items():
        content = km.convert_tflite(km.quantize_post_training(model, photos, **options), "int8")
        yield Scored(f"int8, {name}", litert_scores(content, pictures, threads))


def litert_scores(content: bytes, pictures: parity.Pictures, threads: int) -> np.ndarray:
    """Probabilities [N, classes] that an int8 file gives for pictures, run by LiteRT."""
    interpreter = litert.Interpreter(model_content=content, num_threads=threads)
    interpreter.allocate_tensors()
    image, output = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    scale, zero_point = output["quantization"]
    scores = []
    for batch in pictures.resized(SIZE):
        for picture in as_bytes(batch):
            interpreter.set_tensor(image["index"], picture[None])
            interpreter.invoke()
            scores.append(interpreter.get_tensor(output["index"])[0].astype(np.float32))
    return (np.array(scores) - zero_point) * scale


def as_bytes(pictures: np.ndarray) -> np.ndarray:
    """Pictures of 0 to 255, rounded to uint8."""
    return np.clip(np.rint(pictures), 0, 255).astype(np.uint8)


def table(data: Path, pictures: parity.Pictures, threads: int) -> Iterator[str]:
    """Lines of Markdown, each as soon as it is measured.

    Args:
        data: Folder of weights/ and coco128/.
        pictures: Labelled pictures that none of the ranges was measured on.
        threads: CPU threads of LiteRT.
    """
    yield "| MobileNetV1 0.25, 224 | top-1 | top-5 | the float model's class |\n|---|---|---|---|"
    float_classes = None
    for variant in variants(data, pictures, threads):
        classes = variant.probabilities.argmax(axis=-1)
        float_classes = classes if float_classes is None else float_classes
        top_1, top_5 = parity.accuracy(variant.probabilities, pictures.labels)
        same = 100 * float(np.mean(classes == float_classes))
        yield f"| {variant.name} | {top_1:.1f} | {top_5:.1f} | {same:.1f} |"
    yield f"\nPercent of {len(pictures.labels)} pictures, stretched to the input size; files run by LiteRT.\n"
