"""Importing tensorflow-model-optimization must not be felt. Each case is a process of its own."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

QUANTIZE = """
import keras
import keras_mobilenet as km
x = keras.Input((8, 8, 3))
aware = km.quantize_aware(keras.Model(x, keras.layers.Conv2D(2, 3)(x)))
aware.compile("sgd", "mse")
aware.train_on_batch(keras.ops.zeros((1, 8, 8, 3)), keras.ops.zeros((1, 6, 6, 2)))
"""
CHECK = """
import os, keras
import tensorflow as tf
assert tf.keras.__version__ == keras.__version__, tf.keras.__version__
assert tf.keras.layers.Dense is keras.layers.Dense
assert tf.optimizers.SGD is keras.optimizers.SGD
assert dict(os.environ) == environment, set(os.environ.items()) ^ set(environment.items())
"""


def run(code, **environment):
    program = "import os\nenvironment = dict(os.environ)\n" + textwrap.dedent(code)
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    "first",
    [
        pytest.param("", id="library"),
        pytest.param("import keras", id="keras"),
        pytest.param("import tensorflow", id="tensorflow"),
        pytest.param("import tensorflow as tf; tf.keras.layers", id="tf.keras"),
    ],
)
def test_quantizing_leaves_tf_keras_and_the_environment(first):
    # TensorFlow and its libraries set variables of their own when they load; those are not ours to undo.
    took_stock = "import keras, tensorflow; environment = dict(os.environ)"
    result = run(
        "\n".join([first, took_stock if first else "", QUANTIZE, CHECK if first else CHECK.rsplit("assert", 1)[0]])
    )
    assert result.returncode == 0, result.stderr[-2000:]


@pytest.mark.slow
def test_a_later_import_by_the_user_changes_nothing():
    result = run(
        "import tensorflow; environment = dict(os.environ)"
        + QUANTIZE
        + "import tensorflow_model_optimization as tfmot; tfmot.sparsity.keras.PolynomialDecay(0.0, 0.5, 0, 10)"
        + CHECK
    )
    assert result.returncode == 0, result.stderr[-2000:]


@pytest.mark.slow
def test_what_the_user_set_stays():
    result = run(
        """
        from keras_mobilenet.optimization import tfmot
        tfmot.load()
        assert os.environ["TF_USE_LEGACY_KERAS"] == "0", os.environ["TF_USE_LEGACY_KERAS"]
        """,
        TF_USE_LEGACY_KERAS="0",
    )
    assert result.returncode == 0, result.stderr[-2000:]


@pytest.mark.slow
def test_missing_library_names_the_extra():
    result = run("import sys; sys.modules['tensorflow_model_optimization'] = None" + QUANTIZE)
    assert result.returncode != 0
    assert 'pip install "keras-mobilenet[optimization]"' in result.stderr
