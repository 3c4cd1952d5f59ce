"""What TensorFlow's pool of tensors gives back."""

import json
import os
import subprocess
import sys

import pytest

# A process of its own, whose pool nothing else uses.
PROGRAM = """
import json
import os
import tensorflow as tf
from serving.server import tensor_pool

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20

def tensors(count):
    return [tf.fill([10 << 20], tf.constant(number, tf.uint8)) for number in range(count)]

def right(kept, step):
    return all(bool(tf.reduce_all(tensor == step * index)) for index, tensor in enumerate(kept))

pool = tensor_pool.TensorPool()
pool.put_aside()
freed, grown, kept_right = [], [], []
for repetition in range(3):
    pool.load_begins()
    kept = tensors(30)[::10]
    before = resident()
    pool.put_aside()  # Not while a version is being loaded.
    while_loading = before - resident()
    pool.load_ends()
    pool.put_aside()
    freed.append(before - resident())
    before = resident()
    again = tensors(5)  # Requests go on.
    grown.append(resident() - before)
    kept_right.append(right(kept, 10) and right(again, 1) and while_loading < 10)
    del kept, again
print(json.dumps({"freed": freed, "grown": grown, "right": kept_right}))
"""


def run(**environment):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TF_")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=kept | environment, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_of_freed_tensors_goes_back_and_others_keep_their_values():
    result = run()
    assert all(200 < freed < 300 for freed in result["freed"]), result  # Of 300 MiB, 30 are kept.
    assert all(grown < 70 for grown in result["grown"]), result
    assert all(result["right"]), result


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("environment", [{"TF_ENABLE_ONEDNN_OPTS": "0"}, {"TF_ONEDNN_USE_SYSTEM_ALLOCATOR": "1"}])
def test_where_there_is_no_pool_nothing_is_lost(environment):
    assert all(run(**environment)["right"])
