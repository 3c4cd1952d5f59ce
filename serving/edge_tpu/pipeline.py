"""A model cut into segments, each on a device of its own; they work at the same time on successive pictures."""

import collections
import contextlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from keras_mobilenet.runtime import Predictor

Tensors = dict[str, np.ndarray]


class Pipeline:
    """Segments in order.

    A segment's inputs are taken by name from the pipeline's input and all outputs before it, as stored integers; where
    names differ, as in segments that were converted one by one, from the outputs right before it in their order.
    """

    def __init__(self, segments: Sequence[Predictor]) -> None:
        """Takes the loaded segments.

        Raises:
            ValueError: If a segment's inputs fit neither by name nor by number to what comes before.
        """
        self.segments = tuple(segments)
        known = set(self.segments[0].inputs)
        for index, segment in enumerate(self.segments):
            before = self.segments[index - 1].outputs if index else segment.inputs
            if not known.issuperset(segment.inputs) and len(segment.inputs) != len(before):
                raise ValueError(
                    f"segment {index} reads {sorted(segment.inputs)}; before it there are {sorted(known)}. "
                    "Name the segments in order."
                )
            known |= set(segment.outputs)

    def predict(self, image: np.ndarray) -> Tensors:
        """Runs one input through all segments; outputs are real values."""
        return next(self.map([image]))

    def map(self, images: Iterable[np.ndarray]) -> Iterator[Tensors]:
        """Runs inputs through the segments, all segments at work at once; outputs come in the inputs' order."""
        with contextlib.ExitStack() as stack:
            workers = [stack.enter_context(ThreadPoolExecutor(1)) for _ in self.segments]
            under_way: collections.deque[Future[tuple[Tensors, Tensors]]] = collections.deque()
            for image in images:
                under_way.append(self._submit(workers, image))
                if len(under_way) > 2 * len(workers):
                    yield under_way.popleft().result()[1]
            while under_way:
                yield under_way.popleft().result()[1]

    def _submit(self, workers: Sequence[ThreadPoolExecutor], image: np.ndarray) -> "Future[tuple[Tensors, Tensors]]":
        first = dict.fromkeys(self.segments[0].inputs, image)
        future = workers[0].submit(self._step, 0, first, first)
        for index, worker in enumerate(workers[1:], 1):
            future = worker.submit(lambda before, index: self._step(index, *before.result()), future, index)
        return future

    def _step(self, index: int, known: Tensors, before: Tensors) -> tuple[Tensors, Tensors]:
        """Runs a segment: all tensors so far and those right before it, to the same with its outputs."""
        segment = self.segments[index]
        if set(segment.inputs) <= set(known):
            inputs = {name: known[name] for name in segment.inputs}
        else:
            inputs = dict(zip(segment.inputs, before.values(), strict=True))
        last = index == len(self.segments) - 1
        outputs = segment.predict(inputs, dequantize=last)
        return known | outputs, outputs
