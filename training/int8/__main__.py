"""What 8 bits cost and bring, as Markdown: `python -m training.int8`.

`accuracy` is that of MobileNetV1 0.25 on the 400 labelled pictures of `--data`: as float model, as TensorFlow's
converter quantizes it, and with each option of `km.quantize_post_training`; ranges and biases come from 256 photos of
COCO. `latency` puts MobileNetV2 1.0 beside Coral's file of it; run it on a machine that does nothing else. `zoo` is
what `km.edge_tpu.check` says of every published (alpha, size).
"""

import datetime
import shlex
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from absl import app, flags

from training import console, parity, results
from training.int8 import accuracy, latency, zoo

PARTS = ("accuracy", "latency", "zoo")
_PARTS = flags.DEFINE_multi_enum("parts", list(PARTS), PARTS, "What to print.")
_THREADS = flags.DEFINE_integer("threads", 2, "CPU threads of LiteRT.", lower_bound=1)
_ROUNDS = flags.DEFINE_integer("rounds", 15, "latency: turns that each file gets.", lower_bound=1)
_RUNS = flags.DEFINE_integer("runs", 40, "latency: pictures in a turn.", lower_bound=1)


def lines(parts: list[str], data: Path, scratch: Path) -> Iterator[str]:
    """The parts that were asked for, line by line."""
    if "accuracy" in parts:
        yield from accuracy.table(data, parity.read_pictures(data, flags.FLAGS.pictures), _THREADS.value)
    if "latency" in parts:
        yield from latency.table(data, scratch, rounds=_ROUNDS.value, runs=_RUNS.value, threads=_THREADS.value)
    if "zoo" in parts:
        yield from zoo.table()


def main(argv: list[str]) -> None:
    """Prints the tables."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    console.only_ours()
    command = shlex.join(["python", *sys.orig_argv[1:]])
    print(f"`{command}`, {datetime.date.today()}, {results.machine()}\n", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        for line in lines(_PARTS.value, Path(flags.FLAGS.data), Path(scratch)):
            print(line, flush=True)


if __name__ == "__main__":
    app.run(main)
