"""The rows of the table, and how each is measured."""

import contextlib
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from training.benchmark.contestant import Process
from training.spread import quartiles

PEER = {"TF_USE_LEGACY_KERAS": "1"}
CONTESTANTS = {
    "float": Process("ours", "float"),
    "prune": Process("ours", "prune"),
    "quantize": Process("ours", "quantize"),
    "pictures": Process("ours", "pictures"),
    "keras": Process("ours", "keras"),
    "peer_float": Process("peer", "peer_float", environment=PEER),
    "peer_prune": Process("peer", "peer_prune", environment=PEER),
    "peer_quantize": Process("peer", "peer_quantize", environment=PEER),
}


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        title: What is compared.
        ours: A contestant.
        other: The one that it is compared with.
        most: The ratio of our seconds to the other's that is to be reached at most.
        first: Whether first steps are compared, each in a new process, or those that follow.
    """

    title: str
    ours: str
    other: str
    most: float | None
    first: bool = False


ROWS = {
    "step": Row("float step: ours / keras.applications under Keras 3's fit", "float", "keras", 0.75),
    "peer_step": Row("float step: ours / tf_keras", "float", "peer_float", None),
    "qat_step": Row("QAT step: ours / tfmot on tf_keras", "quantize", "peer_quantize", 0.95),
    "qat_own": Row("QAT step / our float step", "quantize", "float", 1.25),
    "prune_step": Row("pruning step / our float step", "prune", "float", 1.05),
    "peer_prune_step": Row("pruning step: ours / tfmot on tf_keras", "prune", "peer_prune", None),
    "first_step": Row("first step: ours / keras.applications", "float", "keras", 0.8, first=True),
    "qat_first_step": Row("first QAT step: ours / tfmot on tf_keras", "quantize", "peer_quantize", 1.25, first=True),
    "input": Row("input pipeline: seconds for a batch / our float step", "pictures", "float", 0.5),
}


@dataclass(frozen=True)
class Result:
    """What was measured of a row; seconds are medians, spreads are first and third quartile."""

    title: str
    ours: float
    ours_spread: tuple[float, float]
    other: float
    other_spread: tuple[float, float]
    ratio: float
    most: float | None

    @property
    def reached(self) -> bool | None:
        """Whether the ratio is as small as it is to be."""
        return None if self.most is None else self.ratio <= self.most


def measure(names: Sequence[str], rounds: int, steps: int, flags: Sequence[str]) -> dict[str, Result]:
    """Measures rows; what several of them compare is measured once.

    Args:
        names: Keys of `ROWS`.
        rounds: Turns that each contestant gets.
        steps: Steps in a turn; of first steps there is one.
        flags: Passed on to the contestants.
    """
    chosen = {name: ROWS[name] for name in names}
    later = sorted({who for row in chosen.values() if not row.first for who in (row.ours, row.other)})
    first = sorted({who for row in chosen.values() if row.first for who in (row.ours, row.other)})
    seconds_later = interleaved(later, rounds, steps, flags) if later else {}
    seconds_first = first_steps(first, rounds, flags) if first else {}
    return {name: _result(row, seconds_first if row.first else seconds_later) for name, row in chosen.items()}


def interleaved(names: Iterable[str], rounds: int, steps: int, flags: Sequence[str]) -> dict[str, list[float]]:
    """Seconds of the steps of several contestants that take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in names}
    with contextlib.ExitStack() as stack:
        running = {name: stack.enter_context(_with(CONTESTANTS[name], flags)) for name in seconds}
        for process in running.values():
            process.ask("first")
            process.ask("steps 3")  # warm
        for _ in range(rounds):
            for name, process in running.items():
                seconds[name] += process.ask(f"steps {steps}")
    return seconds


def first_steps(names: Iterable[str], rounds: int, flags: Sequence[str]) -> dict[str, list[float]]:
    """Seconds of first steps, in new processes that take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in seconds:
            with _with(CONTESTANTS[name], flags) as process:
                seconds[name] += process.ask("first")
    return seconds


def _with(process: Process, flags: Sequence[str]) -> Process:
    own = tuple(flag for flag in flags if process.name == "pictures" or not flag.startswith("--data_dir"))
    return Process(process.module, process.name, own, process.environment)


def _result(row: Row, seconds: Mapping[str, Sequence[float]]) -> Result:
    ours, other = statistics.median(seconds[row.ours]), statistics.median(seconds[row.other])
    return Result(
        row.title, ours, quartiles(seconds[row.ours]), other, quartiles(seconds[row.other]), ours / other, row.most
    )


def table(results: Mapping[str, Result]) -> str:
    """The results in Markdown."""
    lines = ["| figure | ours, ms | other, ms | ratio | to reach |", "|---|---|---|---|---|"]
    for result in results.values():
        goal = "" if result.most is None else f"at most {result.most:g}: {'yes' if result.reached else 'NO'}"
        lines.append(
            f"| {result.title} | {_ms(result.ours, result.ours_spread)} | {_ms(result.other, result.other_spread)} "
            f"| {result.ratio:.2f} | {goal} |"
        )
    return "\n".join(lines)


def _ms(median: float, spread: tuple[float, float]) -> str:
    return f"{median * 1000:.0f} ({spread[0] * 1000:.0f} to {spread[1] * 1000:.0f})"


def as_json(results: Mapping[str, Result]) -> dict[str, Any]:
    """The results as plain values."""
    return {name: asdict(result) | {"reached": result.reached} for name, result in results.items()}
