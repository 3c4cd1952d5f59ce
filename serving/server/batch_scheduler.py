"""Collects tasks into batches and runs these on a few threads; knows nothing of tensors."""

import collections
import dataclasses
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from queue import Empty, SimpleQueue
from typing import Any

from absl import logging

from serving.server import metrics, servable, status
from serving.server.batching_parameters import BatchingParameters


class Task:
    """One request's part of a batch.

    Args:
        size: Its rows.
        payload: What the batch's runner works on.
        call: Deadline and cancellation of the request.
    """

    def __init__(self, size: int, payload: Any, call: servable.Call) -> None:
        self.size = size
        self.payload = payload
        self.call = call
        self.enqueued = time.monotonic()
        self._outcome: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()

    def finish(self, result: Any = None, error: BaseException | None = None) -> None:
        """Hands over the result, or the error."""
        self._outcome.put((result, error))

    def wait(self) -> Any:
        """Waits for the result until the request's deadline.

        Raises:
            ServingError: DEADLINE_EXCEEDED when it passes.
            Exception: What `finish` was given.
        """
        try:
            result, error = self._outcome.get(timeout=self.call.remaining())
        except Empty:
            raise status.deadline_exceeded("Run() timeout exceeded while waiting in batching queue") from None
        if error:
            raise error
        return result


@dataclasses.dataclass
class _Batch:
    opened: float
    tasks: list[Task] = dataclasses.field(default_factory=list)
    size: int = 0


class _Queue:
    """Batches of one kind in the order of their arrival; the last one is open."""

    def __init__(self, model: str, parameters: BatchingParameters, run: Callable[[Sequence[Task]], None]) -> None:
        self.model = model
        self.run = run
        self._parameters = parameters
        self._batches: collections.deque[_Batch] = collections.deque()

    def __len__(self) -> int:
        return len(self._batches)

    def capacity(self) -> int:
        """Returns how many rows still fit in."""
        free = (self._parameters.max_enqueued_batches - len(self._batches)) * self._parameters.max_batch_size
        return free + (self._parameters.max_batch_size - self._batches[-1].size if self._batches else 0)

    def add(self, task: Task) -> None:
        """Puts a task into the open batch, or opens the next.

        Raises:
            ServingError: UNAVAILABLE when the queue is full.
        """
        if not self._batches or self._batches[-1].size + task.size > self._parameters.max_batch_size:
            if len(self._batches) >= self._parameters.max_enqueued_batches:
                raise status.unavailable(
                    f"The batch scheduling queue to which this task was submitted is full; task size is {task.size} "
                    f"(num_enqueued_batches={len(self._batches)}, "
                    f"max_enqueued_batches={self._parameters.max_enqueued_batches})"
                )
            self._batches.append(_Batch(task.enqueued))
        self._batches[-1].tasks.append(task)
        self._batches[-1].size += task.size

    def due(self) -> float:
        """Returns when the first batch may run (monotonic seconds): at once when it is closed or full."""
        first = self._batches[0]
        if len(self._batches) > 1 or first.size >= self._parameters.max_batch_size:
            return 0.0
        return first.opened + self._parameters.batch_timeout

    def pop(self) -> _Batch:
        """Takes the first batch."""
        return self._batches.popleft()


class BatchScheduler:
    """Threads that run the batches of all models, the queues in turn.

    Args:
        threads: Batches that run at the same time.
    """

    def __init__(self, threads: int) -> None:
        self._changed = threading.Condition()
        self._queues: collections.OrderedDict[Hashable, _Queue] = collections.OrderedDict()
        self._stopping = False
        self._threads = [threading.Thread(target=self._work, name=f"batch_{i}", daemon=True) for i in range(threads)]
        for thread in self._threads:
            thread.start()

    def submit(
        self,
        key: Hashable,
        model: str,
        parameters: BatchingParameters,
        run: Callable[[Sequence[Task]], None],
        tasks: Sequence[Task],
    ) -> None:
        """Queues the tasks of one request; either all or none.

        Args:
            key: Tasks of the same key may share a batch.
            model: The model's name, for the metrics.
            parameters: Sizes and timeout.
            run: Runs a batch and finishes each of its tasks.
            tasks: The tasks, none of them larger than max_batch_size.

        Raises:
            ServingError: UNAVAILABLE when the queue is full.
        """
        with self._changed:
            if self._stopping:
                raise status.unavailable("The server is shutting down")
            queue = self._queues.get(key) or _Queue(model, parameters, run)
            if len(tasks) > 1 and sum(task.size for task in tasks) > queue.capacity():
                raise status.unavailable(
                    f"The batch scheduling queue to which this task was submitted is full; task size is "
                    f"{sum(task.size for task in tasks)} but scheduling capacity is only {queue.capacity()}"
                )
            for task in tasks:
                queue.add(task)
            self._queues[key] = queue
            metrics.queue_depth(model, len(queue))
            self._changed.notify()

    def stop(self) -> None:
        """Runs what is queued, then ends the threads."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (taken := self._take()) is not None:
            queue, batch = taken
            try:
                queue.run(_alive(batch.tasks))
            except Exception as error:
                logging.exception("A batch failed")
                for task in batch.tasks:
                    task.finish(error=error)

    def _take(self) -> tuple[_Queue, _Batch] | None:
        with self._changed:
            while True:
                now = time.monotonic()
                wait = None
                for key, queue in self._queues.items():
                    delay = 0.0 if self._stopping else queue.due() - now
                    if delay <= 0:
                        return queue, self._pop(key, queue)
                    wait = delay if wait is None else min(wait, delay)
                if self._stopping:
                    return None
                self._changed.wait(wait)

    def _pop(self, key: Hashable, queue: _Queue) -> _Batch:
        batch = queue.pop()
        if len(queue):
            self._queues.move_to_end(key)
            self._changed.notify()
        else:
            # A queue lives while it holds something, so that request shapes cannot pile up queues.
            del self._queues[key]
        metrics.queue_depth(queue.model, len(queue))
        return batch


def _alive(tasks: Sequence[Task]) -> list[Task]:
    alive = []
    for task in tasks:
        try:
            task.call.remaining()
        except status.ServingError as error:
            task.finish(error=error)
        else:
            alive.append(task)
    return alive
