"""The asyncio client."""

import asyncio
from collections.abc import Mapping, Sequence
from os import PathLike
from types import TracebackType
from typing import Any, Self

from keras_mobilenet.client import pictures
from keras_mobilenet.client.errors import ClientError
from keras_mobilenet.client.grpc_transport import AsyncGrpcTransport
from keras_mobilenet.client.model_info import Classification, ModelMetadata, Outputs, VersionStatus
from keras_mobilenet.client.options import TLS, Retry, connection
from keras_mobilenet.client.rest_transport import AsyncRestTransport
from keras_mobilenet.client.session import Flow, Result, Send, Session


class AsyncClient:
    """`Client` for asyncio: the same arguments, methods, results and errors, with `await`.

    It belongs to the event loop that it is first used in. A cancelled task cancels its request on the server.

    Args:
        target: see `Client`.
        model_name: see `Client`.
        timeout: see `Client`.
        rest: see `Client`.
        tls: see `Client`.
        retry: see `Client`.
        headers: see `Client`.

    Raises:
        ValueError: an argument cannot be used.
        ImportError: REST without httpx.

    Example:
        >>> async def classify():
        ...     async with AsyncClient("localhost:8500", model_name="mobilenet") as client:
        ...         return await client.classify("cat.jpg")
    """

    def __init__(
        self,
        target: str | Sequence[str],
        *,
        model_name: str = "default",
        timeout: float = 30.0,
        rest: bool = False,
        tls: TLS | bool | None = None,
        retry: Retry | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        to = connection(target, rest, tls, headers)
        self._session = Session(to, model_name, timeout, retry or Retry())
        self._transport: Any = (AsyncRestTransport if to.rest else AsyncGrpcTransport)(to)

    async def predict(
        self,
        inputs: Any,
        *,
        signature_name: str | None = None,
        outputs: Sequence[str] = (),
        model_name: str | None = None,
        version: int | None = None,
        version_label: str | None = None,
        timeout: float | None = None,
    ) -> Outputs:
        """Run a signature of the model; see `Client.predict`."""
        model = self._session.model(model_name, version, version_label)
        data = await self._read(inputs)
        return await self._run(self._session.predict(model, data, signature_name, outputs, timeout))

    async def classify(
        self,
        examples: Any,
        *,
        signature_name: str | None = None,
        model_name: str | None = None,
        version: int | None = None,
        version_label: str | None = None,
        timeout: float | None = None,
    ) -> list[list[Classification]]:
        """Run a classification signature of the model; see `Client.classify`."""
        model = self._session.model(model_name, version, version_label)
        data = await self._read(examples)
        return await self._run(self._session.classify(model, data, signature_name, timeout))

    async def metadata(
        self,
        *,
        model_name: str | None = None,
        version: int | None = None,
        version_label: str | None = None,
        timeout: float | None = None,
    ) -> ModelMetadata:
        """Ask for the model's signatures; see `Client.metadata`."""
        model = self._session.model(model_name, version, version_label)
        return await self._run(self._session.metadata(model, timeout))

    async def status(
        self,
        *,
        model_name: str | None = None,
        version: int | None = None,
        version_label: str | None = None,
        timeout: float | None = None,
    ) -> list[VersionStatus]:
        """Ask for the state of the model's versions; see `Client.status`."""
        model = self._session.model(model_name, version, version_label)
        return await self._run(self._session.status(model, timeout))

    async def reload(
        self, models: Mapping[str, str | PathLike[str]] | str | PathLike[str], *, timeout: float | None = None
    ) -> None:
        """Replace the server's whole configuration of models; see `Client.reload`."""
        await self._run(self._session.reload(models, timeout))

    async def close(self) -> None:
        """End the connections; the client cannot be used any more."""
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def _read(self, data: Any) -> Any:
        """Read pictures without holding up the event loop; leave all else as it is."""
        return await asyncio.to_thread(self._session.read, data) if pictures.are_pictures(data) else data

    async def _run(self, flow: Flow[Result]) -> Result:
        """Carry out a request step by step."""
        try:
            step = next(flow)
            while True:
                try:
                    answer = await self._carry_out(step)
                except ClientError as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(answer)
        except StopIteration as done:
            return done.value

    async def _carry_out(self, step: Any) -> Any:
        if isinstance(step, Send):
            return await self._transport.send(step.call, step.timeout)
        return await asyncio.sleep(step.seconds)
