"""What goes wrong between a client and its server."""

import grpc


class ClientError(Exception):
    """A request that was not answered.

    Attributes:
        code: gRPC's status code, also for REST.
        message: what went wrong.
        target: the address or addresses of the server.
    """

    def __init__(self, code: grpc.StatusCode, message: str, target: str) -> None:
        super().__init__(code, message, target)
        self.code = code
        self.message = message
        self.target = target

    def __str__(self) -> str:
        return f"{self.code.name} ({self.target}): {self.message}"


class InputError(ClientError, ValueError):
    """An input that does not fit the model's signature, found before anything was sent."""
