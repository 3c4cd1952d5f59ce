"""Errors of the server: one exception with a gRPC code, and the rules that turn any failure into it."""

import grpc
import tensorflow as tf
from absl import logging

MAX_MESSAGE_LENGTH = 1024
_TRUNCATED = "...TRUNCATED"
_CODES = {code.value[0]: code for code in grpc.StatusCode}
_HTTP_STATUS = {
    grpc.StatusCode.OK: 200,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}


class ServingError(Exception):
    """A failure with the code and the message that the client gets.

    Args:
        code: The gRPC status code.
        message: What went wrong, in the user's terms.
    """

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"{self.code.name}: {self.message}"


def invalid_argument(message: str) -> ServingError:
    """Returns an INVALID_ARGUMENT error."""
    return ServingError(grpc.StatusCode.INVALID_ARGUMENT, message)


def not_found(message: str) -> ServingError:
    """Returns a NOT_FOUND error."""
    return ServingError(grpc.StatusCode.NOT_FOUND, message)


def failed_precondition(message: str) -> ServingError:
    """Returns a FAILED_PRECONDITION error."""
    return ServingError(grpc.StatusCode.FAILED_PRECONDITION, message)


def unavailable(message: str) -> ServingError:
    """Returns an UNAVAILABLE error."""
    return ServingError(grpc.StatusCode.UNAVAILABLE, message)


def deadline_exceeded(message: str = "Deadline Exceeded") -> ServingError:
    """Returns a DEADLINE_EXCEEDED error."""
    return ServingError(grpc.StatusCode.DEADLINE_EXCEEDED, message)


def from_exception(error: BaseException) -> ServingError:
    """Maps any exception to a ServingError: TensorFlow's keep their code, the unforeseen become INTERNAL.

    Args:
        error: What was raised. An unforeseen one is logged with its traceback.

    Returns:
        The error to answer with.
    """
    if isinstance(error, ServingError):
        return error
    if isinstance(error, tf.errors.OpError):
        return ServingError(_CODES.get(error.error_code, grpc.StatusCode.UNKNOWN), error.message)
    if isinstance(error, MemoryError):
        return ServingError(grpc.StatusCode.RESOURCE_EXHAUSTED, f"Out of memory: {error}")
    logging.error("Unforeseen error", exc_info=(type(error), error, error.__traceback__))
    return ServingError(grpc.StatusCode.INTERNAL, f"{type(error).__name__}: {error}")


def code_of(error: BaseException) -> grpc.StatusCode:
    """Returns the code that `from_exception` would give, without logging."""
    if isinstance(error, ServingError):
        return error.code
    if isinstance(error, tf.errors.OpError):
        return _CODES.get(error.error_code, grpc.StatusCode.UNKNOWN)
    return grpc.StatusCode.INTERNAL


def truncate(message: str) -> str:
    """Cuts a message as TF Serving does: 1024 characters (in UTF-8), then a mark."""
    encoded = message.encode("utf-8", "replace")
    text = encoded[:MAX_MESSAGE_LENGTH].decode("utf-8", "ignore")
    return text if len(encoded) <= MAX_MESSAGE_LENGTH else text + _TRUNCATED


def http_status(code: grpc.StatusCode) -> int:
    """Returns the HTTP status for a gRPC code; 500 where there is no closer one."""
    return _HTTP_STATUS.get(code, 500)
