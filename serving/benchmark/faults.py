"""What must not happen under load: failed or wrong answers while versions are swapped, and memory that grows."""

import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np

from serving.benchmark import load, processes
from serving.benchmark.load import Load, Round
from serving.benchmark.models import Models
from serving.benchmark.rows import Plan, batching_flags
from serving.benchmark.table import Row

MEMORY_BACK, FLAT_PERCENT, SOAK_REQUESTS = 10.0, 5.0, 10_000
_SLICE_SECONDS = 5.0
_SETTLE_SECONDS = 3.0
_SWAP_SECONDS = 180.0


def swaps(plan: Plan, count: int) -> Row:
    """Swaps versions under load, each with weights other than the last one's; every answer is checked.

    The detail names the memory after the first swap too: what one of them leaves behind for good is told from what each
    of them does.
    """
    everything: list[Round] = []
    with tempfile.TemporaryDirectory(dir=plan.models.folder) as base, batching_flags(plan, 1) as flags:
        _publish(plan.models, Path(base), 1)
        with (
            processes.EmbeddedServer(Path(base), [*flags, "--file_system_poll_wait_seconds=0.2"]) as server,
            _asked(plan, server, plan.models.expected) as loaded,
        ):
            loaded.closed_loop(_SLICE_SECONDS).require_success()
            sizes = [_settled_bytes(server.pid)]
            for versions in (range(2, 3), range(3, count + 2)):
                with _kept_up(loaded) as rounds:
                    for version in versions:
                        _swap(plan.models, Path(base), server, version)
                sizes.append(_settled_bytes(server.pid))
                everything.extend(rounds)
    answered, failed, wrong = _sums(everything)
    before, first, after = (size / 2**20 for size in sizes)
    growth = 100 * (after / before - 1)
    return Row(
        f"{count} version swaps under load: memory against the start",
        f"at most {MEMORY_BACK:.0f} %, 0 failed, 0 wrong",
        (growth,),
        growth <= MEMORY_BACK and not failed and not wrong and answered > 0,
        " %",
        f"{answered} answered, {failed} failed, {wrong} wrong; {before:.0f} to {after:.0f} MiB, {first:.0f} after one",
    )


def soak(plan: Plan, seconds: float) -> Row:
    """Keeps the load up, and compares the memory of the last fifth of the time with that of the second fifth."""
    rounds, sizes = [], []
    with (
        processes.EmbeddedServer(plan.models.served, plan.lite_flags) as server,
        _asked(plan, server) as loaded,
    ):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            rounds.append(loaded.closed_loop(min(_SLICE_SECONDS, seconds / 10)))
            sizes.append(processes.resident_bytes(server.pid))
    answered, failed, _ = _sums(rounds)
    fifth = len(sizes) // 5
    early, late = np.mean(sizes[fifth : 2 * fifth]), np.mean(sizes[-fifth:])
    growth = float(100 * (late / early - 1))
    return Row(
        f"soak of {seconds:.0f} s: memory of its last fifth against its second",
        f"at most {FLAT_PERCENT:.0f} %, 0 failed of {SOAK_REQUESTS:,} or more",
        (growth,),
        growth <= FLAT_PERCENT and not failed and answered >= SOAK_REQUESTS,
        " %",
        f"{answered} answered, {failed} failed; {early / 2**20:.0f} to {late / 2**20:.0f} MiB",
    )


def _swap(models: Models, base: Path, server: processes.EmbeddedServer, version: int) -> None:
    """Puts a version there, and waits until the one before it has gone."""
    _publish(models, base, version)
    _wait_for_swap(server, version - 1)


def _publish(models: Models, base: Path, version: int) -> None:
    """Puts a version there whole, as the export does."""
    scratch = base / f".{version}"
    shutil.copytree(models.swapped(version), scratch)
    scratch.rename(base / str(version))


def _wait_for_swap(server: processes.EmbeddedServer, old: int) -> None:
    message = f"Successfully unloaded servable version {{name: {processes.MODEL} version: {old}}}"
    deadline = time.monotonic() + _SWAP_SECONDS
    while message not in server.messages():
        if time.monotonic() > deadline:
            raise RuntimeError(f"Version {old} was not swapped within {_SWAP_SECONDS:.0f} s:\n{server.messages()}")
        time.sleep(0.1)


def _asked(plan: Plan, server: processes.EmbeddedServer, expected: Path | None = None) -> AbstractContextManager[Load]:
    request = load.request_for(server.address, plan.models.picture)
    return load.on(server.address, server.pid, request, plan.clients, expected=expected)


@contextmanager
def _kept_up(loaded: Load) -> Iterator[list[Round]]:
    """Keeps the load up meanwhile; the rounds are there when the context has ended."""
    rounds: list[Round] = []
    done = threading.Event()

    def keep_up() -> None:
        while not done.is_set():
            rounds.append(loaded.closed_loop(_SLICE_SECONDS))

    thread = threading.Thread(target=keep_up)
    thread.start()
    try:
        yield rounds
    finally:
        done.set()
        thread.join()


def _settled_bytes(pid: int) -> int:
    time.sleep(_SETTLE_SECONDS)
    return processes.resident_bytes(pid)


def _sums(rounds: list[Round]) -> tuple[int, int, int]:
    """Answered, failed and wrong."""
    return sum(r.pictures for r in rounds), sum(r.failed for r in rounds), sum(r.wrong for r in rounds)
