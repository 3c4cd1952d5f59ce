"""Keeps the notes that TensorFlow's C++ part writes while it starts from the user's terminal."""

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator

# TensorFlow's own lines before its logging is set up, `I0000 00:00:1795491911.945700 ...`, and what goes on from one.
_NOTE = re.compile(r"[IWE]0000 00:00:|WARNING: All log messages before absl::InitializeLog|To enable the following")


@contextlib.contextmanager
def start_up() -> Iterator[None]:
    """Holds back what is written to standard error meanwhile, and hands on all but TensorFlow's notes.

    TF_CPP_MIN_LOG_LEVEL does not reach the notes that come before TensorFlow has set its logging up.
    """
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(terminal, 2)
            os.close(terminal)
            held.seek(0)
            for line in held.read().decode("utf-8", "replace").splitlines(keepends=True):
                if not _NOTE.match(line):
                    sys.stderr.write(line)


def first_session() -> None:
    """Runs a first session, so that the notes of TensorFlow's first one fall into `start_up`."""
    import tensorflow as tf

    tf.get_logger().setLevel("ERROR")  # The loader for TF 1 and 2 alike is marked as deprecated at each load.
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        session.run(tf.constant(0))
