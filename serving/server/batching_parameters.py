"""How to batch: TF Serving's BatchingParameters with its defaults and its checks."""

import dataclasses
from pathlib import Path

from google.protobuf import message

from serving.server import config, status, text_protos

PER_MODEL_FILE = "batching_params.pbtxt"


@dataclasses.dataclass(frozen=True)
class BatchingParameters:
    """Figures of the batch scheduler.

    Args:
        max_batch_size: Most rows in a batch.
        batch_timeout: Seconds that an open batch waits for more.
        max_enqueued_batches: Longest queue; a full one answers UNAVAILABLE.
        num_batch_threads: Batches that run at the same time, over all models.
        allowed_batch_sizes: Sizes that a batch is padded to, ascending; empty for any size.
        pad_variable_length_inputs: Pad inputs of different inner sizes with zeros instead of batching them apart.
        split_large_requests: Spread a request of more than max_batch_size rows over batches instead of refusing it.
    """

    max_batch_size: int = 1000
    batch_timeout: float = 0.0
    max_enqueued_batches: int = 10
    num_batch_threads: int = config.CPUS
    allowed_batch_sizes: tuple[int, ...] = ()
    pad_variable_length_inputs: bool = False
    split_large_requests: bool = False

    def padded(self, size: int) -> int:
        """Returns the smallest allowed batch size that holds `size` rows."""
        return next((allowed for allowed in self.allowed_batch_sizes if allowed >= size), size)


def from_options(options: config.Options) -> BatchingParameters | None:
    """Returns the parameters that the flags ask for, None without --enable_batching.

    Raises:
        ServingError: INVALID_ARGUMENT for the file without the flag, or figures that do not fit together.
    """
    path = options.batching_parameters_file
    if not options.enable_batching:
        if path:
            raise status.invalid_argument(
                "server_options.batching_parameters_file is set without setting server_options.enable_batching to "
                "true. Pass --enable_batching as well"
            )
        return None
    return read(path) if path else BatchingParameters()


def for_version(path: Path, common: BatchingParameters, per_model: bool) -> BatchingParameters | None:
    """Returns the parameters of one version.

    Args:
        path: The version's directory.
        common: The server's parameters; their number of threads holds for all models.
        per_model: Whether each version brings its own file (--enable_per_model_batching_parameters).

    Returns:
        The parameters, None where the version has no file of its own and so is not batched.
    """
    if not per_model:
        return common
    file = path / PER_MODEL_FILE
    if not file.exists():
        return None
    return dataclasses.replace(read(str(file)), num_batch_threads=common.num_batch_threads)


def read(path: str) -> BatchingParameters:
    """Reads and checks a text proto BatchingParameters."""
    proto = text_protos.read(path, text_protos.BatchingParameters)
    defaults = BatchingParameters()
    figures = {
        "max_batch_size": _value(proto, "max_batch_size", defaults.max_batch_size, 1, path),
        "batch_timeout": _value(proto, "batch_timeout_micros", 0, 0, path) / 1e6,
        "max_enqueued_batches": _value(proto, "max_enqueued_batches", defaults.max_enqueued_batches, 1, path),
        "num_batch_threads": _value(proto, "num_batch_threads", defaults.num_batch_threads, 1, path),
    }
    if proto.HasField("max_execution_batch_size"):
        # With large requests split, this is the size that runs, and max_batch_size the largest request.
        figures["max_batch_size"] = _value(proto, "max_execution_batch_size", 1, 1, path)
    sizes = tuple(proto.allowed_batch_sizes)
    if list(sizes) != sorted(set(sizes)) or (sizes and sizes[0] < 1):
        raise status.invalid_argument(
            f"{path}: allowed_batch_sizes entries must be monotonically increasing; got {list(sizes)}"
        )
    if sizes and sizes[-1] != figures["max_batch_size"]:
        raise status.invalid_argument(
            f"{path}: Last entry in allowed_batch_sizes must match max_batch_size; last entry was {sizes[-1]}; "
            f"expected {figures['max_batch_size']}"
        )
    return BatchingParameters(
        **figures,
        allowed_batch_sizes=sizes,
        pad_variable_length_inputs=proto.pad_variable_length_inputs,
        split_large_requests=proto.enable_large_batch_splitting.value,
    )


def _value(proto: message.Message, field: str, default: int, least: int, path: str) -> int:
    value = getattr(proto, field).value if proto.HasField(field) else default
    if value < least:
        raise status.invalid_argument(f"{path}: {field} is {value}; at least {least} is allowed")
    return value
