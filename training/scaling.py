"""How training grows with its processes: `python -m training.scaling`, for docs/scale.md.

Steps of 64 pictures a process (imagenette96's network) are timed for one process and for several that train as one
(--strategy=multi_worker of training.train), each held to a core of its own. What more machines would bring is then
computed: the step of one process, and the bytes of a ring all-reduce over a network. The machine should have nothing
else to do.
"""

import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags, logging

import keras_mobilenet as km
from training import cluster, losses, optimizers, tasks
from training.benchmark import contestant
from training.benchmark.ours import LEARNING_RATE, STEPS_PER_EPOCH, recipe
from training.loop import Trainer
from training.spread import quartiles

PICTURES = 64  # of a step and process
_WARM_UP = 5
_MODELLED = (2, 8, 32, 128)
_NETWORKS = {"MobileNetV2 0.35, 10 classes": (0.35, 96, 10), "MobileNetV2 1.0, 1,000 classes": (1.0, 224, 1000)}

_PROCESSES = flags.DEFINE_integer("processes", min(2, os.cpu_count() or 1), "Processes that train as one.", 2)
_STEPS = flags.DEFINE_integer("steps", 50, "Timed steps of a round.", 2)
_ROUNDS = flags.DEFINE_integer("rounds", 3, "Rounds, one process and several in turn.", 1)
_GIGABITS = flags.DEFINE_float("gigabits", 10.0, "Bits that each machine sends in a second, in thousands of millions.")
_TIMED = flags.DEFINE_bool("timed", False, "Be one of the processes; the program starts itself so.")


class Steps(NamedTuple):
    """What steps of a process took.

    Args:
        seconds: The median step.
        cpu: CPU seconds a step, which others on the machine do not change much.
    """

    seconds: float
    cpu: float


def all_reduce_bytes(processes: int, parameters: int) -> float:
    """Bytes that each process sends for a step, by a ring all-reduce of float32 gradients.

    Args:
        processes: That train as one, at least 1.
        parameters: Trainable ones.

    Example:
        >>> all_reduce_bytes(2, 1_000_000)
        4000000.0

    Source: Patarasuk and Yuan, Bandwidth optimal all-reduce algorithms for clusters of workstations, 2009, section 3.
    """
    return 2 * (processes - 1) / processes * 4 * parameters


def efficiency(seconds: float, processes: int, parameters: int, bytes_per_second: float) -> float:
    """Share of a process's speed that is left where gradients are sent after they are computed, one after the other.

    Args:
        seconds: A step of one process.
        processes: That train as one.
        parameters: Trainable ones.
        bytes_per_second: That each can send.
    """
    return seconds / (seconds + all_reduce_bytes(processes, parameters) / bytes_per_second)


def main(argv: list[str]) -> None:
    """Measures, and prints two tables."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown argument: {argv[1]}")
    if _TIMED.value:
        print(json.dumps(_timed_steps(_STEPS.value)))
        return
    rounds: dict[int, list[Steps]] = {1: [], _PROCESSES.value: []}
    for _ in range(_ROUNDS.value):
        for processes, found in rounds.items():
            found.append(_round(processes))
            logging.info("processes: %d, %s", processes, found[-1])
    alone = statistics.median(one.seconds for one in rounds[1])
    print("\n".join([*_measured(rounds), "", *_modelled(alone)]))


def _measured(rounds: dict[int, list[Steps]]) -> list[str]:
    head = "| processes, a core each | ms a step, quartiles | CPU ms a step and process | pictures/s | of single ones |"
    lines, alone = [head, "|---|---|---|---|---|"], 0.0
    for processes, found in rounds.items():
        times = [one.seconds * 1000 for one in found]
        step, cpu = statistics.median(times), statistics.median(one.cpu * 1000 for one in found)
        low, high = quartiles(times)
        speed = processes * PICTURES / step * 1000
        alone = alone or speed
        share = f"{speed / alone / processes:.0%}"
        lines.append(f"| {processes} | {step:.0f} ({low:.0f} to {high:.0f}) | {cpu:.0f} | {speed:.0f} | {share} |")
    return lines


def _modelled(seconds: float) -> list[str]:
    speed = _GIGABITS.value * 1e9 / 8
    lines = [
        f"| network | trainable parameters | {' | '.join(f'MB a step, n = {n}' for n in _MODELLED)} |",
        "|---" * (2 + len(_MODELLED)) + "|",
    ]
    counted = {name: _trainable(*sizes) for name, sizes in _NETWORKS.items()}
    for name, parameters in counted.items():
        sent = " | ".join(f"{all_reduce_bytes(n, parameters) / 1e6:.1f}" for n in _MODELLED)
        lines.append(f"| {name} | {parameters:,} | {sent} |")
    left = ", ".join(f"{efficiency(seconds, n, next(iter(counted.values())), speed):.1%} at n = {n}" for n in _MODELLED)
    return [*lines, "", f"At {_GIGABITS.value:g} Gbit/s the first keeps {left} of its speed."]


def _trainable(alpha: float, size: int, classes: int) -> int:
    model = km.MobileNetV2((size, size, 3), alpha, classes=classes)
    return sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)


def _round(processes: int) -> Steps:
    """The steps of some processes that train as one; the slowest counts."""
    with_ports = [socket.socket() for _ in range(processes)]
    for one in with_ports:
        one.bind(("localhost", 0))
    workers = [f"localhost:{one.getsockname()[1]}" for one in with_ports]
    for one in with_ports:
        one.close()
    started = [_start(workers, index) for index in range(processes)]
    answers = [process.communicate() for process in started]
    for process, (_, said) in zip(started, answers, strict=True):
        if process.returncode:
            raise RuntimeError(f"a process ended with {process.returncode}: {said[-3000:]}")
    return max(Steps(*json.loads(answer.splitlines()[-1])) for answer, _ in answers)


def _start(workers: Sequence[str], index: int) -> subprocess.Popen[str]:
    environment = dict(os.environ)
    if len(workers) > 1:
        environment["TF_CONFIG"] = json.dumps(
            {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
        )
    core = index % (os.cpu_count() or 1)
    command = [sys.executable, "-m", "training.scaling", "--timed", f"--steps={_STEPS.value}"]
    return subprocess.Popen(
        command,
        cwd=contestant.ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),  # before TensorFlow counts cores
    )


def _timed_steps(count: int) -> Steps:
    """Steps of this process, alone or with the others of `TF_CONFIG`."""
    joined = cluster.join("multi_worker" if "TF_CONFIG" in os.environ else "one")
    keras.utils.set_random_seed(0)
    chosen = recipe()
    task = tasks.get(chosen.task)
    with joined.strategy.scope():
        model = task.build(chosen, [str(number) for number in range(contestant.CLASSES)])
        optimizer = optimizers.build(
            chosen, model, learning_rate=LEARNING_RATE, steps=4 * STEPS_PER_EPOCH, steps_per_epoch=STEPS_PER_EPOCH
        )
    trainer = Trainer(model, optimizer, losses.cross_entropy(contestant.CLASSES), joined.strategy, task.counts)

    def batches(**place: int) -> tf.data.Dataset:
        del place
        return contestant.pictures(PICTURES)

    data = iter(joined.distribute(batches, PICTURES * joined.workers))
    for _ in range(_WARM_UP):
        trainer.step(*next(data)).numpy()
    ends, cpu = [time.perf_counter()], time.process_time()
    for _ in range(count):
        trainer.step(*next(data)).numpy()
        ends.append(time.perf_counter())
    return Steps(statistics.median(contestant.differences(ends)), (time.process_time() - cpu) / count)


if __name__ == "__main__":
    app.run(main)
