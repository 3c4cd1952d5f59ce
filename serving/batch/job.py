"""A job: what is read, by which model it is judged, and what is written."""

import dataclasses
from typing import Any

from serving.batch.artefact import Model, Wanted
from serving.batch.handlers import Counting, Server
from serving.batch.inputs import Inputs


@dataclasses.dataclass(frozen=True)
class Job:
    """What the flags ask for.

    Args:
        inputs: The pictures.
        wanted: The task, and what is listed.
        output: Folder for the rows and the dead-letter output.
        format: One of `outputs.FORMATS`.
        model: Path of a stored model; "" for a served one.
        server: A served model, or None.
        shards: Files of rows; 0 leaves it to the runner.
        batch_size: Pictures of a batch.
        threads: CPU threads of a batch of a stored LiteRT model.
        max_bad_share: Share of the pictures that may be bad.
    """

    inputs: Inputs
    wanted: Wanted
    output: str
    format: str = "parquet"
    model: str = ""
    server: Server | None = None
    shards: int = 0
    batch_size: int = 16
    threads: int = 1
    max_bad_share: float = 0.01

    def settings(self, model: Model) -> dict[str, Any]:
        """What decides the rows, as it is written into the output folder."""
        return {
            "input": list(self.inputs.patterns),
            "input_format": self.inputs.format,
            "column": self.inputs.column,
            "model": self.model or f"{self.server.model_name} at {self.server.address}",
            "name": model.reading.model,
            "version": model.reading.version,
            "task": self.wanted.task,
            "top": self.wanted.top,
            "threshold": model.reading.settings.threshold,
            "label_file": self.wanted.label_file,
            "format": self.format,
        }


@dataclasses.dataclass(frozen=True)
class Plan:
    """A job whose model and input have been looked at.

    Args:
        job: What is asked for.
        model: What was found.
        pictures: How many there are; None where it isn't known.
        counting: Where workers on this machine count, or None.
    """

    job: Job
    model: Model
    pictures: int | None = None
    counting: Counting | None = None
