"""For programs: TensorFlow imported without its start-up messages."""

import importlib
import os
import sys
import tempfile


def import_tensorflow() -> None:
    """Imports TensorFlow while what its libraries write to standard error is held back.

    `TF_CPP_MIN_LOG_LEVEL` does not reach the messages that are written before TensorFlow's logging is set up. Programs
    call this first; the library never does, since it redirects the process's standard error for the length of the
    import. What was held back is written where the import fails.

    Raises:
        ImportError: TensorFlow can't be imported.

    Example: `quiet.import_tensorflow()` at the top of a program's package.
    """
    if "tensorflow" in sys.modules:
        return
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held_back:
        os.dup2(held_back.fileno(), 2)
        try:
            importlib.import_module("tensorflow")
        except BaseException:
            held_back.seek(0)
            os.write(kept, held_back.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
