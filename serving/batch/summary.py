"""What a job did, from Beam's metrics."""

from typing import Any

from apache_beam.metrics import MetricsFilter
from apache_beam.runners.runner import PipelineResult

from serving.batch.handlers import NAMESPACE

_COUNTERS = {"num_inferences": "pictures", "bad_pictures": "bad"}
_DISTRIBUTIONS = {
    "inference_request_batch_size": "batch_size",
    "inference_batch_latency_micro_secs": "batch_microseconds",
    "decode_microseconds": "decode_microseconds",
}


def figures(result: PipelineResult) -> dict[str, Any]:
    """Reads the job's own counters and distributions, and RunInference's.

    Args:
        result: Of the finished pipeline.

    Returns:
        `pictures` and `bad`; and `batch_size`, `batch_microseconds` and `decode_microseconds` with `count`, `mean`,
        `min` and `max`, as far as the runner tells them.
    """
    found = result.metrics().query(MetricsFilter().with_namespace(NAMESPACE))
    said: dict[str, Any] = {"pictures": 0, "bad": 0}
    for counter in found["counters"]:
        if name := _COUNTERS.get(counter.key.metric.name):
            said[name] += counter.result
    for distribution in found["distributions"]:
        value = distribution.result
        if (name := _DISTRIBUTIONS.get(distribution.key.metric.name)) and value.count:
            said[name] = {"count": value.count, "mean": value.mean, "min": value.min, "max": value.max}
    return said


def lines(said: dict[str, Any], seconds: float) -> list[str]:
    """The figures for people.

    Args:
        said: As `figures` gives them.
        seconds: How long the job took, from the pipeline's start to its end.
    """
    done = said["pictures"]
    text = [f"{done:,} pictures with a row, {said['bad']:,} bad, {seconds:,.1f} s, {done / seconds:,.1f} pictures/s"]
    if batch := said.get("batch_size"):
        text.append(f"batches: {batch['count']:,} of {batch['mean']:.1f} pictures ({batch['min']} to {batch['max']})")
    for name, what in (("batch_microseconds", "model, a batch"), ("decode_microseconds", "decoding, a picture")):
        if took := said.get(name):
            mean, least, most = (took[key] / 1000 for key in ("mean", "min", "max"))
            text.append(f"{what}: {mean:.2f} ms ({least:.2f} to {most:.2f})")
    return text
