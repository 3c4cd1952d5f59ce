"""What a program writes to the terminal: its own lines, and warnings of the libraries."""

import logging as standard_logging
from pathlib import Path

import tensorflow as tf
from absl import logging

OURS = str(Path(__file__).parent)


def only_ours() -> None:
    """Holds back the notes that TensorFlow and Keras write into absl's log at every checkpoint and export."""
    logging.get_absl_handler().addFilter(_is_ours_or_warning)
    tf.get_logger().handlers.clear()  # what it writes goes up to absl's handler too


def _is_ours_or_warning(record: standard_logging.LogRecord) -> bool:
    if record.module == "lite":  # the converter's advice on how it is called, at every conversion
        return False
    return record.levelno >= standard_logging.WARNING or record.pathname.startswith(OURS)
