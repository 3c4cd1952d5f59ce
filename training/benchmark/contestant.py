"""A training step that can be timed, and the process that it runs in.

Every contestant has a process of its own: the two Keras versions cannot share one, and nobody inherits another's graphs
or memory. Only one of the processes computes at a time.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import Any, Protocol

import tensorflow as tf

ROOT = Path(__file__).parents[2]
CLASSES, ALPHA, SIZE = 10, 0.35, 96


class Contestant(Protocol):
    """Something whose steps can be timed."""

    def first(self) -> float:
        """Makes the first step; gives the seconds it takes, building of the graph included."""

    def seconds(self, count: int) -> list[float]:
        """Makes `count` steps and one before; gives the seconds from the end of each to the end of the next."""


def pictures(batch_size: int) -> tf.data.Dataset:
    """The same random batch again and again, so that no contestant waits for pictures."""
    images = tf.random.stateless_uniform([batch_size, SIZE, SIZE, 3], (0, 0), -1, 1)
    labels = tf.random.stateless_uniform([batch_size], (0, 1), 0, CLASSES, tf.int64)
    return tf.data.Dataset.from_tensors((images, labels)).repeat().prefetch(2)


class Fit:
    """Steps of a compiled Keras model's `fit`, Keras 3 or 2.

    Args:
        keras: The Keras that the model is of.
        model: A compiled model.
        batch_size: Pictures in a step.
        callbacks: Those that its training needs.
    """

    def __init__(self, keras: Any, model: Any, batch_size: int, callbacks: Sequence[Any] = ()) -> None:
        self._model = model
        self._data = pictures(batch_size)
        self._ends: list[float] = []
        note = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda *_, **__: self._ends.append(time.perf_counter())
        )
        self._callbacks = [*callbacks, note]

    def first(self) -> float:  # noqa: D102
        start = time.perf_counter()
        self._fit(1)
        return self._ends[-1] - start

    def seconds(self, count: int) -> list[float]:  # noqa: D102
        self._ends.clear()
        self._fit(count + 1)
        return differences(self._ends)

    def _fit(self, steps: int) -> None:
        self._model.fit(self._data, steps_per_epoch=steps, verbose=0, callbacks=self._callbacks)


def differences(ends: Sequence[float]) -> list[float]:
    """Seconds from each moment to the next."""
    return [end - start for start, end in pairwise(ends)]


def serve(contestant: Contestant) -> None:
    """Answers `first` and `steps N` on standard input with JSON on standard output, until it is closed."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what Keras prints goes elsewhere
    print("[]", file=answers, flush=True)  # ready
    for line in sys.stdin:
        command, *count = line.split()
        seconds = [contestant.first()] if command == "first" else contestant.seconds(int(count[0]))
        print(json.dumps(seconds), file=answers, flush=True)


@dataclass
class Process:
    """A contestant's process, seen from outside.

    Attributes:
        module: Which of this package's programs it is.
        name: The contestant.
        flags: Further flags.
        environment: Additions to the environment.
    """

    module: str
    name: str
    flags: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)

    def __enter__(self) -> "Process":
        command = [sys.executable, "-m", f"training.benchmark.{self.module}", f"--contestant={self.name}", *self.flags]
        self._messages = TemporaryFile("w+")
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._messages,
            text=True,
            env=os.environ | self.environment,
        )
        self._answer()  # ready
        return self

    def ask(self, command: str) -> list[float]:
        """Sends a command and waits for the seconds.

        Raises:
            RuntimeError: The process ended; its messages are in the error.
        """
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> list[float]:
        answer = self._process.stdout.readline()
        if not answer:
            self._messages.seek(0)
            raise RuntimeError(f"{self.name} failed:\n{self._messages.read()[-3000:]}")
        seconds: list[float] = json.loads(answer)
        return seconds

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.stdin.close()
        if kind is not None:
            self._process.kill()
        self._process.wait()
