"""Where large blocks come from."""

import os
import subprocess
import sys

import pytest

# A process of its own: glibc's settings cannot be taken back. By itself glibc maps large blocks until one is freed.
PROGRAM = """
import ctypes
from serving.server import memory
from tests.serving.server import glibc

libc = glibc.LIBC
libc.malloc.restype = ctypes.c_void_p
memory.set_up()
libc.free(ctypes.c_void_p(libc.malloc(ctypes.c_size_t(8 << 20))))
before = glibc.info().hblkhd
libc.malloc(ctypes.c_size_t(8 << 20))
print(glibc.info().hblkhd - before >= 8 << 20)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's settings")
@pytest.mark.parametrize(
    ("environment", "mapped"),
    [
        ({}, True),
        ({"TF_ONEDNN_USE_SYSTEM_ALLOCATOR": "0"}, True),
        ({"TF_ONEDNN_USE_SYSTEM_ALLOCATOR": "1"}, False),
        ({"TF_ONEDNN_USE_SYSTEM_ALLOCATOR": "true"}, False),
        ({"TF_ONEDNN_USE_SYSTEM_ALLOCATOR": "1", "MALLOC_MMAP_THRESHOLD_": "4194304"}, True),
        ({"MALLOC_MMAP_THRESHOLD_": "16777216"}, False),
        ({"MALLOC_MMAP_THRESHOLD_": "4194304"}, True),
    ],
)
def test_large_blocks_are_mapped_unless_the_environment_says_otherwise(environment, mapped):
    ours = ("MALLOC_", "TF_ONEDNN_", "GLIBC")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=kept | environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(mapped)
