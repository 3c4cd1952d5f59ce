"""The figures: CPU per picture with either backend, throughput against a plain servicer, and latency at half load.

What is compared takes turns, round by round, so that a change on the machine meets both sides.
"""

import dataclasses
import os
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import numpy as np

from serving.benchmark import load, orders, processes
from serving.benchmark.client import PREDICT
from serving.benchmark.load import Load
from serving.benchmark.models import Models
from serving.benchmark.table import Row

LITE_CPU, SAVED_MODEL_CPU, PLAIN_THROUGHPUT, PYTRITON_THROUGHPUT, HALF_LOAD = 1.20, 1.15, 1.5, 1.0, 3.0  # The targets.
_INFER = "/inference.GRPCInferenceService/ModelInfer"  # Triton's method.
_BATCHING = """
max_batch_size {{ value: {batch} }}
batch_timeout_micros {{ value: 0 }}
max_enqueued_batches {{ value: 100 }}
num_batch_threads {{ value: {threads} }}
"""
_WARM_UP_SECONDS = 2.0
_LATENCY_ROUND = 3  # Rounds of latency are longer by this: a 99th percentile takes many requests.


@dataclasses.dataclass(frozen=True)
class Plan:
    """How much to measure.

    Args:
        models: What is served.
        clients: Connections, each with one request at a time but at half load.
        rounds: Rounds of each figure.
        seconds: Length of a round of either side.
        threads: Interpreters or batches that run at once, on both sides.
        pytriton: An interpreter whose environment has nvidia-pytriton and tensorflow.
    """

    models: Models
    clients: int
    rounds: int
    seconds: float
    threads: int
    pytriton: str = ""

    def batch(self, at_once: int) -> int:
        """Most pictures in a batch, where so many batches run at once: half of what the clients have under way.

        The other half is on its way meanwhile. Larger batches would wait for it, and more of their activations would
        leave the cache.
        """
        return max(1, self.clients // (2 * at_once))

    @property
    def lite_flags(self) -> list[str]:
        """The flags of a server that runs model.tflite.

        A gRPC thread for each interpreter: requests wait for a thread, not threads for an interpreter, which takes a
        further wake-up for each. Pinned where there are cores enough: none waits for the core of another.
        """
        pools = [f"--num_tflite_pools={self.threads}", f"--grpc_max_threads={self.threads}"]
        # `models` puts the file beside a version that was exported without: its warm-up records know nothing of it.
        pinned = ["--pin_grpc_threads"] if self.threads <= len(os.sched_getaffinity(0)) else []
        return ["--prefer_tflite_model", *pools, *pinned, "--noenable_model_warmup"]

    @property
    def a_core_a_batch(self) -> list[str]:
        """The flags of a server whose batches run side by side, each on a core of its own, and not one over all."""
        return ["--tensorflow_intra_op_parallelism=1", f"--tensorflow_inter_op_parallelism={self.threads}"]


def lite_cpu(plan: Plan) -> Row:
    """CPU of a served picture against one in process, int8 on LiteRT; with a plain servicer's, to compare."""
    with (
        _embedded(plan, plan.lite_flags) as loaded,
        _plain(plan, "litert") as plain,
        _in_process(plan, "litert", plan.threads) as alone,
    ):
        ours, plains = _take_turns(plan, (loaded, plain), alone, batch=1)
    how = f"a plain grpcio servicer {statistics.median(served / inside for served, inside in plains):.2f} times"
    return _cpu_row("int8 LiteRT", LITE_CPU, ours, how)


def saved_model_cpu(plan: Plan) -> Row:
    """CPU of a served picture against one in process, float SavedModel and batching.

    One batch runs at a time, over all cores, as is TensorFlow's default. The other side runs batches of the size that
    the server's have under this load, so that what a batch spares is no merit of the server.
    """
    with (
        batching_flags(plan, 1) as flags,
        processes.EmbeddedServer(plan.models.served, flags) as server,
        _asked(plan, server) as loaded,
        _in_process(plan, "saved_model", 1) as alone,
    ):
        batch = round(server.mean_batch())
        (pairs,) = _take_turns(plan, (loaded,), alone, batch)
    how = f"batches of {batch}, one at a time over all cores, on both sides"
    return _cpu_row("float SavedModel with batching", SAVED_MODEL_CPU, pairs, how)


def throughput(plan: Plan) -> Row:
    """Pictures per second against a servicer without batching, on the same SavedModel."""
    return _throughput_row(plan, _plain(plan, "saved_model"), "a plain grpcio servicer", PLAIN_THROUGHPUT)


def throughput_bfloat16(plan: Plan) -> Row:
    """The same, where our server computes in bfloat16 and the plain servicer in float32."""
    flags = ["--mixed_precision=bfloat16"]
    return _throughput_row(
        plan, _plain(plan, "saved_model"), "a plain grpcio servicer in float32", PLAIN_THROUGHPUT, flags
    )


def pytriton(plan: Plan) -> Row:
    """Pictures per second against Triton with dynamic batching, on the same SavedModel."""
    return _throughput_row(plan, _pytriton(plan), "nvidia-pytriton", PYTRITON_THROUGHPUT)


def _throughput_row(
    plan: Plan, peer: AbstractContextManager[Load], name: str, target: float, further_flags: Sequence[str] = ()
) -> Row:
    our_flags = [*plan.a_core_a_batch, *further_flags]
    with batching_flags(plan, plan.threads) as flags, _embedded(plan, [*flags, *our_flags]) as embedded, peer as other:
        pairs = []
        for _ in range(plan.rounds):
            pairs.append([loaded.closed_loop(plan.seconds).require_success() for loaded in (embedded, other)])
    ratios = tuple(ours.throughput / theirs.throughput for ours, theirs in pairs)
    ours, theirs = (statistics.median(pair[side].throughput for pair in pairs) for side in (0, 1))
    return Row(
        f"throughput against {name}, float SavedModel with batching",
        f"at least {target:.1f} times",
        ratios,
        statistics.median(ratios) >= target,
        " times",
        f"{ours:.0f} against {theirs:.0f} pictures/s; {' '.join(our_flags)} on our side",
    )


def half_load(plan: Plan) -> Row:
    """The 99th percentile of latency against the median, where requests come at half of what the server can do.

    What it can do is measured before each round: at a rate that was half of it minutes ago, a machine with neighbours
    has more than half a load. The clients are the same for both, as they share the machine.
    """
    most, percentiles = [], []
    with _embedded(plan, plan.lite_flags, punctual=True) as loaded:
        for _ in range(plan.rounds):
            most.append(loaded.closed_loop(plan.seconds).require_success().throughput)
            latencies = loaded.open_loop(_LATENCY_ROUND * plan.seconds, most[-1] / 2).require_success().latencies
            percentiles.append(np.percentile(latencies, (50, 99)))
    ratios = tuple(float(p99 / p50) for p50, p99 in percentiles)
    p50, p99 = np.median(percentiles, 0) * 1000
    can = statistics.median(most)
    return Row(
        "p99 against p50 at 50 % load, int8 LiteRT",
        f"at most {HALF_LOAD:.0f} times",
        ratios,
        statistics.median(ratios) <= HALF_LOAD,
        " times",
        f"{p99:.1f} against {p50:.1f} ms at {can / 2:.0f} of {can:.0f} pictures/s, arrivals of a Poisson process",
    )


def _take_turns(
    plan: Plan, servers: Sequence[Load], alone: orders.Child, batch: int
) -> list[tuple[tuple[float, float], ...]]:
    """CPU seconds of a picture, served and in process: for each server, for each round."""
    rounds = []
    for _ in range(plan.rounds):
        served = [loaded.closed_loop(plan.seconds).require_success().cpu_per_picture for loaded in servers]
        before = processes.cpu_seconds(alone.pid)
        pictures = alone.ask(batch=batch, seconds=plan.seconds)["pictures"]
        inside = (processes.cpu_seconds(alone.pid) - before) / pictures
        rounds.append([(seconds, inside) for seconds in served])
    return list(zip(*rounds, strict=True))


def _cpu_row(what: str, target: float, pairs: Sequence[tuple[float, float]], how: str) -> Row:
    ratios = tuple(served / alone for served, alone in pairs)
    served, alone = (statistics.median(side) * 1000 for side in zip(*pairs, strict=True))
    return Row(
        f"server CPU per picture over gRPC against in-process, {what}",
        f"at most {target:.2f} times",
        ratios,
        statistics.median(ratios) <= target,
        " times",
        f"{served:.2f} against {alone:.2f} ms; {how}",
    )


@contextmanager
def batching_flags(plan: Plan, at_once: int) -> Iterator[list[str]]:
    """The flags of a server that runs the requests of these clients in batches, so many at once."""
    with tempfile.NamedTemporaryFile("w", suffix=".config") as file:
        file.write(_BATCHING.format(batch=plan.batch(at_once), threads=at_once))
        file.flush()
        yield ["--enable_batching", f"--batching_parameters_file={file.name}"]


@contextmanager
def _embedded(plan: Plan, flags: Sequence[str], punctual: bool = False) -> Iterator[Load]:
    with processes.EmbeddedServer(plan.models.served, flags) as server, _asked(plan, server, punctual) as loaded:
        yield loaded


def _asked(plan: Plan, server: processes.EmbeddedServer, punctual: bool = False) -> AbstractContextManager[Load]:
    request = load.request_for(server.address, plan.models.picture)
    return _warm_load(plan, server.address, server.pid, request, punctual=punctual)


@contextmanager
def _plain(plan: Plan, runtime: str) -> Iterator[Load]:
    settings = {
        "runtime": runtime,
        "version": str(plan.models.served / "1"),
        "threads": 4 * plan.threads,
        "interpreters": plan.threads,
    }
    with orders.Child("serving.benchmark.plain_servicer", **settings) as plain:
        request = load.predict_request(plan.models.picture, plain.facts["input_name"])
        with _warm_load(plan, f"127.0.0.1:{plain.facts['port']}", plain.pid, request) as loaded:
            yield loaded


@contextmanager
def _pytriton(plan: Plan) -> Iterator[Load]:
    settings = {
        "version": str(plan.models.served / "1"),
        "picture": str(plan.models.picture),
        "threads": plan.threads,
        "batch": plan.batch(1),  # It answers more with these than with batches as small as ours.
        "ports": processes.free_ports(3),
    }
    with orders.Child("serving.benchmark.pytriton_servicer", python=plan.pytriton, **settings) as peer:
        request = bytes.fromhex(peer.facts["request"])
        with _warm_load(plan, f"127.0.0.1:{settings['ports'][1]}", peer.pid, request, _INFER) as loaded:
            yield loaded


@contextmanager
def _warm_load(
    plan: Plan, address: str, pid: int, request: bytes, method: str = PREDICT, punctual: bool = False
) -> Iterator[Load]:
    with load.on(address, pid, request, plan.clients, method=method, punctual=punctual) as loaded:
        loaded.closed_loop(_WARM_UP_SECONDS).require_success()
        yield loaded


def _in_process(plan: Plan, runtime: str, threads: int) -> orders.Child:
    return orders.Child(
        "serving.benchmark.in_process",
        runtime=runtime,
        version=str(plan.models.served / "1"),
        picture=str(plan.models.picture),
        threads=threads,
    )
