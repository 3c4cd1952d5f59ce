"""Keeps the process as small as what it has loaded."""

import contextlib
import ctypes
import functools
import gc
import os
import threading
from collections.abc import Callable, Iterator

from serving.server import tensor_pool

# Of glibc's malloc.h, and the environment's names for them.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_ENVIRONMENT = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_", "GLIBC_TUNABLES")
# TensorFlow's own switch: tensors come from malloc and not from its pool. Mapped one by one, they would spend more time
# on fresh pages than on arithmetic.
_WITHOUT_POOL = "TF_ONEDNN_USE_SYSTEM_ALLOCATOR"
_LARGE_BYTES = 1 << 20
_KEPT_BYTES = 32 << 20
_LATER_SECONDS = 2.0
_TENSORS = tensor_pool.TensorPool()


def set_up() -> None:
    """Tells glibc where large blocks come from, unless the environment does."""
    if any(name in os.environ for name in _ENVIRONMENT) or os.environ.get(_WITHOUT_POOL, "").lower() in ("1", "true"):
        return
    # Mapped one by one, large blocks go back to the system when they are freed. By itself glibc stops that at the first
    # free of such a block, and up to 32 MiB come out of its heaps: a graph's weights and messages then leave holes
    # there, which the next version does not fill. Tensors are not concerned: TensorFlow keeps a pool for large ones.
    mallopt = _libc("mallopt")
    mallopt(_MMAP_THRESHOLD, _LARGE_BYTES)
    mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)


def release() -> None:
    """Collects what loading a model, or a model that is gone, left behind, and returns it to the system.

    A graph is full of reference cycles, and glibc and TensorFlow keep freed memory for later: without this, a server is
    larger by a few models' size. glibc's is returned again a little later, as the first request of a version that was
    not warmed up makes copies of its graph, and leaves as much behind.
    """
    gc.collect()
    _TENSORS.put_aside()
    _trim()
    later = threading.Timer(_LATER_SECONDS, _trim)
    later.daemon = True
    later.start()


@contextlib.contextmanager
def loading() -> Iterator[None]:
    """Makes room for a model that is loaded meanwhile."""
    _TENSORS.load_begins()
    try:
        yield
    finally:
        _TENSORS.load_ends()


def _trim() -> None:
    _libc("malloc_trim")(0)


@functools.cache
def _libc(function: str) -> Callable[..., object]:
    try:
        return getattr(ctypes.CDLL(None), function)
    except (OSError, AttributeError):  # Not glibc.
        return lambda *arguments: None
