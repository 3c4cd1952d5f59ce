"""What a loaded SavedModel holds in memory."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

# A process of its own, whose memory nothing else takes.
PROGRAM = """
import gc
import sys
from pathlib import Path

import numpy as np

from serving.server import saved_model, servable
from tests.serving.server import glibc

def in_use():
    gc.collect()
    info = glibc.info()
    return info.uordblks + info.hblkhd

backend = saved_model.SavedModelBackend()
small, large = map(Path, sys.argv[1:])
backend.load(small).close()  # What TensorFlow takes once.
before = in_use()
model = backend.load(large)
print((in_use() - before) / 2**20)
answer = model.run("serving_default", {"x": np.ones((1, 4), np.float32)}, ["y"], servable.Call())
print(float(answer[0][0, -1]))
"""


def frozen(path, width):
    """Writes a model whose weights are constants of a function, as the export's are, and that has no variables."""
    weights = np.arange(4 * width, dtype=np.float32).reshape(4, width)

    class Frozen(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 4], name="x")])
        def __call__(self, x):
            return {"y": x @ tf.constant(weights)}

    model = Frozen()
    tf.saved_model.save(model, str(path), signatures={"serving_default": model.__call__})
    return path, weights


@pytest.mark.skipif(sys.platform != "linux", reason="asks glibc what is in use")
def test_the_weights_of_a_frozen_model_are_held_by_the_session_only(tmp_path):
    small, _ = frozen(tmp_path / "small", 4)
    large, weights = frozen(tmp_path / "large", 1 << 20)
    done = subprocess.run([sys.executable, "-c", PROGRAM, small, large], capture_output=True, text=True, check=True)
    held, answer = map(float, done.stdout.splitlines()[-2:])
    # 5 times: in the session (graph, functions), in the shapes of the graph that it came from, and as room for two in
    # TensorFlow's pool. It would be 8 with the functions in Python and in that graph.
    assert held < 6.5 * weights.nbytes / 2**20
    np.testing.assert_allclose(answer, weights[:, -1].sum(), rtol=1e-6)
