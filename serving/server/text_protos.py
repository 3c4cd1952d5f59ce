"""Text protos of TF Serving's configuration files, also those whose messages the tensorflow-serving-api wheel lacks."""

from pathlib import Path
from typing import TypeVar

from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    message,
    message_factory,
    text_format,
    wrappers_pb2,
)

from serving.server import status

_Message = TypeVar("_Message", bound=message.Message)
_Field = descriptor_pb2.FieldDescriptorProto
_PACKAGE = "tensorflow.serving"
_INT64_VALUE = ".google.protobuf.Int64Value"

# (number, name, type) of each field, from TF Serving's session_bundle_config.proto, monitoring_config.proto and
# ssl_config.proto; a type in quotes is a message. `allowed_batch_sizes` is the one repeated field.
_MESSAGES = {
    "BatchingParameters": (
        (1, "max_batch_size", _INT64_VALUE),
        (2, "batch_timeout_micros", _INT64_VALUE),
        (3, "max_enqueued_batches", _INT64_VALUE),
        (4, "num_batch_threads", _INT64_VALUE),
        (5, "thread_pool_name", ".google.protobuf.StringValue"),
        (6, "allowed_batch_sizes", _Field.TYPE_INT64),
        (7, "pad_variable_length_inputs", _Field.TYPE_BOOL),
        (8, "enable_large_batch_splitting", ".google.protobuf.BoolValue"),
        (9, "max_execution_batch_size", _INT64_VALUE),
    ),
    "PrometheusConfig": ((1, "enable", _Field.TYPE_BOOL), (2, "path", _Field.TYPE_STRING)),
    "MonitoringConfig": ((1, "prometheus_config", f".{_PACKAGE}.PrometheusConfig"),),
    "SSLConfig": (
        (1, "server_key", _Field.TYPE_STRING),
        (2, "server_cert", _Field.TYPE_STRING),
        (3, "custom_ca", _Field.TYPE_STRING),
        (4, "client_verify", _Field.TYPE_BOOL),
    ),
}
_REPEATED = frozenset({"allowed_batch_sizes"})


def _build() -> dict[str, type[message.Message]]:
    # A pool of its own: a wheel that brings these messages one day must not clash with ours.
    pool = descriptor_pool.DescriptorPool()
    wrappers = descriptor_pb2.FileDescriptorProto()
    wrappers_pb2.DESCRIPTOR.CopyToProto(wrappers)
    pool.Add(wrappers)
    file = descriptor_pb2.FileDescriptorProto(
        name="serving/server/text_protos.proto", package=_PACKAGE, syntax="proto3", dependency=[wrappers.name]
    )
    for name, fields in _MESSAGES.items():
        descriptor = file.message_type.add(name=name)
        for number, field_name, kind in fields:
            label = _Field.LABEL_REPEATED if field_name in _REPEATED else _Field.LABEL_OPTIONAL
            field = descriptor.field.add(name=field_name, number=number, label=label)
            if isinstance(kind, str):
                field.type, field.type_name = _Field.TYPE_MESSAGE, kind
            else:
                field.type = kind
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in _MESSAGES
    }


_CLASSES = _build()
BatchingParameters = _CLASSES["BatchingParameters"]
MonitoringConfig = _CLASSES["MonitoringConfig"]
SSLConfig = _CLASSES["SSLConfig"]


def read(path: str, kind: type[_Message]) -> _Message:
    """Reads a text proto.

    Args:
        path: The file.
        kind: Its message class.

    Returns:
        The message.

    Raises:
        ServingError: NOT_FOUND where there is no such file, INVALID_ARGUMENT with line and column where it does not
            parse.
    """
    try:
        text = Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise status.not_found(f"Cannot read {path}: {error}") from error
    try:
        return text_format.Parse(text, kind())
    except text_format.ParseError as error:
        raise status.invalid_argument(f"Invalid protobuf file: '{path}' is not a {kind.__name__}: {error}") from error
