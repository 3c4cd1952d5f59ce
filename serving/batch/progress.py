"""How far a job on this machine is: each worker process counts in a file, and the program adds them up.

Beam's DirectRunner gives its metrics only when all is done. Elsewhere the runner's own page shows them.
"""

import os
import struct
import threading
import time
from pathlib import Path

import tqdm

_COUNTS = struct.Struct("<qq")
_SECONDS = 0.5
_FOLLOWED = threading.Lock()
_reporters: dict[str, "Reporter"] = {}


class Reporter:
    """Counts of this process; one for a folder, from `reporter`."""

    def __init__(self, folder: str, launcher: int) -> None:
        self._file = os.open(os.path.join(folder, str(os.getpid())), os.O_CREAT | os.O_WRONLY)
        self._counts = [0, 0]
        self._lock = threading.Lock()
        if launcher != os.getpid():
            threading.Thread(target=_end_with, args=(launcher,), name="launcher", daemon=True).start()

    def add(self, done: int = 0, bad: int = 0) -> None:
        """Counts pictures that have a row, and those that have none."""
        with self._lock:
            self._counts[0] += done
            self._counts[1] += bad
            os.pwrite(self._file, _COUNTS.pack(*self._counts), 0)


def reporter(folder: str, launcher: int) -> Reporter:
    """This process's reporter.

    With the first call the process also begins to watch the one that started the job, and ends when that is gone:
    Beam's workers would otherwise go on with what they have, for hours, and nobody would take it.

    Args:
        folder: Where to count.
        launcher: The process that started the job.
    """
    with _FOLLOWED:
        if folder not in _reporters:
            _reporters[folder] = Reporter(folder, launcher)
        return _reporters[folder]


def _end_with(launcher: int) -> None:
    while True:
        try:
            os.kill(launcher, 0)
        except ProcessLookupError:
            os._exit(1)
        time.sleep(_SECONDS)


def counted(folder: str) -> tuple[int, int]:
    """Pictures with and without a row so far, over all processes."""
    found = [file.read_bytes() for file in Path(folder).iterdir()]
    pairs = [_COUNTS.unpack(content) for content in found if len(content) == _COUNTS.size]
    return sum(done for done, _ in pairs), sum(bad for _, bad in pairs)


class Line:
    """The progress line on standard error, as long as the context lasts.

    Args:
        folder: Where the workers count.
        total: How many pictures there are; None where it isn't known.
    """

    def __init__(self, folder: str, total: int | None) -> None:
        self._folder = folder
        self._bar = tqdm.tqdm(total=total, unit=" pictures", dynamic_ncols=True, mininterval=_SECONDS)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="progress")

    def __enter__(self) -> "Line":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()
        self._bar.close()

    def _follow(self) -> None:
        while not self._stop.wait(_SECONDS):
            self._show()
        self._show()

    def _show(self) -> None:
        done, bad = counted(self._folder)
        if bad:
            self._bar.set_postfix(bad=bad, refresh=False)
        self._bar.update(done + bad - self._bar.n)
