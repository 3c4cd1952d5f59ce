"""Saved models load after a bare import, in whatever order a user imports."""

import subprocess
import sys

import pytest

import keras_mobilenet as km

FIRST = [
    "import keras_mobilenet, keras",
    "import keras, keras_mobilenet",
    "import keras_mobilenet.layers, keras",
    "import keras_mobilenet.optimization.fake_quant, keras",
    "import keras_mobilenet.client, keras",
]


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> str:
    """A model with a layer from each module that has some."""
    path = tmp_path_factory.mktemp("saved") / "model.keras"
    pruned = km.prune(km.MobileNetV2((32, 32, 3), 0.1, classes=2), km.ConstantSparsity(0.5, 0))
    km.quantize_aware(pruned).save(path)
    return str(path)


@pytest.mark.slow
@pytest.mark.parametrize("first", FIRST)
def test_load_model_finds_our_layers(first, saved):
    program = f"{first}; print(len(keras.models.load_model({saved!r}).layers))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 100
