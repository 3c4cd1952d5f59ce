"""Prometheus metrics under TF Serving's names."""

import collections
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec

import prometheus_client
from prometheus_client import registry

PATH = "/monitoring/prometheus/metrics"
_MICROSECONDS = 1e6
_LATENCY_BUCKETS = tuple(10 * 1.8**power for power in range(33))
_QUEUE_BUCKETS = tuple(100 * 1.2**power for power in range(52))
_SIZE_BUCKETS = tuple(2.0**power for power in range(15))

_REGISTRY = registry.CollectorRegistry(auto_describe=False)
_requests = prometheus_client.Counter(
    ":tensorflow:serving:request_count", "Requests.", ("model_name", "status"), registry=_REGISTRY
)
_request_latency = prometheus_client.Histogram(
    ":tensorflow:serving:request_latency",
    "Time from the request to its answer, microseconds.",
    ("model_name", "API", "entrypoint"),
    registry=_REGISTRY,
    buckets=_LATENCY_BUCKETS,
)
_runtime_latency = prometheus_client.Histogram(
    ":tensorflow:serving:runtime_latency",
    "Time in the model's runtime, microseconds.",
    ("model_name", "API", "runtime"),
    registry=_REGISTRY,
    buckets=_LATENCY_BUCKETS,
)
_warmup_latency = prometheus_client.Histogram(
    ":tensorflow:serving:model_warmup_latency",
    "Time to warm a model up, microseconds.",
    ("model_path", "status"),
    registry=_REGISTRY,
    buckets=_LATENCY_BUCKETS,
)
_examples = prometheus_client.Histogram(
    ":tensorflow:serving:request_example_counts",
    "tf.Examples per request.",
    ("model",),
    registry=_REGISTRY,
    buckets=_SIZE_BUCKETS,
)
_example_total = prometheus_client.Counter(
    ":tensorflow:serving:request_example_count_total", "tf.Examples.", ("model",), registry=_REGISTRY
)
# prometheus_client drops this ending from a counter's name.
_COUNTER_NAMES = {":tensorflow:serving:request_example_count": ":tensorflow:serving:request_example_count_total"}
_batch_size = prometheus_client.Histogram(
    ":tensorflow:serving:batching_session:processed_batch_size",
    "Rows in a batch that ran, padding included.",
    ("model_name",),
    registry=_REGISTRY,
    buckets=_SIZE_BUCKETS,
)
_padding_size = prometheus_client.Histogram(
    ":tensorflow:serving:batching_session:padding_size",
    "Rows of padding in a batch.",
    ("model_name",),
    registry=_REGISTRY,
    buckets=(0.0, *_SIZE_BUCKETS),
)
_queuing_latency = prometheus_client.Histogram(
    ":tensorflow:serving:batching_session:queuing_latency",
    "Time a request waited for its batch, microseconds.",
    ("thread_pool_name",),
    registry=_REGISTRY,
    buckets=_QUEUE_BUCKETS,
)
# ModelServer gives its one pool of batch threads no name, whatever `thread_pool_name` of the batching parameters says.
_QUEUE = _queuing_latency.labels("")
_queue_depth = prometheus_client.Gauge(
    ":tensorflow:serving:batching_session:enqueued_batches",
    "Batches that wait for a thread.",
    ("model_name",),
    registry=_REGISTRY,
)

_Arguments = ParamSpec("_Arguments")
_MOST_WAITING = 128
_waiting: collections.deque[tuple[Callable[..., None], tuple, dict]] = collections.deque()
_catching_up = threading.Lock()


def _later(record: Callable[_Arguments, None]) -> Callable[_Arguments, None]:
    """Lets records wait for others, or for `page`: in a row they find code and counters in the processor's caches."""

    @functools.wraps(record)
    def wait(*arguments: _Arguments.args, **named: _Arguments.kwargs) -> None:
        _waiting.append((record, arguments, named))
        if len(_waiting) >= _MOST_WAITING:
            _catch_up()

    return wait


def _catch_up() -> None:
    with _catching_up:
        while _waiting:
            record, arguments, named = _waiting.popleft()
            record(*arguments, **named)


@_later
def request(model: str, api: str, entrypoint: str, code: str, seconds: float) -> None:
    """Records an answered request.

    Args:
        model: Its name, from the request.
        api: `Predict`, `Classify`, ...
        entrypoint: `GRPC` or `REST`.
        code: The name of its status code.
        seconds: How long it took.
    """
    _child(_requests, model, code).inc()
    _child(_request_latency, model, api, entrypoint).observe(seconds * _MICROSECONDS)


@_later
def runtime_latency(model: str, api: str, seconds: float) -> None:
    """Records a run of the model."""
    _child(_runtime_latency, model, api, "TF1").observe(seconds * _MICROSECONDS)


def warmup(path: str, code: str, seconds: float) -> None:
    """Records a warm-up."""
    _warmup_latency.labels(path, code).observe(seconds * _MICROSECONDS)


def examples(model: str, count: int) -> None:
    """Records the tf.Examples of a request."""
    _examples.labels(model).observe(count)
    _example_total.labels(model).inc(count)


@_later
def batch(model: str, size: int, padding: int) -> None:
    """Records a batch that ran: its rows with padding, and the padding."""
    _child(_batch_size, model).observe(size)
    _child(_padding_size, model).observe(padding)


@_later
def queued(seconds: float) -> None:
    """Records how long a request waited for its batch."""
    _QUEUE.observe(seconds * _MICROSECONDS)


@_later
def queue_depth(model: str, batches: int) -> None:
    """Records the length of a model's queue."""
    _child(_queue_depth, model).set(batches)


@functools.cache
def _child(metric: prometheus_client.metrics.MetricWrapperBase, *labels: str) -> Any:
    """Looks a metric's child up once; `labels` checks and converts each label at every call."""
    return metric.labels(*labels)


def page() -> str:
    """Writes the metrics in Prometheus's text format.

    prometheus_client's own writer appends `_total` to every counter; TF Serving's names have no such ending.
    """
    _catch_up()
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    for family in _REGISTRY.collect():
        if not family.samples:
            continue
        counter = _COUNTER_NAMES.get(family.name, family.name)
        yield f"# HELP {counter} {family.documentation}"
        yield f"# TYPE {counter} {family.type}"
        for sample in family.samples:
            if sample.name.endswith("_created"):
                continue
            name = counter if family.type == "counter" else sample.name
            labels = ",".join(f'{key}="{_escape(key, value)}"' for key, value in sample.labels.items())
            yield f"{name}{{{labels}}} {sample.value:.15g}"


def _escape(key: str, value: str) -> str:
    if key == "le" and value != "+Inf":
        return f"{float(value):g}"
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
