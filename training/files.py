"""The files that a run's models are measured as: float32 and int8, for LiteRT."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

import keras_mobilenet as km
from training import network

ROWS = {"float": "float", "prune": "pruned", "quantize": "fake_quant"}
"""What the model of a stage is called among the figures."""


def convert(
    finished: Mapping[str, Path],
    output_dir: Path,
    calibration: tf.data.Dataset,
    labels: Sequence[str],
    options: Mapping[str, Any],
) -> dict[str, Path]:
    """Converts each stage's model.

    Args:
        finished: Stage -> its model file.
        output_dir: Folder of the run; the files go into the stages' folders.
        calibration: Batches of training pictures, for the ranges of post-training quantization.
        labels: Name of each class.
        options: Further ones of `km.convert_tflite`.

    Returns:
        Row of the figures -> file. A float or pruned model gives its float32 file and `<row>_int8`, quantized after
        training; a quantization-aware one the Keras file, `fake_quant`, and `int8`.
    """
    rows: dict[str, Path] = {}
    common = {"labels": labels, **options}
    for stage, path in finished.items():
        row, folder, model = ROWS[stage], output_dir / stage, network.load(path)
        if stage == "quantize":
            rows[row], rows["int8"] = path, folder / "int8.tflite"
            km.convert_tflite(model, "int8", path=rows["int8"], **common)
        else:
            rows[row], rows[f"{row}_int8"] = folder / "float32.tflite", folder / "int8.tflite"
            km.convert_tflite(model, path=rows[row], **common)
            km.convert_tflite(model, "int8", calibration, path=rows[f"{row}_int8"], **common)
    return rows
