"""The REST face: predict, classify, regress, status and metadata as JSON, and Prometheus metrics."""

import asyncio
import concurrent.futures
import dataclasses
import json
import re
import threading
import time
import urllib.parse

from absl import logging
from aiohttp import web
from google.protobuf import json_format
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
)

from serving.server import (
    config,
    demo_page,
    engine,
    inference,
    json_examples,
    json_tensors,
    metrics,
    observing,
    servable,
    status,
)

_MODEL = r"/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?"
_PREDICTION_PATH = re.compile(rf"(?i){_MODEL}:(classify|regress|predict)")
_MODEL_PATH = re.compile(rf"(?i)/v1/models(?:{_MODEL.removeprefix('/v1/models')})?(?:/(metadata))?")
_CORS_HEADERS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST, GET",
    "Access-Control-Allow-Headers": "Content-Type",
}
_API_NAMES = {"predict": "Predict", "classify": "Classify", "regress": "Regress"}


@dataclasses.dataclass
class Answer:
    """An answer under way: what the log and the metrics want to know of it."""

    api: str = ""
    spec: model_pb2.ModelSpec = dataclasses.field(default_factory=model_pb2.ModelSpec)


class RestApi:
    """Answers requests; knows nothing of sockets.

    Args:
        models: The engine.
        observer: Records each answer.
        timeout: Seconds that a request may take; 0 or less is no limit.
    """

    def __init__(self, models: engine.Engine, observer: observing.Observer, timeout: float) -> None:
        self._models = models
        self._observer = observer
        self._timeout = timeout

    def answer(self, method: str, path: str, body: bytes, peer: str = "") -> tuple[int, str]:
        """Answers one request.

        Args:
            method: `GET` or `POST`.
            path: As sent, still percent-encoded.
            body: Decompressed.
            peer: The client's address, for the log.

        Returns:
            HTTP status and JSON.
        """
        start = time.perf_counter()
        call = servable.Call(time.monotonic() + self._timeout if self._timeout > 0 else None)
        answer, failure = Answer(), None
        try:
            text = self._dispatch(method, path, body, call, answer)
        except Exception as error:
            failure = status.from_exception(error)
            text = json.dumps({"error": failure.message})
        if answer.api:
            elapsed = time.perf_counter() - start
            self._observer.record(answer.api, "REST", answer.spec, failure, elapsed, lambda: peer)
        return status.http_status(failure.code) if failure else 200, text

    def _dispatch(self, method: str, path: str, body: bytes, call: servable.Call, answer: Answer) -> str:
        match = None
        if method == "POST":
            match = _PREDICTION_PATH.fullmatch(path)
        elif method == "GET":
            match = _MODEL_PATH.fullmatch(path)
        if match is None:
            raise status.invalid_argument(f"Malformed request: {method} {path}")
        name, version, label, verb = match.groups()
        _fill_spec(answer.spec, name, version, label)
        if method == "POST":
            answer.api = _API_NAMES[verb.lower()]
            return self._infer(answer, body, call)
        if not name:
            raise status.invalid_argument("Missing model name in request.")
        answer.api = "GetModelMetadata" if verb else "GetModelStatus"
        return self._metadata(answer.spec) if verb else self._status(answer.spec)

    def _infer(self, answer: Answer, body: bytes, call: servable.Call) -> str:
        document = json_tensors.parse(body)
        answer.spec.signature_name = json_tensors.signature_name(document)
        if answer.api == "Classify":
            return json_examples.classify(self._models, answer.spec, document, call)
        if answer.api == "Regress":
            return json_examples.regress(self._models, answer.spec, document, call)
        form = json_tensors.request_format(document)
        outputs, signature = inference.predict_arrays(
            self._models,
            answer.spec,
            lambda signature: json_tensors.read_inputs(document, form, signature),
            call,
        )
        return json_tensors.write_outputs(outputs, form, signature)

    def _status(self, spec: model_pb2.ModelSpec) -> str:
        response = inference.get_model_status(self._models, get_model_status_pb2.GetModelStatusRequest(model_spec=spec))
        return _to_json(response)

    def _metadata(self, spec: model_pb2.ModelSpec) -> str:
        request = get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=spec, metadata_field=[inference.SIGNATURE_DEF]
        )
        response = inference.get_model_metadata(self._models, request)
        definitions = get_model_metadata_pb2.SignatureDefMap()
        response.metadata[inference.SIGNATURE_DEF].Unpack(definitions)
        return (
            f'{{\n"model_spec":{_to_json(response.model_spec)},\n'
            f'"metadata": {{"signature_def": {_to_json(definitions)}}}\n}}\n'
        )


class RestFace:
    """An HTTP server in a thread of its own; the work is done in a pool.

    Args:
        api: Answers the requests.
        options: Ports, threads, limits.
        metrics_path: Where Prometheus reads, '' for nowhere.
        page: Answers `/`, None for no page.
    """

    def __init__(
        self,
        api: RestApi,
        options: config.Options,
        metrics_path: str = "",
        page: demo_page.DemoPage | None = None,
    ) -> None:
        self._api = api
        self._options = options
        self._metrics_path = metrics_path
        self._page = page
        self._pool = concurrent.futures.ThreadPoolExecutor(max(1, options.rest_api_num_threads), "rest")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="rest", daemon=True)
        application = web.Application(client_max_size=options.rest_api_max_body_bytes)
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=options.drain_seconds)
        self.port = 0

    def start(self) -> None:
        """Starts to answer.

        Raises:
            OSError: Where the port is taken.
        """
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()
        logging.info("Exporting HTTP/REST API at:localhost:%d ...", self.port)

    def stop(self) -> None:
        """Refuses new connections, waits for the requests under way, and drops them after `drain_seconds`."""
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _listen(self) -> None:
        await self._runner.setup()
        port = max(0, self._options.rest_api_port)
        site = web.TCPSite(self._runner, "0.0.0.0", port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def _handle(self, request: web.Request) -> web.Response:
        path = request.rel_url.raw_path
        if self._metrics_path and path == self._metrics_path and request.method == "GET":
            return web.Response(text=metrics.page(), content_type="text/plain")
        if self._page and (part := self._page.answer(request.method, path)):
            return part
        if not path.lower().startswith("/v1/"):
            return _error(404, f"Not Found: {request.method} {path}; the API is under /v1/models")
        headers = _CORS_HEADERS if self._options.rest_api_enable_cors_support else None
        if headers and request.method == "OPTIONS":
            return web.Response(headers=headers)
        body, refusal = await self._read(request)
        if refusal:
            return refusal
        start = time.perf_counter()
        code, text = await self._loop.run_in_executor(
            self._pool, self._api.answer, request.method, path, body, request.remote or ""
        )
        if self._page:  # It shows how long the server took, which the API does not tell.
            headers = {**(headers or {}), "Server-Timing": f"total;dur={1000 * (time.perf_counter() - start):.1f}"}
        return web.Response(status=code, body=text.encode(), content_type="application/json", headers=headers)

    async def _read(self, request: web.Request) -> tuple[bytes, web.Response | None]:
        timeout = self._options.rest_api_timeout_in_ms / 1000
        try:
            return await asyncio.wait_for(request.read(), timeout if timeout > 0 else None), None
        except web.HTTPRequestEntityTooLarge:
            limit = self._options.rest_api_max_body_bytes
            return b"", _error(413, f"The request body has more than {limit} bytes; see --rest_api_max_body_bytes")
        except TimeoutError:
            return b"", _error(408, f"The request body did not arrive within {timeout:g} s")
        except Exception as error:
            return b"", _error(400, f"Malformed request body: {error}")


def _error(code: int, text: str) -> web.Response:
    return web.json_response({"error": text}, status=code)


def _fill_spec(spec: model_pb2.ModelSpec, name: str | None, version: str | None, label: str | None) -> None:
    spec.name = urllib.parse.unquote(name or "")
    if version:
        if int(version) > 2**63 - 1:
            raise status.invalid_argument(f"Failed to convert version: {version} to numeric.")
        spec.version.value = int(version)
    if label:
        spec.version_label = urllib.parse.unquote(label)


def _to_json(response: object) -> str:
    return json_format.MessageToJson(
        response, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
