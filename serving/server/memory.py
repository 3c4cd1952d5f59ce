"""Gives memory back after a model was unloaded."""

import ctypes
import functools
import gc
from collections.abc import Callable


def release() -> None:
    """Collects what a model left behind and returns it to the system.

    A graph is full of reference cycles, and glibc keeps freed memory for later: without this, a server that swaps
    versions grows by a few models' size.
    """
    gc.collect()
    _trim()(0)


@functools.cache
def _trim() -> Callable[[int], object]:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):  # Not glibc.
        return lambda pad: None
