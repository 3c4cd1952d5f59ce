"""How the kernel schedules the server's threads."""

import contextlib
import os


def prefer_throughput() -> None:
    """Makes threads that wake up wait for a core, where they would interrupt what runs on it.

    A request passes from thread to thread, and each of them wakes the next before it has let go of Python's lock: one
    that starts at once only goes to sleep again. Threads that are made later inherit it. Another policy than the usual
    one (`chrt`) stays as it is.
    """
    if hasattr(os, "SCHED_BATCH") and os.sched_getscheduler(0) == os.SCHED_OTHER:
        with contextlib.suppress(OSError):  # A sandbox may forbid it.
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
