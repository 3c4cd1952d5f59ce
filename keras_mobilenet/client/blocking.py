"""The blocking client."""

import time
from collections.abc import Mapping, Sequence
from os import PathLike
from types import TracebackType
from typing import Any, Self

from keras_mobilenet.client.errors import ClientError
from keras_mobilenet.client.grpc_transport import GrpcTransport
from keras_mobilenet.client.model_info import Classification, ModelMetadata, Outputs, VersionStatus
from keras_mobilenet.client.options import TLS, Retry, connection
from keras_mobilenet.client.rest_transport import RestTransport
from keras_mobilenet.client.session import Flow, Result, Send, Session


class Client:
    """A client of TF Serving, or of a server with its protocol, with NumPy arrays in and out.

    It may be used from several threads. Requests of every kind are sent again, after a pause, when the server says
    UNAVAILABLE, and on no other error.

    Args:
        target: `HOST:PORT` of the server. Several of them, in a list or parted by commas, are used in turn (gRPC's
            `round_robin` policy, which leaves out those that cannot be reached); so are all the addresses of one name
            (a headless service in Kubernetes). gRPC's own targets (`dns:///...`, `unix:/...`) are taken too. A URL
            means REST.
        model_name: the model that requests are for when they do not name one; TF Serving's own default is `default`.
        timeout: seconds that a request may take, with all its attempts.
        rest: speak REST (port 8501 by custom) rather than gRPC (8500); it needs httpx, of the extra `serving`.
        tls: files for an encrypted connection; True for one that trusts the usual authorities.
        retry: how often and when to try again.
        headers: sent with every request, for instance an `authorization`.

    Raises:
        ValueError: an argument cannot be used.
        ImportError: REST without httpx.

    Example:
        >>> with Client("localhost:8500", model_name="mobilenet") as client:  # doctest: +SKIP
        ...     client.predict("cat.jpg")["class_ids"]
        array([[281, 282, 285, 287, 478]])
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
        self._transport: Any = (RestTransport if to.rest else GrpcTransport)(to)

    def predict(
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
        """Run a signature of the model.

        Args:
            inputs: what the signature takes, in one of these forms. A dict from input names to arrays. One array, where
                there is one input; its name and type come from the server. Or pictures, undecoded: a path, bytes, or a
                list of these. Arrays have the batch as their first axis and are converted to the signature's type where
                that keeps the values' meaning (whole numbers to float, int64 to uint8 where the values fit; never float
                to integer). Text goes in a dict or an array: a plain str is a path.
            signature_name: by default `serving_default`, and `encoded_image` for pictures.
            outputs: names of the outputs to get; all of them by default.
            model_name: another model than the client's.
            version: a version's number; by default the newest, and the server's choice.
            version_label: a version's label, in place of its number.
            timeout: seconds, in place of the client's.

        Returns:
            The output arrays by name. Strings are objects (bytes). `.version` is the version that answered (gRPC).

        Raises:
            InputError: the inputs do not fit the signature; nothing was sent.
            ClientError: the server refused, failed, or was not reached in time.
        """
        model = self._session.model(model_name, version, version_label)
        data = self._session.read(inputs)
        return self._run(self._session.predict(model, data, signature_name, outputs, timeout))

    def classify(
        self,
        examples: Any,
        *,
        signature_name: str | None = None,
        model_name: str | None = None,
        version: int | None = None,
        version_label: str | None = None,
        timeout: float | None = None,
    ) -> list[list[Classification]]:
        """Run a classification signature of the model, with labels in its answer.

        Args:
            examples: pictures (a path, bytes, or a list of these), sent as the feature `image/encoded`; or dicts from
                feature names to numbers, strings, or lists of them.
            signature_name: by default the model's one signature for TF Serving's Classify, or `classify`.
            model_name: another model than the client's.
            version: a version's number.
            version_label: a version's label.
            timeout: seconds, in place of the client's.

        Returns:
            For each example its classes, in the server's order.

        Raises:
            InputError: the examples cannot be sent, or the model has no such signature.
            ClientError: the server refused, failed, or was not reached in time.
        """
        model = self._session.model(model_name, version, version_label)
        data = self._session.read(examples)
        return self._run(self._session.classify(model, data, signature_name, timeout))

    def metadata(
        self,
        *,
        model_name: str | None = None,
        version: int | None = None,
        version_label: str | None = None,
        timeout: float | None = None,
    ) -> ModelMetadata:
        """Ask which signatures the model has, and the names, types and shapes of their inputs and outputs.

        Args:
            model_name: another model than the client's.
            version: a version's number.
            version_label: a version's label.
            timeout: seconds, in place of the client's.

        Returns:
            The signatures and the version that they are of.

        Raises:
            ClientError: the server refused, failed, or was not reached in time.
        """
        model = self._session.model(model_name, version, version_label)
        return self._run(self._session.metadata(model, timeout))

    def status(
        self,
        *,
        model_name: str | None = None,
        version: int | None = None,
        version_label: str | None = None,
        timeout: float | None = None,
    ) -> list[VersionStatus]:
        """Ask for the state of the model's versions; of several servers one answers.

        Args:
            model_name: another model than the client's.
            version: a version's number; by default all.
            version_label: a version's label.
            timeout: seconds, in place of the client's.

        Returns:
            The versions, newest first.

        Raises:
            ClientError: the server refused, failed, or was not reached in time.
        """
        model = self._session.model(model_name, version, version_label)
        return self._run(self._session.status(model, timeout))

    def reload(
        self, models: Mapping[str, str | PathLike[str]] | str | PathLike[str], *, timeout: float | None = None
    ) -> None:
        """Replace the server's whole configuration of models (gRPC only).

        Args:
            models: base paths on the server by model name; or the path here of a text proto as for TF Serving's
                `--model_config_file`, which may hold version policies and labels.
            timeout: seconds, in place of the client's.

        Raises:
            InputError: the file cannot be read, or the client has several servers.
            ClientError: the server refused, failed, or was not reached in time.
        """
        self._run(self._session.reload(models, timeout))

    def close(self) -> None:
        """End the connections; the client cannot be used any more."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, flow: Flow[Result]) -> Result:
        """Carry out a request step by step."""
        try:
            step = next(flow)
            while True:
                try:
                    answer = self._carry_out(step)
                except ClientError as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(answer)
        except StopIteration as done:
            return done.value

    def _carry_out(self, step: Any) -> Any:
        if isinstance(step, Send):
            return self._transport.send(step.call, step.timeout)
        return time.sleep(step.seconds)
