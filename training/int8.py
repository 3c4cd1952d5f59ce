"""What 8 bits cost, as Markdown: `python -m training.int8`.

The first table is the accuracy of MobileNetV1 0.25 on the 400 labelled pictures of `--data`: as float model, as
TensorFlow's converter quantizes it, and with each option of `km.quantize_post_training`. Ranges and biases come from
256 photos of COCO. The second is what `km.edge_tpu.check` says of every published (alpha, size).
"""

import datetime
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ai_edge_litert.interpreter as litert
import keras
import numpy as np
import tensorflow as tf
from absl import app, flags

import keras_mobilenet as km
from keras_mobilenet import preprocessing
from training import parity

_PARTS = flags.DEFINE_multi_enum("parts", ["accuracy", "zoo"], ["accuracy", "zoo"], "What to print.")
flags.DEFINE_integer("threads", 2, "CPU threads of LiteRT.", lower_bound=1)

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
    return np.concatenate([_bytes(batch) for batch in parity.Pictures(encoded, np.zeros(0)).resized(SIZE)])


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


def variants(data: Path, pictures: parity.Pictures) -> Iterator[Scored]:
    """The network as float model, as the converter's own int8 file, and as one of ours for each of `OPTIONS`."""
    model = km.MobileNetV1((SIZE, SIZE, 3), 0.25, weights=data / "weights" / WEIGHTS)
    yield Scored("float", parity.our_scores(model, pictures, SIZE))
    photos = calibration_pictures(data)
    yield Scored("int8, the converter's own", litert_scores(converters_own(model, photos), pictures))
    for name, options in OPTIONS.items():
        content = km.convert_tflite(km.quantize_post_training(model, photos, **options), "int8")
        yield Scored(f"int8, {name}", litert_scores(content, pictures))


def litert_scores(content: bytes, pictures: parity.Pictures) -> np.ndarray:
    """Probabilities [N, classes] that an int8 file gives for pictures, run by LiteRT."""
    interpreter = litert.Interpreter(model_content=content, num_threads=flags.FLAGS.threads)
    interpreter.allocate_tensors()
    image, output = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    scale, zero_point = output["quantization"]
    scores = []
    for batch in pictures.resized(SIZE):
        for picture in _bytes(batch):
            interpreter.set_tensor(image["index"], picture[None])
            interpreter.invoke()
            scores.append(interpreter.get_tensor(output["index"])[0].astype(np.float32))
    return (np.array(scores) - zero_point) * scale


def checked(network: str, alpha: float, size: int) -> tuple[int, km.edge_tpu.CheckReport]:
    """Size in bytes and check of a network's int8 file; its weights are random, as they change neither."""
    keras.backend.clear_session()
    model = parity.BUILDERS[network][0](alpha=alpha, input_shape=(size, size, 3), weights=None)
    content = km.convert_tflite(km.quantize_aware(model), "int8")
    return len(content), km.edge_tpu.check(content)


def _bytes(pictures: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(pictures), 0, 255).astype(np.uint8)


def _print_accuracy(data: Path, pictures: parity.Pictures) -> None:
    print("| MobileNetV1 0.25, 224 | top-1 | top-5 | the float model's class |\n|---|---|---|---|")
    float_classes = None
    for variant in variants(data, pictures):
        classes = variant.probabilities.argmax(axis=-1)
        float_classes = classes if float_classes is None else float_classes
        top_1, top_5 = parity.accuracy(variant.probabilities, pictures.labels)
        same = 100 * float(np.mean(classes == float_classes))
        print(f"| {variant.name} | {top_1:.1f} | {top_5:.1f} | {same:.1f} |", flush=True)
    print(f"\nPercent of {len(pictures.labels)} pictures, stretched to the input size; files run by LiteRT.\n")


def _print_zoo() -> None:
    print("| network | alpha | size | operators | left on the CPU | cached bytes | streamed bytes | file |")
    print("|---|---|---|---|---|---|---|---|")
    for network, alpha, size in parity.published_networks():
        length, report = checked(network, alpha, size)
        print(
            f"| {network} | {alpha} | {size} | {len(report.operators)} | {', '.join(report.cpu_operators) or 'none'} "
            f"| {report.cached_bytes:,} | {report.streamed_bytes:,} | {length:,} |",
            flush=True,
        )
    print("\nForetold by km.edge_tpu.check from the int8 file; the compiler itself was not at hand.\n")


def main(argv: list[str]) -> None:
    """Prints the tables."""
    del argv
    print(f"`{shlex.join(['python', '-m', 'training.int8', *sys.argv[1:]])}`, {datetime.date.today()}\n")
    data = Path(flags.FLAGS.data)
    if "accuracy" in _PARTS.value:
        _print_accuracy(data, parity.read_pictures(data, flags.FLAGS.pictures))
    if "zoo" in _PARTS.value:
        _print_zoo()


if __name__ == "__main__":
    app.run(main)
