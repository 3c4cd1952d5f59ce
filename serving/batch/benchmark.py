"""Measures the batch job and prints a table: `python -m serving.batch.benchmark --model=FILE --pictures=FOLDER`.

Throughput takes turns with a plain loop in as many processes over the same files, both from their start to their end.
Memory and cost are of one job for each of --counts. The machine should have nothing else to do: look at /proc/loadavg
first. All of it takes half an hour; --counts, --throughput_pictures and --rounds make it shorter.
"""

import dataclasses
import itertools
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
from absl import app, flags, logging

from serving.benchmark import table
from serving.benchmark.orders import ROOT
from serving.benchmark.table import Row
from serving.classify_pictures import find_pictures

THROUGHPUT, MEMORY, COST = 0.8, 0.10, 0.15  # The targets.
_SAMPLE_SECONDS = 0.2
_START = 16  # pictures of a job that is nearly all start-up

_ROWS = flags.DEFINE_list("rows", ["throughput", "memory", "cost"], "What to measure.")
_MODEL = flags.DEFINE_string("model", None, "Int8 .tflite file, as mobilenet_v2_1.0_224_quant.tflite.", required=True)
_PICTURES = flags.DEFINE_string("pictures", None, "Folder of pictures; links repeat them.", required=True)
_COUNTS = flags.DEFINE_list("counts", ["1000", "10000", "100000"], "Numbers of pictures for memory and cost.")
_THROUGHPUT_PICTURES = flags.DEFINE_integer("throughput_pictures", 10_000, "Pictures of a round of throughput.", 1)
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Rounds of throughput.", 1)
_PROCESSES = flags.DEFINE_integer("processes", 2, "Processes on either side.", 1)
_JSON = flags.DEFINE_string("json", "-", "File for the results as JSON; - prints them behind the table.")


@dataclasses.dataclass(frozen=True)
class Run:
    """What a program took.

    Args:
        pictures: How many it judged.
        seconds: From its start to its end.
        cpu: CPU seconds of all its processes.
        peak: Most bytes that all its processes held at once; pages that they share count for each.
    """

    pictures: int
    seconds: float
    cpu: float
    peak: int


def main(argv: list[str]) -> None:
    """Measures what was asked for."""
    known = {"throughput": _throughput, "memory": _memory, "cost": _cost}
    unknown = sorted(set(_ROWS.value) - set(known))
    if len(argv) > 1 or unknown or not _ROWS.value:
        raise app.UsageError(f"unknown: {argv[1:] or unknown or 'no --rows'}; --rows are {', '.join(known)}")
    with tempfile.TemporaryDirectory(prefix="serving_batch_") as scratch:
        bench = Bench(Path(scratch))
        results = [known[name](bench) for name in _ROWS.value]
    print(table.markdown(results))
    if _JSON.value == "-":
        print(table.as_json(results))
    else:
        Path(_JSON.value).write_text(table.as_json(results) + "\n", encoding="utf-8")


class Bench:
    """Runs jobs, and remembers those of `--counts`, which two rows share.

    Args:
        scratch: An empty folder.
    """

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._pictures = [path.absolute() for path in find_pictures([_PICTURES.value])]
        self._outputs = itertools.count()
        self._runs: list[Run] = []

    def links(self, count: int) -> Path:
        """A folder with links to so many pictures, a folder of links for each time that the pictures are repeated."""
        folder = self._scratch / f"pictures_{count}"
        for i in range(0 if folder.exists() else count):
            repeat, index = divmod(i, len(self._pictures))
            target = self._pictures[index]
            link = folder / f"{repeat:05d}" / f"{index:05d}{target.suffix}"
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(target)
        return folder

    def job(self, count: int) -> Run:
        """The batch job."""
        flags_ = ["--direct_running_mode=multi_processing", f"--direct_num_workers={_PROCESSES.value}"]
        output = self._scratch / f"output_{next(self._outputs)}"
        named = [f"--input={self.links(count)}/**", f"--model={_MODEL.value}", f"--output={output}"]
        run = measured(["-m", "serving.batch", *named, *flags_], count)
        logging.info("job: %s", run)
        return run

    def plain(self, count: int) -> Run:
        """The loop that it is compared with."""
        arguments = [str(self.links(count)), _MODEL.value, str(_PROCESSES.value)]
        run = measured(["-m", "serving.batch.plain_loop", *arguments], count)
        logging.info("plain loop: %s", run)
        return run

    def counted(self) -> list[Run]:
        """A job that is nearly all start-up, and those of `--counts`."""
        if not self._runs:
            self._runs = [self.job(count) for count in (_START, *sorted(map(int, _COUNTS.value)))]
        return self._runs


def measured(arguments: Sequence[str], count: int) -> Run:
    """Runs Python with these arguments to its end.

    Raises:
        RuntimeError: It failed; with its last words.
    """
    before, start = _cpu(), time.perf_counter()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen([sys.executable, *arguments], cwd=ROOT, stdout=said, stderr=said)
        peaks: list[int] = [0]
        threading.Thread(target=_sample, args=(process.pid, peaks), daemon=True).start()
        if process.wait():
            said.seek(0)
            raise RuntimeError(f"{arguments} ended with {process.returncode}: {said.read()[-2000:].decode()}")
    return Run(count, time.perf_counter() - start, _cpu() - before, max(peaks))


def _cpu() -> float:
    """CPU seconds of child processes that have ended, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _sample(pid: int, peaks: list[int]) -> None:
    try:
        process = psutil.Process(pid)
        while process.is_running():
            peaks.append(sum(_resident(one) for one in [process, *process.children(recursive=True)]))
            time.sleep(_SAMPLE_SECONDS)
    except psutil.NoSuchProcess:
        return


def _resident(process: psutil.Process) -> int:
    try:
        return process.memory_info().rss
    except psutil.NoSuchProcess:
        return 0


def _throughput(bench: Bench) -> Row:
    count = _THROUGHPUT_PICTURES.value
    start = bench.job(_START)
    pairs = [(bench.plain(count), bench.job(count)) for _ in range(_ROUNDS.value)]
    ratios = tuple(plain.seconds / job.seconds for plain, job in pairs)
    plain, job = (statistics.median(run.seconds for run in side) for side in zip(*pairs, strict=True))
    beyond = plain / (job - start.seconds)
    return Row(
        f"pictures per second against a plain loop in {_PROCESSES.value} processes, {count:,} pictures",
        f"at least {THROUGHPUT}",
        ratios,
        statistics.median(ratios) >= THROUGHPUT,
        "",
        f"{count / job:.0f} against {count / plain:.0f} pictures/s; {beyond:.2f} without the {start.seconds:.1f} s "
        f"that a job of {_START} pictures takes",
    )


def _memory(bench: Bench) -> Row:
    runs = bench.counted()[-2:]
    growth = runs[-1].peak / runs[0].peak - 1
    peaks = ", ".join(f"{run.peak / 1e6:,.0f} MB at {run.pictures:,}" for run in bench.counted())
    return Row(
        f"peak memory at {runs[-1].pictures:,} against {runs[0].pictures:,} pictures",
        f"within {MEMORY:.0%}",
        (growth * 100,),
        abs(growth) <= MEMORY,
        " %",
        f"{peaks}; resident, all processes",
    )


def _cost(bench: Bench) -> Row:
    start, *runs = bench.counted()
    costs = [(run.cpu - start.cpu) / (run.pictures - start.pictures) * 1000 for run in runs]
    spread = max(costs) / min(costs) - 1
    each = ", ".join(f"{cost:.2f} ms at {run.pictures:,}" for cost, run in zip(costs, runs, strict=True))
    return Row(
        "CPU per picture beyond start-up, dearest against cheapest",
        f"within {COST:.0%}",
        (spread * 100,),
        spread <= COST,
        " %",
        f"{each}; start-up {start.cpu:.1f} s",
    )


if __name__ == "__main__":
    app.run(main)
