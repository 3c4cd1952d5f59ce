"""Runs a model on pictures: `python -m serving.edge_tpu.run MODEL --labels=LABELS.txt --device=usb:0 PICTURE...`.

MODEL is a .tflite file, compiled for an Edge TPU or, with --device=cpu, any model that keras_mobilenet.runtime reads.
Classes, boxes and masks are printed; boxes and masks are also laid over the picture (PICTURE_overlay.png). With
--pipeline several .tflite files are the segments of one model, in order. It runs without TensorFlow, from a checkout
with ai-edge-litert, NumPy, Pillow, absl-py and lazy-loader. Exit status: 0; 1 where --compare finds a difference; 2 for
an error.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags

from keras_mobilenet.runtime import Predictor
from serving.edge_tpu import benchmark, labels, pictures, tasks
from serving.edge_tpu.pipeline import Pipeline

_LABELS = flags.DEFINE_string("labels", None, "Text file, a name a line; by default what is attached to the model.")
_DEVICE = flags.DEFINE_list(
    "device",
    ["cpu"],
    "cpu, edgetpu (any), usb, usb:0, pci, pci:0, ...; with --pipeline one for each segment, or for all.",
)
_TASK = flags.DEFINE_enum("task", None, tasks.NAMES, "By default told by the model's outputs.")
_TOP = flags.DEFINE_integer("top", 5, "Classes or boxes to list.", 1)
_THRESHOLD = flags.DEFINE_float("threshold", None, "Lowest score to list; by default 0, for boxes 0.4.", 0.0, 1.0)
_OUTPUT_DIR = flags.DEFINE_string("output_dir", ".", "Where overlays go.")
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Write over overlays that are there.")
_THREADS = flags.DEFINE_integer("threads", 1, "CPU threads.", 1)
_BENCHMARK = flags.DEFINE_bool("benchmark", False, "Measure on the first picture, or on noise, and print the figures.")
_RUNS = flags.DEFINE_integer("runs", 200, "Measured runs.", 1)
_WARM_UP = flags.DEFINE_integer("warm_up", 20, "Runs before those.", 0)
_PIPELINE = flags.DEFINE_bool("pipeline", False, "The .tflite files named are segments of one model.")
_COMPARE = flags.DEFINE_string("compare", None, "Model to run too, on the CPU; its outputs should be the same.")
_TOLERANCE = flags.DEFINE_float("tolerance", 1e-4, "Largest difference of an output that --compare lets pass.", 0.0)
_JSON = flags.DEFINE_string("json", None, "Write what is printed to this file as JSON.")

_DIFFERENT, _FAILED = 1, 2


def main(argv: list[str]) -> int:
    """Runs the model on the pictures named on the command line."""
    try:
        models, paths = _sort(argv[1:])
        return _run(_load(models), models[-1], paths)
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return _FAILED


def _sort(arguments: Sequence[str]) -> tuple[list[Path], list[Path]]:
    """Tells models from pictures."""
    paths = [Path(argument) for argument in arguments]
    models = [path for path in paths if path.suffix in (".tflite", ".keras") or path.is_dir()]
    rest = [path for path in paths if path not in models]
    if not models:
        raise ValueError("name a model (.tflite): python -m serving.edge_tpu.run MODEL.tflite PICTURE...")
    if len(models) > 1 and not _PIPELINE.value:
        raise ValueError(f"{len(models)} models are named; more than one goes with --pipeline, as segments in order")
    if not rest and not _BENCHMARK.value:
        raise ValueError("name a picture, or add --benchmark")
    return models, rest


def _load(models: Sequence[Path]) -> Pipeline:
    """One model is a pipeline of one segment."""
    devices = _DEVICE.value * len(models) if len(_DEVICE.value) == 1 else _DEVICE.value
    if len(devices) != len(models):
        raise ValueError(f"--device names {len(devices)} devices for {len(models)} models; name one for each, or one")
    loaded = (Predictor(model, device, threads=_THREADS.value) for model, device in zip(models, devices, strict=True))
    return Pipeline(list(loaded))


def _run(pipeline: Pipeline, model: Path, paths: Sequence[Path]) -> int:
    answers, different = [], False
    for path, answer in _answers(pipeline, model, paths):
        print(path, *(f"\n  {line}" for line in answer["lines"]), sep="")
        different |= answer.get("largest_difference", 0) > _TOLERANCE.value
        answers.append({"picture": str(path)} | answer)
    said: dict[str, Any] = {"pictures": answers}
    if _BENCHMARK.value:
        figures = _measure(pipeline, paths)
        print(figures.table())
        said["benchmark"] = vars(figures)
    if _JSON.value is not None:
        Path(_JSON.value).write_text(json.dumps(said, indent=2) + "\n")
    return _DIFFERENT if different else 0


def _answers(pipeline: Pipeline, model: Path, paths: Sequence[Path]) -> Iterator[tuple[Path, dict[str, Any]]]:
    first, last = pipeline.segments[0], pipeline.segments[-1]
    whole = Predictor(_COMPARE.value) if _COMPARE.value else None
    names = labels.read(_LABELS.value) if _LABELS.value else labels.attached(model) if model.is_file() else {}
    for path in paths:
        image = pictures.read(path)
        fed = first.image_input(pictures.resized(image, _input_size(first)))
        outputs = pipeline.predict(fed)
        task = _TASK.value or tasks.recognise(last, outputs)
        settings = tasks.Settings(names, _TOP.value, tasks.threshold(task, _THRESHOLD.value))
        answer = tasks.read(task, tasks.detection_outputs(last), outputs, settings, image.size)
        row: dict[str, Any] = {"task": task, "lines": answer.lines(), "answer": answer.json()}
        overlay = answer.overlay(image)
        if overlay is not None:
            row["overlay"] = str(Path(_OUTPUT_DIR.value) / f"{path.stem}_overlay.png")
            pictures.write(overlay, Path(row["overlay"]), _OVERWRITE.value)
            row["lines"].append(f"overlay: {row['overlay']}")
        if whole is not None:
            row["largest_difference"] = _difference(outputs, whole.predict(fed))
            row["lines"].append(f"largest difference to {_COMPARE.value}: {row['largest_difference']:g}")
        yield path, row


def _difference(outputs: dict[str, np.ndarray], others: dict[str, np.ndarray]) -> float:
    """The largest difference of values, output by output in their order."""
    if [value.shape for value in outputs.values()] != [value.shape for value in others.values()]:
        raise ValueError("--compare: the models have outputs of different shapes")
    pairs = zip(outputs.values(), others.values(), strict=True)
    return max(float(np.abs(one.astype(np.float64) - other).max()) for one, other in pairs)


def _input_size(predictor: Predictor) -> tuple[int, int]:
    specs = list(predictor.inputs.values())
    shape = specs[0].shape or ()
    if len(specs) != 1 or len(shape) != 4 or shape[3] != 3 or not shape[1] or not shape[2]:
        raise ValueError(f"the model reads {[(spec.name, spec.shape) for spec in specs]}, not one picture [N, H, W, 3]")
    return shape[1], shape[2]


def _measure(pipeline: Pipeline, paths: Sequence[Path]) -> benchmark.Figures:
    first = pipeline.segments[0]
    size = _input_size(first)
    noise = np.random.default_rng(0).integers(0, 256, (1, *size, 3), np.uint8)
    fed = first.image_input(pictures.resized(pictures.read(paths[0]), size) if paths else noise)
    if len(pipeline.segments) > 1:
        return benchmark.measure_pipeline(pipeline, fed, _RUNS.value, _WARM_UP.value)
    return benchmark.measure(first, fed, _RUNS.value, _WARM_UP.value)


if __name__ == "__main__":
    app.run(main)
