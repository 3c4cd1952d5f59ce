"""How soon this process's threads get a core that another process holds.

Clients on the machine of the server that they measure stand for clients elsewhere. What the system does not allow, or
does not know, stays as it is.
"""

import contextlib
import ctypes
import os
import platform
import struct
from collections.abc import Iterator
from pathlib import Path

_SYSCALL = {"x86_64": 314, "aarch64": 274}  # sched_setattr; neither Python nor psutil has it.
_ATTRIBUTES = struct.Struct("=IIQiIQQQ")  # struct sched_attr: size, policy, flags, nice, priority, runtime, two more.


def interrupt(seconds: float) -> None:
    """Gives all threads a short slice: they interrupt what runs, so that they send when a request is due.

    Args:
        seconds: The slice, 0.0001 to 0.1. Linux has it from 6.12 on.
    """
    number = _SYSCALL.get(platform.machine())
    if number is None:
        return
    attributes = _ATTRIBUTES.pack(_ATTRIBUTES.size, os.SCHED_OTHER, 0, os.nice(0), 0, round(seconds * 1e9), 0, 0)
    for thread in _threads():
        ctypes.CDLL(None).syscall(number, thread, attributes, 0)


def wait() -> None:
    """Makes all threads wait until what runs lets go of its core: a server is not interrupted."""
    for thread in _threads():
        with contextlib.suppress(OSError):  # It has ended, or a sandbox forbids it.
            os.sched_setscheduler(thread, os.SCHED_BATCH, os.sched_param(0))


def _threads() -> Iterator[int]:
    """Numbers of the process's threads; only Linux has them."""
    with contextlib.suppress(FileNotFoundError):
        yield from [int(entry.name) for entry in Path("/proc/self/task").iterdir()]
