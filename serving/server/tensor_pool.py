"""Keeps what TensorFlow's pool of tensors has too much of out of memory: by itself the pool never shrinks."""

import contextlib
import ctypes
import mmap
import os
import threading

import numpy as np
import tensorflow as tf

_POOL = "CPU:0"
_PIECE_BYTES = 256 << 10  # The least that the pool is asked for: smaller tensors come from malloc.
# The pool may hold as much as the machine has, and what is aside counts.
_MOST_ASIDE_BYTES = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4


class TensorPool:
    """The process's pool of large tensors.

    While versions are swapped it holds the weights of two. From then on it would spread the tensors of requests over
    all that it once had. So what is left over is put aside until the next version is loaded: tensors without values are
    cut out of the free blocks and kept, and the system takes their pages.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loads = 0
        self._aside: list[tf.Tensor] = []

    def load_begins(self) -> None:
        """Makes room: the pool has all of its memory again."""
        with self._lock:
            self._loads += 1
            self._aside = []
            if self._loads == 1 and _held():
                tf.config.experimental.reset_memory_stats(_POOL)  # What was aside is not to count as held.

    def load_ends(self) -> None:
        """Notes that one load less is under way."""
        with self._lock:
            self._loads -= 1

    def put_aside(self) -> None:
        """Takes what the pool has and no longer holds out of memory, unless a version is being loaded."""
        with self._lock:
            held = _held()
            if not held or self._loads or self._aside:
                return
            size = 1 << held["peak"].bit_length()  # It grows by doubling.
            self._aside = _cut_out(min(size - held["current"], _MOST_ASIDE_BYTES) // _PIECE_BYTES)
            for tensor in self._aside:
                _discard(np.frombuffer(memoryview(tensor), np.uint8))


def _held() -> dict[str, int]:
    """Returns the bytes of tensors in the pool, current and peak; nothing where there is none, as without oneDNN."""
    try:
        return tf.config.experimental.get_memory_info(_POOL)
    except ValueError:
        return {}


def _cut_out(pieces: int) -> list[tf.Tensor]:
    """Makes tensors without values, fewer where there is no room for as many."""
    tensors: list[tf.Tensor] = []
    with tf.device(_POOL), contextlib.suppress(tf.errors.ResourceExhaustedError):
        for _ in range(pieces):
            tensors.append(tf.raw_ops.Empty(shape=[_PIECE_BYTES], dtype=tf.uint8))
    return tensors


def _discard(block: np.ndarray) -> None:
    """Returns the pages that lie within a block to the system; its values become undefined."""
    start, page = block.ctypes.data, mmap.PAGESIZE
    first, end = -(-start // page) * page, (start + block.nbytes) // page * page
    ctypes.CDLL(None).madvise(ctypes.c_void_p(first), ctypes.c_size_t(end - first), mmap.MADV_DONTNEED)
