"""How long a process may hold a core before another one gets it."""

import ctypes
import os
import platform
import struct

_SYSCALL = {"x86_64": 314, "aarch64": 274}  # sched_setattr; neither Python nor psutil has it.
_ATTRIBUTES = struct.Struct("=IIQiIQQQ")  # struct sched_attr: size, policy, flags, nice, priority, runtime, two more.


def shorten(seconds: float) -> bool:
    """Asks the kernel for a short slice: the calling thread, and threads that it makes later, then interrupt others.

    Clients on the machine of the server that they measure stand for clients elsewhere, which need not wait until the
    server lets go of a core.

    Args:
        seconds: The slice, 0.0001 to 0.1.

    Returns:
        Whether it was set. Linux has it from 6.12 on; before that it takes the call and changes nothing.
    """
    number = _SYSCALL.get(platform.machine())
    if number is None or platform.system() != "Linux":
        return False
    attributes = _ATTRIBUTES.pack(_ATTRIBUTES.size, os.SCHED_OTHER, 0, os.nice(0), 0, round(seconds * 1e9), 0, 0)
    return ctypes.CDLL(None).syscall(number, 0, attributes, 0) == 0
