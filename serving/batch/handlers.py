"""What RunInference calls: a model in this process, or a server.

Each gives a row for each picture, or a `Refused`. What is wrong with one picture never reaches the others of its batch.
"""

import concurrent.futures
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import grpc
import numpy as np
from apache_beam.ml.inference.base import ModelHandler, RemoteModelHandler

from keras_mobilenet import quiet
from keras_mobilenet.client import Client, ClientError
from keras_mobilenet.runtime import Predictor
from serving.batch import progress
from serving.batch.answers import Reading, Row
from serving.batch.pictures import Picture

NAMESPACE = "serving.batch"
"""Of the job's metrics."""

_OF_THE_PICTURE = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION)
_PASSING = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.CANCELLED,  # By a server that is going, of what had just reached it; nobody cancels here.
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.ABORTED,
)


@dataclasses.dataclass(frozen=True)
class Refused:
    """A picture that the server did not take, and its reason."""

    path: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Counting:
    """Where to count for the progress line, and whose line it is; see `progress.reporter`."""

    folder: str
    launcher: int

    def add(self, done: int = 0, bad: int = 0) -> None:
        """Counts pictures."""
        progress.reporter(self.folder, self.launcher).add(done, bad)


class StoredModel(ModelHandler[Picture, Row, Predictor]):
    """A stored model, loaded once in each process and shared by its threads.

    Args:
        path: As `Predictor` takes it; the same on every worker.
        reading: How its outputs are read.
        batch_size: Pictures of a batch.
        threads: CPU threads of a batch.
        counting: For the progress line, or None.
    """

    def __init__(self, path: str, reading: Reading, batch_size: int, threads: int, counting: Counting | None) -> None:
        super().__init__(min_batch_size=batch_size, max_batch_size=batch_size)
        self._path, self._reading, self._threads, self._counting = path, reading, threads, counting

    def load_model(self) -> Predictor:
        """Loads the model; Beam calls it once in a process."""
        return Predictor(self._path, threads=self._threads)

    def run_inference(
        self, batch: Sequence[Picture], model: Predictor, inference_args: dict[str, Any] | None = None
    ) -> Iterable[Row]:
        """Runs the model on a batch."""
        pixels = np.concatenate([picture.data for picture in batch])
        outputs = model.predict(model.image_input(pixels))
        rows = self._reading.rows([one.path for one in batch], [one.size for one in batch], outputs)
        if self._counting:
            self._counting.add(done=len(rows))
        return rows

    def get_num_bytes(self, batch: Sequence[Picture]) -> int:
        """Returns the bytes of the pixels, for Beam's metrics."""
        return sum(picture.data.nbytes for picture in batch)

    def get_metrics_namespace(self) -> str:
        """Returns the job's namespace."""
        return NAMESPACE


@dataclasses.dataclass(frozen=True)
class Server:
    """A served model, and how it is asked.

    Args:
        address: As `keras_mobilenet.client.Client` takes it.
        model_name: The model.
        at_once: Requests of a worker process that are under way at most.
        timeout: Seconds for a request.
    """

    address: str
    model_name: str
    at_once: int
    timeout: float

    def client(self) -> Client:
        """Connects; nothing is sent yet."""
        return Client(self.address, model_name=self.model_name, timeout=self.timeout)


class Connection:
    """A process's way to the server: one client, and as many threads as requests may be under way."""

    def __init__(self, server: Server) -> None:
        self.client = server.client()
        self.pool = concurrent.futures.ThreadPoolExecutor(server.at_once)


class ServedModel(RemoteModelHandler[Picture, "Row | Refused", Connection]):
    """A model behind TF Serving, or a server with its protocol.

    Each picture is a request of its own, so that a server that batches has something to batch and one that refuses a
    picture refuses it alone. Back-off and throttling are Beam's: after an error that may pass, the batch is sent again.

    Args:
        server: Where it is.
        reading: How its outputs are read.
        signature: The signature to ask.
        batch_size: Pictures that are handed on together.
        counting: For the progress line, or None.
    """

    def __init__(
        self, server: Server, reading: Reading, signature: str, batch_size: int, counting: Counting | None
    ) -> None:
        super().__init__(namespace=NAMESPACE, num_retries=5, retry_filter=may_pass)
        self._server, self._reading, self._signature = server, reading, signature
        self._batch_size, self._counting = batch_size, counting

    def create_client(self) -> Connection:
        """Connects; Beam calls it once in a process."""
        return Connection(self._server)

    def request(
        self, batch: Sequence[Picture], model: Connection, inference_args: dict[str, Any] | None = None
    ) -> list[Row | Refused]:
        """Asks about each picture of a batch.

        Raises:
            ClientError: The server cannot answer, whatever the picture.
        """
        answers = list(model.pool.map(lambda picture: self._ask(model.client, picture), batch))
        if self._counting:
            self._counting.add(done=sum(isinstance(answer, dict) for answer in answers))
        return answers

    def batch_elements_kwargs(self) -> Mapping[str, Any]:
        """Returns the batch size."""
        return {"min_batch_size": self._batch_size, "max_batch_size": self._batch_size}

    def get_num_bytes(self, batch: Sequence[Picture]) -> int:
        """Returns the bytes that are sent, for Beam's metrics."""
        return sum(len(one.data) if isinstance(one.data, bytes) else one.data.nbytes for one in batch)

    def get_metrics_namespace(self) -> str:
        """Returns the job's namespace."""
        return NAMESPACE

    def _ask(self, client: Client, picture: Picture) -> Row | Refused:
        wanted = self._reading.boxes or (self._reading.output,)
        try:
            outputs = client.predict(picture.data, signature_name=self._signature, outputs=wanted)
        except ClientError as error:
            if error.code not in _OF_THE_PICTURE:
                raise
            return Refused(picture.path, quiet.one_line(error.message))
        version = None if outputs.version is None else str(outputs.version)
        (row,) = self._reading.rows([picture.path], [picture.size], outputs, version)
        return row


def may_pass(error: Exception) -> bool:
    """Whether a request may succeed when it is sent again later."""
    return isinstance(error, ClientError) and error.code in _PASSING
