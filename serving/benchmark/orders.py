"""Child processes of the benchmark that take orders: JSON objects, one a line, in and out."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

ROOT = Path(__file__).parents[2]
_END_SECONDS = 30.0


class Child:
    """A module of this package as a process; it has started up when this returns.

    Args:
        module: Its name, such as `serving.benchmark.client`.
        settings: What it is told at start.
        python: The interpreter that runs it; by default this one.
        environment: Variables that it gets where the environment does not have them.

    Raises:
        RuntimeError: It ended before it was ready; its reason stands on standard error.
    """

    def __init__(
        self, module: str, *, python: str = sys.executable, environment: Mapping[str, str] = {}, **settings: Any
    ) -> None:
        self._module = module
        self._process = subprocess.Popen(
            [python, "-m", module, json.dumps(settings)],
            cwd=ROOT,
            env={**environment, **os.environ},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            self.facts = self.answer()
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    def order(self, **order: Any) -> None:
        """Sends an order; `answer` waits for its result."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """Waits for the next answer.

        Raises:
            RuntimeError: The process has ended.
        """
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._module} ended with {self._process.wait()}; see its messages above")
        return json.loads(line)

    def ask(self, **order: Any) -> dict[str, Any]:
        """Sends an order and waits for its result."""
        self.order(**order)
        return self.answer()

    def close(self) -> None:
        """Ends the process."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def answering() -> TextIO:
    """Returns the child's way to its parent; what libraries print goes to standard error from now on."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


def carry_out(answers: TextIO, work: Callable[[dict[str, Any]], dict[str, Any]], **facts: Any) -> None:
    """Tells the parent that the child is ready, with `facts`, and does its orders until the parent goes."""
    _tell(answers, facts)
    for line in sys.stdin:
        _tell(answers, work(json.loads(line)))


def _tell(answers: TextIO, result: dict[str, Any]) -> None:
    answers.write(json.dumps(result) + "\n")
    answers.flush()
