"""How soon a process gets a core that another one holds; threads that it makes later inherit it.

Clients on the machine of the server that they measure stand for clients elsewhere.
"""

import contextlib
import ctypes
import os
import platform
import struct

_SYSCALL = {"x86_64": 314, "aarch64": 274}  # sched_setattr; neither Python nor psutil has it.
_ATTRIBUTES = struct.Struct("=IIQiIQQQ")  # struct sched_attr: size, policy, flags, nice, priority, runtime, two more.


def interrupt(seconds: float) -> None:
    """Asks for a short slice: the process interrupts others, and sends when a request is due.

    Args:
        seconds: The slice, 0.0001 to 0.1. Linux has it from 6.12 on; before that it changes nothing.
    """
    number = _SYSCALL.get(platform.machine())
    if number is None or platform.system() != "Linux":
        return
    attributes = _ATTRIBUTES.pack(_ATTRIBUTES.size, os.SCHED_OTHER, 0, os.nice(0), 0, round(seconds * 1e9), 0, 0)
    ctypes.CDLL(None).syscall(number, 0, attributes, 0)


def wait() -> None:
    """Waits for others to let go of a core: the server that is measured is not interrupted. Only Linux has it."""
    if hasattr(os, "SCHED_BATCH"):
        with contextlib.suppress(OSError):  # A sandbox may forbid it.
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
