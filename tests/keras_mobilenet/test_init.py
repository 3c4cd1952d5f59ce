"""What `import keras_mobilenet` does, and above all what it leaves alone; each test in a fresh process."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import keras_mobilenet as km

STUB = Path(km.__file__).with_suffix(".pyi")


def run(program):
    """What the program prints last, as JSON."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout.splitlines()[-1])


def test_importing_it_imports_nothing_heavy():
    heavy = {"tensorflow", "keras", "numpy", "h5py", "grpc", "tensorflow_model_optimization", "tf_keras"}
    program = "import json, os, sys; before = dict(os.environ); import keras_mobilenet; dir(keras_mobilenet);"
    unchanged, loaded = run(program + "print(json.dumps([dict(os.environ) == before, list(sys.modules)]))")
    assert unchanged and not heavy & {name.split(".")[0] for name in loaded}


@pytest.fixture(scope="module")
def environment_of_tensorflow():
    """The environment as TensorFlow and Keras leave it by themselves."""
    return run("import json, os, tensorflow, keras; print(json.dumps(dict(os.environ)))")


USES = "km.MobileNetV2(alpha=0.1, input_shape=(32, 32, 3)), km.fold_batch_norm, km.quantize_aware, km.prune"
ORDERS = [
    ["import tensorflow as tf", "import keras_mobilenet as km", USES],
    ["import keras_mobilenet as km", USES, "import tensorflow as tf"],
]


@pytest.mark.slow
@pytest.mark.parametrize("lines", ORDERS, ids=["TensorFlow first", "keras_mobilenet first"])
def test_tf_keras_stays_keras_3_and_the_environment_as_it_was(lines, environment_of_tensorflow):
    """tensorflow-model-optimization sets TF_USE_LEGACY_KERAS, which would turn `tf.keras` into Keras 2."""
    answer = "print(json.dumps([dict(os.environ), tf.keras.__version__, tf.keras.Model is keras.Model]))"
    environment, version, same = run("\n".join(["import json, os", *lines, "import keras", answer]))
    assert environment == environment_of_tensorflow
    assert version.startswith("3.") and same


def test_every_public_name_loads_and_stands_in_the_stub():
    names = re.findall(r"^from \S+ import (\w+) as \1$", STUB.read_text(), flags=re.MULTILINE)
    assert names and sorted(names) == sorted(set(km.__all__))
    for name in names:
        assert getattr(km, name) is not None
    with pytest.raises(AttributeError, match="MobileNetV9"):
        _ = km.MobileNetV9
