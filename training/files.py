"""The files that a run's models are measured as: float32 and int8, for LiteRT."""

import os
from collections.abc import Mapping
from pathlib import Path

import tensorflow as tf

import keras_mobilenet as km
from training import network

ROWS = {"float": "float", "prune": "pruned", "quantize": "fake_quant"}
"""What the model of a stage is called among the figures."""


def convert(finished: Mapping[str, Path], output_dir: Path, calibration: tf.data.Dataset) -> dict[str, Path]:
    """Converts each stage's model.

    Args:
        finished: Stage -> its model file.
        output_dir: Folder of the run; the files go into the stages' folders.
        calibration: Batches of training pictures, for the ranges of post-training quantization.

    Returns:
        Row of the figures -> file. A float or pruned model gives its float32 file and `<row>_int8`, quantized after
        training; a quantization-aware one the Keras file, `fake_quant`, and `int8`.
    """
    rows: dict[str, Path] = {}
    for stage, path in finished.items():
        row, folder = ROWS[stage], output_dir / stage
        if not hasattr(km, "convert_tflite"):
            rows[row] = path
            continue
        model = network.load(path)
        if stage == "quantize":
            rows[row] = path
            rows["int8"] = _write(folder / "int8.tflite", km.convert_tflite(model, quantization="int8"))
        else:
            rows[row] = _write(folder / "float32.tflite", km.convert_tflite(model))
            content = km.convert_tflite(model, quantization="int8", calibration=calibration)
            rows[f"{row}_int8"] = _write(folder / "int8.tflite", content)
    return rows


def _write(path: Path, content: bytes) -> Path:
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_bytes(content)
    os.replace(unfinished, path)
    return path
