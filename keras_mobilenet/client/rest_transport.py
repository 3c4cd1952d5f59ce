"""Calls over REST, blocking and asyncio, through httpx."""

import itertools
import ssl
from collections.abc import Iterator
from typing import Any

import grpc

from keras_mobilenet.client import rest_codec
from keras_mobilenet.client.calls import Call
from keras_mobilenet.client.errors import ClientError
from keras_mobilenet.client.options import TLS, Connection


def _httpx() -> Any:
    try:
        import httpx
    except ImportError:
        raise ImportError("REST needs the httpx package: pip install 'keras-mobilenet[serving]'") from None
    return httpx


class _Endpoint:
    """What both kinds of HTTP client are opened with."""

    def __init__(self, to: Connection) -> None:
        self.httpx = _httpx()
        scheme = "https" if to.tls else "http"
        self._urls = [address if "://" in address else f"{scheme}://{address}" for address in to.addresses]
        for url in self._urls:
            if not url.startswith(("http://", "https://")):
                raise ValueError(f"{url!r} is no REST address; give HOST:PORT, http://... or https://...")
        self.name = to.target
        self.options = {"headers": dict(to.headers), "verify": _ssl_context(to.tls) if to.tls else True}
        self._extensions = {"sni_hostname": to.tls.server_name} if to.tls and to.tls.server_name else {}
        self._turn = itertools.count()

    def in_turn(self) -> Iterator[str]:
        """The addresses, starting with the next one in the round."""
        first = next(self._turn) % len(self._urls)
        yield from self._urls[first:] + self._urls[:first]

    def request(self, url: str, call: Call, timeout: float) -> dict[str, Any]:
        """The arguments of `httpx.Client.request`."""
        method, path, body = rest_codec.encode(call, self.name)
        return {
            "method": method,
            "url": f"{url.rstrip('/')}{path}",
            "content": body,
            "headers": {"content-type": "application/json"} if body else {},
            "timeout": timeout,
            "extensions": self._extensions,
        }

    def error(self, problem: Exception, timeout: float) -> ClientError:
        """A failure of httpx in the client's terms."""
        httpx = self.httpx
        if isinstance(problem, httpx.TimeoutException):
            what = "connection" if isinstance(problem, httpx.ConnectTimeout) else "answer"
            text = f"no {what} within {timeout:.3g} s; raise timeout= if the server needs longer."
            return ClientError(grpc.StatusCode.DEADLINE_EXCEEDED, text, self.name)
        reason = str(problem) or type(problem).__name__
        text = f"no REST server answers there; is it running, and is this its REST port? {reason}"
        return ClientError(grpc.StatusCode.UNAVAILABLE, text, self.name)


def _ssl_context(tls: TLS) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=tls.ca)
    if tls.certificate:
        context.load_cert_chain(tls.certificate, tls.key)
    return context


class RestTransport:
    """Blocking calls."""

    def __init__(self, to: Connection) -> None:
        self._endpoint = _Endpoint(to)
        self._client = self._endpoint.httpx.Client(**self._endpoint.options)

    def send(self, call: Call, timeout: float) -> Any:
        """Send a call to the next address, or past those that cannot be reached, and wait for its answer."""
        problem: Any = None
        for url in self._endpoint.in_turn():
            try:
                response = self._client.request(**self._endpoint.request(url, call, timeout))
                return rest_codec.decode(call, response.status_code, response.content, self._endpoint.name)
            except self._endpoint.httpx.ConnectError as caught:
                problem = caught
            except self._endpoint.httpx.HTTPError as caught:
                raise self._endpoint.error(caught, timeout) from caught
        raise self._endpoint.error(problem, timeout) from problem

    def close(self) -> None:
        """End the connections."""
        self._client.close()


class AsyncRestTransport:
    """Asyncio calls; the connections belong to the event loop of the first one."""

    def __init__(self, to: Connection) -> None:
        self._endpoint = _Endpoint(to)
        self._client = self._endpoint.httpx.AsyncClient(**self._endpoint.options)

    async def send(self, call: Call, timeout: float) -> Any:
        """Send a call to the next address, or past those that cannot be reached, and wait for its answer."""
        problem: Any = None
        for url in self._endpoint.in_turn():
            try:
                response = await self._client.request(**self._endpoint.request(url, call, timeout))
                return rest_codec.decode(call, response.status_code, response.content, self._endpoint.name)
            except self._endpoint.httpx.ConnectError as caught:
                problem = caught
            except self._endpoint.httpx.HTTPError as caught:
                raise self._endpoint.error(caught, timeout) from caught
        raise self._endpoint.error(problem, timeout) from problem

    async def close(self) -> None:
        """End the connections."""
        await self._client.aclose()
