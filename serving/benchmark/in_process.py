"""The inference that the server does, without a server: threads that run a model over and over."""

import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from keras_mobilenet import quiet
from serving.benchmark import orders
from serving.benchmark.models import LITE_FILE


def main(settings: dict[str, Any]) -> None:
    """Loads the model, and does the benchmark's orders."""
    answers = orders.answering()
    version, picture = Path(settings["version"]), np.load(settings["picture"])
    with quiet.start_up():
        run = {"litert": _litert, "saved_model": _saved_model}[settings["runtime"]](version, settings["threads"])

    def measure(order: dict[str, Any]) -> dict[str, Any]:
        batch = np.repeat(picture, order["batch"], 0)
        return {"pictures": order["batch"] * _count([lambda one=one: one(batch) for one in run], order["seconds"])}

    measure({"batch": 1, "seconds": 1.0})
    orders.carry_out(answers, measure)


def _litert(version: Path, threads: int) -> list[Callable[[np.ndarray], object]]:
    """An interpreter for each thread, with the settings of the server's pool."""
    from keras_mobilenet.runtime import litert

    backend = litert.LiteRTBackend(version / LITE_FILE)
    (name,) = backend.inputs

    def runner() -> Callable[[np.ndarray], object]:
        session = backend.session()

        def run(batch: np.ndarray) -> object:
            session.set({name: batch})
            session.invoke()
            return session.get()

        return run

    return [runner() for _ in range(threads)]


def _saved_model(version: Path, threads: int) -> list[Callable[[np.ndarray], object]]:
    """One session for all threads, called the cheapest way that Python has, which is the server's as well."""
    from serving.server import saved_model, servable

    loaded = saved_model.SavedModelBackend().load(version)
    signature = loaded.signatures[servable.DEFAULT_SIGNATURE]
    (name,) = signature.inputs
    outputs = sorted(signature.outputs)

    def run(batch: np.ndarray) -> object:
        return loaded.run(servable.DEFAULT_SIGNATURE, {name: batch}, outputs, servable.Call())

    return [run] * threads


def _count(runs: list[Callable[[], object]], seconds: float) -> int:
    """Runs each on a thread of its own, and counts."""
    end = time.perf_counter() + seconds
    counts = [0] * len(runs)

    def repeat(index: int, run: Callable[[], object]) -> None:
        while time.perf_counter() < end:
            run()
            counts[index] += 1

    threads = [threading.Thread(target=repeat, args=numbered) for numbered in enumerate(runs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
