"""For programs: TensorFlow without the notes that it writes while it starts."""

import contextlib
import importlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

# TensorFlow's own lines before its logging is set up, `I0000 00:00:1795491911.945700 ...`, and what goes on from one;
# then those of its logging, `2026-11-24 05:00:00.123456: I tensorflow/core/...`, below an error.
_NOTE = re.compile(
    rb"[IWE]0000 00:00:|WARNING: All log messages before absl::InitializeLog|To enable the following"
    rb"|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: [IW] "
)


def one_line(message: str) -> str:
    """An error's message on one line, without TensorFlow's addresses of nodes: `... [[{{node map/while/...}}]]`."""
    return " ".join(message.partition("[[{{")[0].split())


@contextlib.contextmanager
def start_up() -> Iterator[None]:
    """Holds back what is written to standard error meanwhile, and then hands on all but TensorFlow's notes.

    `TF_CPP_MIN_LOG_LEVEL` does not reach the notes that are written before TensorFlow's logging is set up. For
    programs: the library never does this, since it redirects the standard error of the whole process.

    Example:
    ```python
    with quiet.start_up():
        import tensorflow as tf
    ```
    """
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held_back:
        os.dup2(held_back.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            held_back.seek(0)
            os.write(2, b"".join(line for line in held_back if not _NOTE.match(line)))


def import_tensorflow() -> None:
    """Imports TensorFlow within `start_up`; does nothing where it is there already.

    Raises:
        ImportError: TensorFlow can't be imported.

    Example: `quiet.import_tensorflow()` at the top of a program's package.
    """
    if "tensorflow" in sys.modules:
        return
    with start_up():
        importlib.import_module("tensorflow")


def first_session(config: Any = None) -> None:
    """Runs a first session, so that the notes of TensorFlow's first one fall into `start_up`.

    Args:
        config: `tf.compat.v1.ConfigProto`. The process's thread pools are made for its first session: the numbers of
            threads in later ones have no effect.
    """
    import tensorflow as tf

    tf.get_logger().setLevel("ERROR")  # The loader for TF 1 and 2 alike is marked as deprecated at each load.
    with tf.Graph().as_default(), tf.compat.v1.Session(config=config) as session:
        # oneDNN says once, as an error, which types it leaves to TensorFlow's own kernels; a picture's bytes are one.
        pixels = tf.compat.v1.placeholder_with_default(tf.zeros((1, 2, 2, 3), tf.uint8), (None, 2, 2, 3))
        session.run(tf.transpose(pixels, (0, 3, 1, 2)))
