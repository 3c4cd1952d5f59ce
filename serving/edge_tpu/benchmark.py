"""Measures a model: median and 99th percentile of setting inputs, computing and getting outputs."""

import dataclasses
import datetime
import os
import platform
import shlex
import sys
import time
from typing import Any

import numpy as np

from keras_mobilenet.runtime import Predictor
from serving.edge_tpu.pipeline import Pipeline

PARTS = ("set", "invoke", "get", "total")


@dataclasses.dataclass(frozen=True)
class Figures:
    """Milliseconds by part: median and 99th percentile; with the circumstances they stand for."""

    median: dict[str, float]
    p99: dict[str, float]
    runs: int
    pictures_per_second: float
    circumstances: dict[str, Any]

    def table(self) -> str:
        """For people."""
        rows = [f"  {part:<7} {self.median[part]:9.3f} {self.p99[part]:9.3f}" for part in self.median]
        facts = ", ".join(f"{key} {value}" for key, value in self.circumstances.items())
        head = f"  {'ms':<7} {'median':>9} {'p99':>9}"
        return "\n".join([head, *rows, f"  {self.pictures_per_second:.1f} pictures/s over {self.runs} runs; {facts}"])


def measure(predictor: Predictor, image: np.ndarray, runs: int, warm_up: int) -> Figures:
    """Runs one input again and again."""
    for _ in range(warm_up):
        predictor.predict(image)
    times = []
    start = time.perf_counter()
    for _ in range(runs):
        _, timing = predictor.predict_timed(image)
        times.append((timing.set, timing.invoke, timing.get, timing.total))
    return _figures(np.array(times), time.perf_counter() - start, predictor.device)


def measure_pipeline(pipeline: Pipeline, image: np.ndarray, runs: int, warm_up: int) -> Figures:
    """Runs one input again and again through all segments at once; the total is the time between two answers."""
    for _ in pipeline.map([image] * warm_up):
        pass
    start = last = time.perf_counter()
    gaps = []
    for _ in pipeline.map([image] * runs):
        now = time.perf_counter()
        gaps.append(now - last)
        last = now
    devices = "+".join(segment.device for segment in pipeline.segments)
    return _figures(np.array(gaps)[:, None], last - start, devices)


def _figures(seconds: np.ndarray, elapsed: float, device: str) -> Figures:
    parts = PARTS if seconds.shape[1] > 1 else PARTS[-1:]
    median, p99 = np.median(seconds, 0) * 1000, np.percentile(seconds, 99, 0) * 1000
    return Figures(
        dict(zip(parts, median.tolist(), strict=True)),
        dict(zip(parts, p99.tolist(), strict=True)),
        len(seconds),
        len(seconds) / elapsed,
        {
            "device": device,
            "machine": f"{platform.machine()} with {os.cpu_count()} CPUs",
            "date": datetime.date.today().isoformat(),
            "command": "python -m serving.edge_tpu.run " + shlex.join(sys.argv[1:]),
        },
    )
