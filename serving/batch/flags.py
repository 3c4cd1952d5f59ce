"""The job's flags; Beam's own stand beside them (`keras_mobilenet.beam_flags`)."""

import os
import re

from absl import flags

from serving.batch import inputs, outputs
from serving.batch.answers import TASKS
from serving.batch.artefact import Wanted
from serving.batch.handlers import Server
from serving.batch.inputs import Inputs
from serving.batch.job import Job

_INPUT = flags.DEFINE_multi_string("input", [], "Files by pattern: *, ?, [...], ** for any depth. May be repeated.")
_INPUT_FORMAT = flags.DEFINE_enum("input_format", None, inputs.FORMATS, "By default told by the files' names.")
_COLUMN = flags.DEFINE_string("column", "path", "Of a CSV file: the column with the paths.")
_MODEL = flags.DEFINE_string("model", "", "A .tflite or .keras file, a SavedModel, or a directory of versions.")
_SERVER = flags.DEFINE_string("server", "", "HOST:PORT of TF Serving in place of --model; several parted by commas.")
_MODEL_NAME = flags.DEFINE_string("model_name", "default", "With --server: the model.")
_AT_ONCE = flags.DEFINE_integer("at_once", 4, "With --server: requests of a worker under way at most.", 1)
_TIMEOUT = flags.DEFINE_float("timeout", 60.0, "With --server: seconds for a request.", 0.001)
_TASK = flags.DEFINE_enum("task", "classify", list(TASKS), "What is wanted of the model.")
_TOP = flags.DEFINE_integer("top", 5, "Classes or boxes of a picture at most.", 1)
_THRESHOLD = flags.DEFINE_float("threshold", None, "Lowest score; by default 0, for boxes 0.4.", 0.0, 1.0)
_LABEL_FILE = flags.DEFINE_string("label_file", "", "Names of the classes, a line each; by default the model's own.")
_OUTPUT = flags.DEFINE_string("output", "", "A new folder, local or on any Beam filesystem.")
_FORMAT = flags.DEFINE_enum("format", "parquet", list(outputs.FORMATS), "What rows are written as.")
_SHARDS = flags.DEFINE_integer("shards", 0, "Files of rows; 0 leaves it to the runner and shuffles no row.", 0, 99999)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 16, "Pictures of a batch.", 1, 4096)
_THREADS = flags.DEFINE_integer("threads", 1, "CPU threads of a batch of a LiteRT model.", 1)
_MAX_BAD_SHARE = flags.DEFINE_float(
    "max_bad_share", 0.01, "Share of the pictures that may be bad; beyond it the exit status is 1.", 0.0, 1.0
)


def job() -> Job:
    """The job that the flags ask for.

    Raises:
        ValueError: They do not go together.
    """
    patterns = tuple(_INPUT.value)
    form = _INPUT_FORMAT.value or inputs.guess_format(patterns)
    if bool(_MODEL.value) == bool(_SERVER.value):
        raise ValueError("name one of --model (a stored model) and --server (HOST:PORT of TF Serving)")
    if not _OUTPUT.value:
        raise ValueError("--output is missing: name a new folder for the rows")
    if set(_OUTPUT.value) & set("*?["):
        raise ValueError(f"--output={_OUTPUT.value} has a *, ? or [, which Beam's sinks take for a pattern")
    if not patterns:
        inputs.guess_format(patterns)
    server = Server(_SERVER.value, _MODEL_NAME.value, _AT_ONCE.value, _TIMEOUT.value) if _SERVER.value else None
    return Job(
        inputs=Inputs(tuple(map(_absolute, patterns)), form, _COLUMN.value),
        wanted=Wanted(_TASK.value, _TOP.value, _THRESHOLD.value, _LABEL_FILE.value),
        output=_absolute(_OUTPUT.value).rstrip("/"),
        format=_FORMAT.value,
        model=_absolute(_MODEL.value) if _MODEL.value else "",
        server=server,
        shards=_SHARDS.value,
        batch_size=_BATCH_SIZE.value,
        threads=_THREADS.value,
        max_bad_share=_MAX_BAD_SHARE.value,
    )


def _absolute(path: str) -> str:
    """A local path from the root, as workers may stand elsewhere; one of another filesystem as it is."""
    return path if re.match(r"[a-z][a-z0-9+.-]*://", path) else os.path.abspath(path)
