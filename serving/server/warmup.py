"""Replays a version's warm-up records before it becomes available."""

import time
from pathlib import Path

import tensorflow as tf
from absl import logging
from tensorflow_serving.apis import prediction_log_pb2

from serving.server import examples, inference, lifecycle, metrics, servable, status

RECORDS = Path("assets.extra") / "tf_serving_warmup_requests"
MAX_RECORDS = 1000
_RUNNERS = {
    "predict_log": inference.predict_on,
    "classify_log": examples.classify_on,
    "regress_log": examples.regress_on,
    "multi_inference_log": examples.multi_inference_on,
}


def run(model: lifecycle.LoadedModel, path: Path, iterations: int = 1) -> None:
    """Runs a version's recorded requests.

    Args:
        model: The loaded version.
        path: Its directory; without records in it nothing is run.
        iterations: How often each record is run.

    Raises:
        ServingError: INVALID_ARGUMENT for too many or unreadable records; DATA_LOSS for a file that is no TFRecord.
        tf.errors.OpError: Of a record that fails. Each of them fails the version, as in TF Serving.
    """
    records = path / RECORDS
    if not records.exists():
        logging.vlog(1, "No warmup data file found at %s", records)
        return
    start, code = time.perf_counter(), "OK"
    try:
        count = _replay(model, records, max(1, iterations))
    except Exception as error:
        code = status.from_exception(error).code.name
        raise
    finally:
        metrics.warmup(str(path), code, time.perf_counter() - start)
    logging.info("Ran %d warmup records of %s in %.2f s", count, records, time.perf_counter() - start)


def _replay(model: lifecycle.LoadedModel, records: Path, iterations: int) -> int:
    count = 0
    try:
        # TFRecordDataset writes a note about its buffer to the log, whatever size it is given.
        for serialized in tf.compat.v1.io.tf_record_iterator(str(records)):
            count += 1
            if count > MAX_RECORDS:
                raise status.invalid_argument(
                    f"Number of warmup records exceeds the maximum ({MAX_RECORDS}) at {records}"
                )
            _replay_one(model, serialized, records, iterations)
    except tf.errors.DataLossError as error:
        raise status.ServingError(
            status.grpc.StatusCode.DATA_LOSS,
            f"{error.message}. Please verify your warmup data is in TFRecord format ({records}).",
        ) from error
    return count


def _replay_one(model: lifecycle.LoadedModel, serialized: bytes, records: Path, iterations: int) -> None:
    try:
        log = prediction_log_pb2.PredictionLog.FromString(serialized)
    except Exception as error:
        raise status.invalid_argument(f"Failed to parse warmup record: {serialized[:80]!r} from {records}") from error
    kind = log.WhichOneof("log_type")
    if kind not in _RUNNERS:
        raise status.ServingError(
            status.grpc.StatusCode.UNIMPLEMENTED, f"Unsupported log_type for warmup: {kind} in {records}"
        )
    for _ in range(iterations):
        _RUNNERS[kind](model, getattr(log, kind).request, servable.Call())
