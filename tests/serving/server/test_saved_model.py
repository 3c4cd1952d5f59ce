"""What --mixed_precision=bfloat16 does to the classes of real photos."""

import csv
from pathlib import Path

import numpy as np
import pytest

import keras_mobilenet as km
from serving.server import backends, config, saved_model, servable

BATCH = 4


@pytest.mark.slow
@pytest.mark.skipif(
    "avx512_bf16" not in Path("/proc/cpuinfo").read_text(), reason="the CPU has no bfloat16 instructions (avx512_bf16)"
)
def test_bfloat16_keeps_the_classes_of_real_photos(shared_data, tmp_path):
    model = km.MobileNetV2(weights=shared_data / "weights" / "mobilenet_v2_1.0_224_quant.tflite")
    version = km.export_saved_model(model, tmp_path)
    with (shared_data / "imagenet" / "ccby400.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    encoded = [(shared_data / "imagenet" / "ccby400" / row["file"]).read_bytes() for row in rows]
    classes = np.array([int(row["class_index"]) for row in rows])
    exact, rounded = (probabilities(version, mode, encoded) for mode in ("", "bfloat16"))
    same = np.sum(exact.argmax(1) == rounded.argmax(1))
    right = [100 * np.mean(scores.argmax(1) == classes) for scores in (exact, rounded)]
    print(f"same best class in {same} of {len(rows)}; top-1 {right[0]:.1f} % in float32, {right[1]:.1f} % in bfloat16")
    assert 0.96 * len(rows) <= same
    assert right[1] >= right[0] - 2
    # It was honoured: bfloat16 has 8 bits of mantissa.
    assert np.abs(exact - rounded).max() > 1e-3


def probabilities(version, mode, encoded):
    session = backends.session_config(config.Options(mixed_precision=mode))
    loaded = saved_model.SavedModelBackend(config=session).load(version)
    (name,) = loaded.signatures[servable.DEFAULT_SIGNATURE].inputs
    pieces = []
    for start in range(0, len(encoded), BATCH):
        pictures = np.asarray(km.decode_and_resize(encoded[start : start + BATCH], (224, 224)))
        pictures = np.clip(np.rint(pictures), 0, 255).astype(np.uint8)
        pieces += loaded.run(servable.DEFAULT_SIGNATURE, {name: pictures}, ["probabilities"], servable.Call())
    loaded.close()
    return np.concatenate(pieces)
