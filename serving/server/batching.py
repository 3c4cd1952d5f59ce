"""A servable that runs concurrent requests together: joins their rows, runs once, and hands the rows back."""

import itertools
import time
from collections.abc import Mapping, Sequence

import numpy as np
from tensorflow.core.protobuf import meta_graph_pb2

from serving.server import metrics, servable, status
from serving.server.batch_scheduler import BatchScheduler, Task
from serving.server.batching_parameters import BatchingParameters

# After these, running the requests of a batch one by one would only take more time.
_NO_RETRY = (
    status.grpc.StatusCode.DEADLINE_EXCEEDED,
    status.grpc.StatusCode.UNAVAILABLE,
    status.grpc.StatusCode.CANCELLED,
    status.grpc.StatusCode.RESOURCE_EXHAUSTED,
)


class BatchingServable:
    """Wraps a servable.

    Args:
        wrapped: Runs the batches.
        model: The model's name, for the metrics.
        parameters: Sizes and timeout.
        scheduler: Shared by all models.
    """

    def __init__(
        self, wrapped: servable.Servable, model: str, parameters: BatchingParameters, scheduler: BatchScheduler
    ) -> None:
        self._wrapped = wrapped
        self._model = model
        self._parameters = parameters
        self._scheduler = scheduler

    @property
    def signatures(self) -> Mapping[str, meta_graph_pb2.SignatureDef]:
        """The wrapped servable's signatures."""
        return self._wrapped.signatures

    def run(
        self, signature: str, inputs: Mapping[str, np.ndarray], outputs: Sequence[str], call: servable.Call
    ) -> list[np.ndarray]:
        """Runs the request in a batch with others of the same signature, outputs and inner shapes."""
        rows = _rows(inputs)
        if rows == 0:
            return self._wrapped.run(signature, inputs, outputs, call)
        tasks = [Task(size, part, call) for size, part in self._parts(inputs, rows)]
        names = tuple(outputs)

        def run_batch(batch: Sequence[Task]) -> None:
            self._run_batch(signature, names, batch)

        key = (self, signature, names, self._shapes(inputs))
        self._scheduler.submit(key, self._model, self._parameters, run_batch, tasks)
        results = [task.wait() for task in tasks]
        if len(results) == 1:
            return results[0]
        return [np.concatenate(pieces) for pieces in zip(*results, strict=True)]

    def close(self) -> None:
        """Closes the wrapped servable; no request is under way by then."""
        self._wrapped.close()

    def _parts(self, inputs: Mapping[str, np.ndarray], rows: int) -> list[tuple[int, Mapping[str, np.ndarray]]]:
        limit = self._parameters.max_batch_size
        if rows <= limit:
            return [(rows, inputs)]
        if not self._parameters.split_large_requests:
            raise status.invalid_argument(
                f"Task size {rows} is larger than maximum input batch size {limit}; send fewer rows, or set "
                f"enable_large_batch_splitting"
            )
        return [
            (min(limit, rows - start), {name: array[start : start + limit] for name, array in inputs.items()})
            for start in range(0, rows, limit)
        ]

    def _shapes(self, inputs: Mapping[str, np.ndarray]) -> tuple:
        if self._parameters.pad_variable_length_inputs:
            return tuple(sorted((name, array.ndim) for name, array in inputs.items()))
        return tuple(sorted((name, array.shape[1:]) for name, array in inputs.items()))

    def _run_batch(self, signature: str, outputs: tuple[str, ...], batch: Sequence[Task]) -> None:
        now = time.monotonic()
        for task in batch:
            metrics.queued(now - task.enqueued)
        if not batch:
            return
        try:
            pieces = self._run_together(signature, outputs, batch)
        except Exception as error:
            self._run_apart(signature, outputs, batch, error)
            return
        for task, piece in zip(batch, pieces, strict=True):
            task.finish(piece)

    def _run_together(self, signature: str, outputs: tuple[str, ...], batch: Sequence[Task]) -> list[list[np.ndarray]]:
        size = sum(task.size for task in batch)
        padded = self._parameters.padded(size)
        metrics.batch(self._model, padded, padded - size)
        inputs = self._merge([task.payload for task in batch], padded - size)
        results = self._wrapped.run(signature, inputs, outputs, _longest([task.call for task in batch]))
        for result in results:
            if result.ndim == 0:
                raise status.failed_precondition("Batched output tensor has 0 dimensions")
            if result.shape[0] != padded:
                raise status.failed_precondition(
                    "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the "
                    f"input tensors: {result.shape[0]} against {padded}"
                )
        bounds = list(itertools.accumulate((task.size for task in batch), initial=0))
        return [[result[start:stop] for result in results] for start, stop in itertools.pairwise(bounds)]

    def _run_apart(self, signature: str, outputs: tuple[str, ...], batch: Sequence[Task], error: Exception) -> None:
        # One bad picture must not fail its neighbours: find out whose error it is.
        if len(batch) == 1 or status.code_of(error) in _NO_RETRY:
            for task in batch:
                task.finish(error=error)
            return
        for task in batch:
            try:
                task.finish(self._run_together(signature, outputs, [task])[0])
            except Exception as own:
                task.finish(error=own)

    def _merge(self, payloads: Sequence[Mapping[str, np.ndarray]], padding: int) -> Mapping[str, np.ndarray]:
        if len(payloads) == 1 and not padding:
            return payloads[0]
        merged = {}
        for name in payloads[0]:
            parts = [payload[name] for payload in payloads]
            if self._parameters.pad_variable_length_inputs:
                parts = _pad_inner(parts)
            if padding:
                # A row of the request is valid input, whatever the model expects.
                parts.append(np.broadcast_to(parts[-1][:1], (padding, *parts[-1].shape[1:])))
            merged[name] = np.concatenate(parts)
        return merged


def _rows(inputs: Mapping[str, np.ndarray]) -> int:
    sizes = set()
    for array in inputs.values():
        if array.ndim == 0:
            raise status.invalid_argument("Batching Run() input tensors must have at least one dimension")
        sizes.add(array.shape[0])
    if len(sizes) > 1:
        raise status.invalid_argument(
            f"Batching Run() input tensors must have equal 0th-dimension size; got {sorted(sizes)}"
        )
    return sizes.pop() if sizes else 0


def _longest(calls: Sequence[servable.Call]) -> servable.Call:
    deadlines = [call.deadline for call in calls]
    return servable.Call(None if None in deadlines else max(deadlines))


def _pad_inner(parts: Sequence[np.ndarray]) -> list[np.ndarray]:
    largest = tuple(max(sizes) for sizes in zip(*(part.shape[1:] for part in parts), strict=True))
    padded = []
    for part in parts:
        if part.shape[1:] == largest:
            padded.append(part)
            continue
        filled = np.full((len(part), *largest), b"" if part.dtype.kind == "O" else 0, part.dtype)
        filled[tuple(slice(size) for size in part.shape)] = part
        padded.append(filled)
    return padded
