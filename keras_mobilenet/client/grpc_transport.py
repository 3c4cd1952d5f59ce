"""Calls over gRPC, blocking and asyncio."""

from pathlib import Path
from typing import Any

import grpc

from keras_mobilenet.client import grpc_codec
from keras_mobilenet.client.calls import Call
from keras_mobilenet.client.errors import ClientError
from keras_mobilenet.client.inputs import INT32_MAX
from keras_mobilenet.client.options import TLS, Connection, grpc_target, split_host

# Retries are the client's own: gRPC's stop at requests of more than 256 KiB, which two pictures are. A reconnection is
# tried early enough for them to find a server that came back. Each client has connections, and so pauses, of its own.
_OPTIONS = (
    ("grpc.max_send_message_length", INT32_MAX),
    ("grpc.max_receive_message_length", INT32_MAX),
    ("grpc.lb_policy_name", "round_robin"),
    ("grpc.enable_retries", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 5000),
)


class _Endpoint:
    """What both kinds of channel are opened with."""

    def __init__(self, to: Connection) -> None:
        self.name = to.target
        self.headers = tuple((name.lower(), value) for name, value in to.headers.items())
        self._addresses = to.addresses
        self._credentials = _credentials(to.tls) if to.tls else None
        self._options = list(_OPTIONS)
        if to.tls and (name := to.tls.server_name or _common_host(to.addresses)):
            self._options.append(("grpc.ssl_target_name_override", name))

    def open(self, module: Any) -> Any:
        """A channel of `grpc` or `grpc.aio`."""
        try:
            target = grpc_target(self._addresses)
        except OSError as problem:
            raise ClientError(
                grpc.StatusCode.UNAVAILABLE, f"a name cannot be looked up: {problem}", self.name
            ) from problem
        if self._credentials:
            return module.secure_channel(target, self._credentials, options=self._options)
        return module.insecure_channel(target, options=self._options)


def _credentials(tls: TLS) -> Any:
    ca, key, certificate = (
        None if path is None else Path(path).read_bytes() for path in (tls.ca, tls.key, tls.certificate)
    )
    return grpc.ssl_channel_credentials(ca, key, certificate)


def _common_host(addresses: tuple[str, ...]) -> str | None:
    """The name to expect in the certificate, which several addresses do not show to gRPC once they are looked up."""
    if len(addresses) == 1:
        return None
    hosts = {split_host(address)[0] for address in addresses}
    if len(hosts) > 1:
        raise ValueError(
            f"{', '.join(addresses)} are different hosts; give the name that all their certificates bear: "
            "TLS(server_name=...)."
        )
    return hosts.pop()


class GrpcTransport:
    """Blocking calls."""

    def __init__(self, to: Connection) -> None:
        self._endpoint = _Endpoint(to)
        self._channel = self._endpoint.open(grpc)
        self._stubs = grpc_codec.stubs(self._channel)

    def send(self, call: Call, timeout: float) -> Any:
        """Send a call and wait for its answer."""
        try:
            response = self._stubs[type(call)](
                grpc_codec.encode(call), timeout=timeout, metadata=self._endpoint.headers
            )
        except grpc.RpcError as problem:
            raise grpc_codec.error(problem, self._endpoint.name, timeout) from problem
        return grpc_codec.decode(call, response, self._endpoint.name)

    def close(self) -> None:
        """End the connections."""
        self._channel.close()


class AsyncGrpcTransport:
    """Asyncio calls; the channel is opened by the first one, in its event loop."""

    def __init__(self, to: Connection) -> None:
        self._endpoint = _Endpoint(to)
        self._channel: Any = None
        self._stubs: dict[type, Any] = {}

    async def send(self, call: Call, timeout: float) -> Any:
        """Send a call and wait for its answer."""
        if self._channel is None:
            self._channel = self._endpoint.open(grpc.aio)
            self._stubs = grpc_codec.stubs(self._channel)
        try:
            response = await self._stubs[type(call)](
                grpc_codec.encode(call), timeout=timeout, metadata=self._endpoint.headers
            )
        except grpc.RpcError as problem:
            raise grpc_codec.error(problem, self._endpoint.name, timeout) from problem
        return grpc_codec.decode(call, response, self._endpoint.name)

    async def close(self) -> None:
        """End the connections."""
        if self._channel is not None:
            await self._channel.close()
