"""The course of each request, without input or output of its own.

A request is a generator: it yields what is to be done next, `Send` or `Pause`, and is resumed with the answer or with
the error thrown into it. So one text serves the blocking and the asyncio client, which differ in how they carry these
two out.
"""

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import grpc

from keras_mobilenet.client import calls, inputs, pictures
from keras_mobilenet.client.errors import ClientError, InputError
from keras_mobilenet.client.model_info import (
    Classification,
    ModelMetadata,
    Outputs,
    Signature,
    VersionStatus,
)
from keras_mobilenet.client.options import Connection, Retry
from keras_mobilenet.wire import POOL, message_class

DEFAULT_SIGNATURE = "serving_default"
# The signatures of km.export_saved_model that take encoded pictures, and the feature that its examples hold them in.
ENCODED_IMAGE = "encoded_image"
CLASSIFY = "classify"
IMAGE_FEATURE = "image/encoded"

_CLASSIFY_METHOD = "tensorflow/serving/classify"

# What the server may answer to a request that fitted an older version of the model.
_OUTDATED = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.NOT_FOUND,
)

Result = TypeVar("Result")


@dataclass(frozen=True)
class Send:
    """Send a call, and take no longer for it than `timeout` seconds."""

    call: calls.Call
    timeout: float


@dataclass(frozen=True)
class Pause:
    """Wait."""

    seconds: float


Flow = Generator[Send | Pause, Any, Result]


class Session:
    """One client's settings, what it learned of the models, and the course of its requests."""

    def __init__(self, to: Connection, model_name: str, timeout: float, retry: Retry) -> None:
        self.target = to.target
        self._model_name = model_name
        self._timeout = timeout
        self._retry = retry
        self._several = len(to.addresses) > 1
        self._metadata: dict[calls.Model, ModelMetadata] = {}

    def model(self, name: str | None, version: int | None, label: str | None) -> calls.Model:
        """The model that a request names."""
        if version is not None and label is not None:
            raise self._refusal(f"both version={version} and version_label={label!r} were given; give one")
        return calls.Model(name or self._model_name, version, label)

    def predict(
        self, model: calls.Model, data: Any, signature_name: str | None, outputs: Sequence[str], timeout: float | None
    ) -> Flow[Outputs]:
        """Run a signature."""
        name = signature_name or (ENCODED_IMAGE if isinstance(data, pictures.Pictures) else DEFAULT_SIGNATURE)

        def build(metadata: ModelMetadata) -> calls.Call:
            signature = self._signature(metadata, name, data)
            unknown = sorted(set(outputs) - set(signature.outputs))
            if unknown:
                raise self._refusal(f"signature {name!r} has no output {unknown}; it has {sorted(signature.outputs)}")
            return calls.Predict(model, name, signature, self._bind(data, name, metadata), tuple(outputs))

        return (yield from self._with_metadata(model, build, timeout))

    def classify(
        self, model: calls.Model, data: Any, signature_name: str | None, timeout: float | None
    ) -> Flow[list[list[Classification]]]:
        """Run a classification signature."""
        examples = self._examples(data)

        def build(metadata: ModelMetadata) -> calls.Call:
            return calls.Classify(model, signature_name or self._classify_signature(metadata), examples)

        return (yield from self._with_metadata(model, build, timeout))

    def metadata(self, model: calls.Model, timeout: float | None) -> Flow[ModelMetadata]:
        """Ask for the signatures anew."""
        return (yield from self._fetch(model, self._deadline(timeout)))

    def status(self, model: calls.Model, timeout: float | None) -> Flow[list[VersionStatus]]:
        """Ask for the state of the versions."""
        return (yield from self._send(calls.GetStatus(model), self._deadline(timeout)))

    def reload(self, models: Any, timeout: float | None) -> Flow[None]:
        """Replace the server's configuration."""
        if self._several:
            raise self._refusal("a reload goes to one server; make a client for each address")
        yield from self._send(calls.Reload(self._config(models)), self._deadline(timeout))
        self._metadata.clear()

    def _with_metadata(
        self, model: calls.Model, build: Callable[[ModelMetadata], calls.Call], timeout: float | None
    ) -> Flow[Any]:
        """Build a call from the model's signatures and send it.

        Known signatures are used first. When a call cannot be built from them, or the server refuses it, they are asked
        for anew, and where they changed (a new version is served) the call is built once more.
        """
        deadline = self._deadline(timeout)
        known = self._metadata.get(model)
        if known is None:
            known = yield from self._fetch(model, deadline)
            return (yield from self._send(build(known), deadline))
        try:
            return (yield from self._send(build(known), deadline))
        except ClientError as error:
            if error.code not in _OUTDATED:
                raise
            newer = yield from self._fetch(model, deadline)
            if newer.signatures == known.signatures:
                raise
        return (yield from self._send(build(newer), deadline))

    def _fetch(self, model: calls.Model, deadline: float) -> Flow[ModelMetadata]:
        self._metadata.pop(model, None)
        metadata = yield from self._send(calls.GetMetadata(model), deadline)
        self._metadata[model] = metadata
        return metadata

    def _deadline(self, timeout: float | None) -> float:
        seconds = self._timeout if timeout is None else timeout
        if not seconds > 0:
            raise self._refusal(f"timeout={seconds} must be above 0 seconds")
        return time.monotonic() + seconds

    def _send(self, call: calls.Call, deadline: float) -> Flow[Any]:
        """Send until answered, out of attempts, or out of time."""
        pauses = self._retry.pauses()
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise ClientError(
                    grpc.StatusCode.DEADLINE_EXCEEDED, "no time was left to send the request", self.target
                )
            try:
                return (yield Send(call, left))
            except ClientError as error:
                pause = next(pauses, None)
                if (
                    error.code is not grpc.StatusCode.UNAVAILABLE
                    or pause is None
                    or time.monotonic() + pause >= deadline
                ):
                    raise
            yield Pause(pause)

    def _signature(self, metadata: ModelMetadata, name: str, data: Any) -> Signature:
        if name in metadata.signatures:
            return metadata.signatures[name]
        text = f"model {metadata.name!r} has no signature {name!r}; it has {sorted(metadata.signatures)}"
        if isinstance(data, pictures.Pictures):
            text += ". Paths and bytes go to that one; name another with signature_name=, or send arrays"
        raise self._refusal(text)

    def _bind(self, data: Any, name: str, metadata: ModelMetadata) -> dict[str, Any]:
        signature = metadata.signatures[name]
        try:
            return inputs.bind(list(data) if isinstance(data, pictures.Pictures) else data, signature)
        except ValueError as error:
            text = f"signature {name!r} of model {metadata.name!r}, version {metadata.version}: {error}"
            if ENCODED_IMAGE in metadata.signatures and not isinstance(data, pictures.Pictures):
                text += f"\n{inputs.expected(signature)} Pictures can also be sent undecoded, as paths or bytes."
            raise self._refusal(text) from error

    def _classify_signature(self, metadata: ModelMetadata) -> str:
        fitting = [name for name, entry in metadata.signatures.items() if entry.method_name == _CLASSIFY_METHOD]
        for name in (DEFAULT_SIGNATURE, CLASSIFY):
            if name in fitting:
                return name
        if len(fitting) == 1:
            return fitting[0]
        if not fitting and CLASSIFY in metadata.signatures:
            return CLASSIFY
        raise self._refusal(
            f"model {metadata.name!r} has {len(fitting) or 'no'} signatures for Classify; it has "
            f"{sorted(metadata.signatures)}: name one with signature_name=, or use predict"
        )

    def _examples(self, data: Any) -> list[dict[str, list[Any]]]:
        if isinstance(data, pictures.Pictures):
            return [{IMAGE_FEATURE: [picture]} for picture in data]
        several = [data] if isinstance(data, Mapping) else data
        if not isinstance(several, list | tuple) or not several or not all(isinstance(one, Mapping) for one in several):
            raise self._refusal("classify takes pictures (paths or bytes), or dicts of features: {'age': 31.0}")
        return [{str(name): self._feature(name, value) for name, value in one.items()} for one in several]

    def _feature(self, name: Any, value: Any) -> list[Any]:
        values = value.ravel().tolist() if hasattr(value, "ravel") else value
        values = list(values) if isinstance(values, list | tuple) else [values]
        coded = [one.encode() if isinstance(one, str) else one for one in values]
        if all(isinstance(one, bytes) for one in coded) or all(isinstance(one, int | float) for one in coded):
            return coded
        raise self._refusal(f"feature {name!r} takes numbers, or str and bytes, not {value!r}")

    def _config(self, models: Any) -> Any:
        kind = message_class("tensorflow.serving.ModelServerConfig")
        if isinstance(models, Mapping):
            config = kind()
            for name, base_path in models.items():
                config.model_config_list.config.add(name=name, base_path=str(base_path), model_platform="tensorflow")
            return config
        from google.protobuf import text_format

        try:
            return text_format.Parse(Path(models).read_text(), kind(), descriptor_pool=POOL)
        except (OSError, text_format.ParseError) as error:
            raise self._refusal(f"the model configuration {str(models)!r} cannot be read: {error}") from error

    def read(self, data: Any) -> Any:
        """Read pictures; leave all else as it is."""
        if not pictures.are_pictures(data):
            return data
        try:
            return pictures.read(data)
        except ValueError as error:
            raise self._refusal(str(error)) from error

    def _refusal(self, text: str) -> InputError:
        return InputError(grpc.StatusCode.INVALID_ARGUMENT, text, self.target)
