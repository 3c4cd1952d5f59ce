"""Threads for the handlers of grpcio's own server."""

import threading
from collections.abc import Callable
from concurrent import futures
from queue import SimpleQueue
from typing import Any

from absl import logging

from serving.server import scheduling

_DONE: futures.Future[None] = futures.Future()
_DONE.set_result(None)


class HandlerThreads(futures.Executor):
    """Runs tasks whose results nobody asks for, as gRPC's handlers are.

    A `ThreadPoolExecutor` makes a condition and takes several locks for each task: a tenth of the Python of a request.

    Args:
        count: Threads.
        name: Prefix of their names.
        pinned: Whether each stays on a core of its own; see `scheduling.cores_for`.

    Raises:
        ServingError: INVALID_ARGUMENT where pinned threads are more than cores.
    """

    def __init__(self, count: int, name: str, pinned: bool = False) -> None:
        cores = scheduling.cores_for(count) if pinned else [None] * count
        self._tasks: SimpleQueue[tuple[Callable[..., object], tuple] | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, args=(core,), name=f"{name}_{i}", daemon=True)
            for i, core in enumerate(cores)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, function: Callable[..., object], /, *arguments: Any) -> futures.Future[None]:
        """Queues a task.

        Returns:
            A future that is done, whether or not the task is: gRPC only counts by it how many handlers are under way,
            for a limit that this server does not set.
        """
        self._tasks.put((function, arguments))
        return _DONE

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Ends the threads after what is queued."""
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads if wait else ():
            thread.join()

    def _work(self, core: int | None) -> None:
        if core is not None:
            scheduling.stay_on(core)
        while task := self._tasks.get():
            function, arguments = task
            try:
                function(*arguments)
            except Exception:
                logging.exception("A gRPC handler failed")
            del task, function, arguments  # Else they stay in memory until the next request.
