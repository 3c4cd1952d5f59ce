"""The process of the clients: each sends one prepared request again and again, as it is answered or at random times.

One process holds them all, and grpc.aio runs them on one thread: where server and clients share the cores, a process
for each client would throw the server's data out of their caches. Neither TensorFlow nor message classes take part
where answers are not checked.
"""

import asyncio
import json
import random
import selectors
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import grpc

from serving.benchmark import orders, scheduling
from serving.benchmark.answers import Expected

PREDICT = "/tensorflow.serving.PredictionService/Predict"
_TIMEOUT = 60.0
_SHOWN_ERRORS = 5
_SLICE_SECONDS = 1e-4


class Clients:
    """Clients with a connection each.

    Args:
        address: Host and port.
        request: The serialized request.
        check: Says whether a serialized answer is right.
        count: Their number.
        seed: Of the random times.
        method: Full name of the RPC.
    """

    def __init__(
        self,
        address: str,
        request: bytes,
        check: Callable[[bytes], bool],
        count: int = 1,
        seed: int = 0,
        method: str = PREDICT,
    ) -> None:
        # epoll, the default, would round times up to milliseconds.
        self._runner = asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector()))
        self._channels = self._runner.run(_connect(address, count))
        self._predict = [channel.unary_unary(method) for channel in self._channels]
        self._request = request
        self._check = check
        self._random = random.Random(seed)

    def closed_loop(self, seconds: float) -> dict[str, Any]:
        """Each sends its next request when the last one has been answered; ends with an answer."""
        tally = _Tally(self._check)

        async def repeat(predict: Callable[..., Awaitable[bytes]], end: float) -> None:
            while (sent := time.perf_counter()) < end:
                await self._ask(predict, sent, tally)

        async def repeat_all() -> None:
            end = time.perf_counter() + seconds
            await asyncio.gather(*[repeat(predict, end) for predict in self._predict])

        self._runner.run(repeat_all())
        return tally.report()

    def open_loop(self, seconds: float, rate: float) -> dict[str, Any]:
        """One of them sends, at the times of a Poisson process, however long answers take.

        Args:
            seconds: How long to send.
            rate: Requests a second of all together. Latency counts from the times that they were due.
        """
        tally = _Tally(self._check)

        async def send_all() -> None:
            requests = []
            due = start = time.perf_counter()
            while (due := due + self._random.expovariate(rate)) < start + seconds:
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                asked = self._ask(self._random.choice(self._predict), due, tally)
                requests.append(asyncio.ensure_future(asked))
            await asyncio.gather(*requests)

        self._runner.run(send_all())
        return tally.report()

    async def _ask(self, predict: Callable[..., Awaitable[bytes]], due: float, tally: "_Tally") -> None:
        try:
            answer = await predict(self._request, timeout=_TIMEOUT)
        except grpc.RpcError as error:
            tally.failed(error)
        else:
            tally.answered(time.perf_counter() - due, answer)


async def _connect(address: str, count: int) -> Sequence[grpc.aio.Channel]:
    options = [
        ("grpc.use_local_subchannel_pool", 1),  # A connection each: else channels of a process share one.
        ("grpc.enable_retries", 0),  # They would hide failures.
    ]
    channels = [grpc.aio.insecure_channel(address, options=options) for _ in range(count)]
    async with asyncio.timeout(_TIMEOUT):
        await asyncio.gather(*[channel.channel_ready() for channel in channels])
    return channels


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
    if settings.pop("punctual"):
        scheduling.interrupt(_SLICE_SECONDS)
    else:
        scheduling.wait()
    answers = orders.answering()
    expected = settings.pop("expected")
    check = Expected.load(Path(expected)).matches if expected else lambda answer: True
    clients = Clients(request=Path(settings.pop("request")).read_bytes(), check=check, **settings)
    loops = {"closed": clients.closed_loop, "open": clients.open_loop}
    orders.carry_out(answers, lambda order: loops[order.pop("loop")](**order))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
