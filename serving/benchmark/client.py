"""A client process: sends one prepared request again and again, as fast as it is answered or at random times.

Neither TensorFlow nor message classes take part where answers are not checked, so that many clients fit on a machine.
"""

import json
import random
import sys
import time
from collections.abc import Callable
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc

from serving.benchmark import orders, time_slice
from serving.benchmark.answers import Expected

PREDICT = "/tensorflow.serving.PredictionService/Predict"
_TIMEOUT = 60.0
_SHOWN_ERRORS = 5
_SLICE_SECONDS = 1e-4


class Client:
    """One connection.

    Args:
        address: Host and port.
        request: The serialized request.
        check: Says whether a serialized answer is right.
        seed: Of the random times.
        method: Full name of the RPC.
    """

    def __init__(
        self, address: str, request: bytes, check: Callable[[bytes], bool], seed: int, method: str = PREDICT
    ) -> None:
        # Without an option of its own a process shares one connection among its channels.
        self._channel = grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])
        grpc.channel_ready_future(self._channel).result(_TIMEOUT)
        self._predict = self._channel.unary_unary(method)
        self._request = request
        self._check = check
        self._random = random.Random(seed)

    def closed_loop(self, seconds: float) -> dict[str, Any]:
        """Sends the next request when the last one has been answered; ends with an answer."""
        tally = _Tally(self._check)
        end = time.perf_counter() + seconds
        while (sent := time.perf_counter()) < end:
            try:
                answer = self._predict(self._request, timeout=_TIMEOUT)
            except grpc.RpcError as error:
                tally.failed(error)
            else:
                tally.answered(time.perf_counter() - sent, answer)
        return tally.report()

    def open_loop(self, seconds: float, rate: float) -> dict[str, Any]:
        """Sends at the times of a Poisson process, however long answers take; latency counts from those times."""
        tally = _Tally(self._check)
        calls: list[futures.Future[None]] = []
        due = start = time.perf_counter()
        while (due := due + self._random.expovariate(rate)) < start + seconds:
            time.sleep(max(0.0, due - time.perf_counter()))
            calls.append(self._send(due, tally))
        futures.wait(calls)
        return tally.report()

    def _send(self, due: float, tally: "_Tally") -> futures.Future[None]:
        done: futures.Future[None] = futures.Future()

        def note(call: Any) -> None:
            seconds = time.perf_counter() - due
            if call.exception():
                tally.failed(call.exception())
            else:
                tally.answered(seconds, call.result())
            done.set_result(None)

        self._predict.future(self._request, timeout=_TIMEOUT).add_done_callback(note)
        return done


class _Tally:
    def __init__(self, check: Callable[[bytes], bool]) -> None:
        self._check = check
        self._latencies: list[float] = []
        self._errors: list[str] = []
        self._wrong = 0

    def answered(self, seconds: float, answer: bytes) -> None:
        self._latencies.append(seconds)
        self._wrong += not self._check(answer)

    def failed(self, error: grpc.RpcError) -> None:
        self._errors.append(f"{error.code().name}: {error.details()}")

    def report(self) -> dict[str, Any]:
        return {
            "latencies": self._latencies,
            "failed": len(self._errors),
            "errors": self._errors[:_SHOWN_ERRORS],
            "wrong": self._wrong,
        }


def main(settings: dict[str, Any]) -> None:
    """Connects, and does the benchmark's orders."""
    time_slice.shorten(_SLICE_SECONDS)
    answers = orders.answering()
    check = Expected.load(Path(settings["expected"])).matches if settings["expected"] else lambda answer: True
    client = Client(
        settings["address"], Path(settings["request"]).read_bytes(), check, settings["seed"], settings["method"]
    )
    loops = {"closed": client.closed_loop, "open": client.open_loop}
    orders.carry_out(answers, lambda order: loops[order.pop("loop")](**order))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
