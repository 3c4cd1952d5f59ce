"""How the kernel schedules the server's threads."""

import contextlib
import os

from serving.server import status


def prefer_throughput() -> None:
    """Makes threads that wake up wait for a core, where they would interrupt what runs on it.

    A request passes from thread to thread, and each of them wakes the next before it has let go of Python's lock: one
    that starts at once only goes to sleep again. Threads that are made later inherit it. Another policy than the usual
    one (`chrt`) stays as it is.
    """
    if hasattr(os, "SCHED_BATCH") and os.sched_getscheduler(0) == os.SCHED_OTHER:
        with contextlib.suppress(OSError):  # A sandbox may forbid it.
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def cores_for(threads: int) -> list[int]:
    """Returns a core for each of the threads, of those that the process may run on.

    The kernel may queue one thread behind another although a core is idle a moment later, and moves it only after a
    few milliseconds, as long as an inference takes.

    Raises:
        ServingError: INVALID_ARGUMENT where there are fewer cores; UNIMPLEMENTED where the system cannot pin threads.
    """
    if not hasattr(os, "sched_setaffinity"):
        raise status.ServingError(
            status.grpc.StatusCode.UNIMPLEMENTED, "--pin_grpc_threads: this system cannot keep threads on cores"
        )
    cores = sorted(os.sched_getaffinity(0))
    if threads > len(cores):
        raise status.invalid_argument(
            f"--pin_grpc_threads with --grpc_max_threads={threads}: this process may run on {len(cores)} cores; "
            f"give --grpc_max_threads={len(cores)} or fewer"
        )
    return cores[:threads]


def stay_on(core: int) -> None:
    """Keeps the calling thread on a core, as long as the process may use it."""
    with contextlib.suppress(OSError):  # It may have been taken away meanwhile.
        os.sched_setaffinity(0, {core})
