import subprocess
import sys

import pytest

ENVIRONMENT = {"PATH": "/usr/bin:/bin"}


def run(program, **environment):
    command = [sys.executable, "-c", program]
    environment = ENVIRONMENT | {"PYTHONPATH": ":".join(sys.path)} | environment
    return subprocess.run(command, capture_output=True, text=True, env=environment)


@pytest.mark.slow
def test_programs_start_without_tensorflows_noise():
    loud = run("import tensorflow as tf; print(tf.constant(1).numpy())")
    quiet = run("import training; import tensorflow as tf; print(tf.constant(1).numpy())")
    assert loud.stdout == quiet.stdout == "1\n"
    assert "cuda" in loud.stderr.lower() or "cpu" in loud.stderr.lower()
    assert quiet.stderr == ""


@pytest.mark.slow
def test_errors_behind_the_import_are_still_seen():
    process = run("import sys; from keras_mobilenet import quiet; quiet.import_tensorflow(); sys.stderr.write('seen')")
    assert process.stderr == "seen"


def test_a_failing_import_shows_what_was_held_back(tmp_path):
    (tmp_path / "tensorflow.py").write_text(
        "import os; os.write(2, b'a library is missing'); raise ImportError('broken')"
    )
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from keras_mobilenet import quiet;"
    process = run(program + "quiet.import_tensorflow()")
    assert process.returncode == 1
    assert "a library is missing" in process.stderr and process.stderr.endswith("ImportError: broken\n")


def test_nothing_is_redirected_where_tensorflow_is_there_already():
    program = "import os, sys, types; sys.modules['tensorflow'] = types.ModuleType('tensorflow');"
    program += "from keras_mobilenet import quiet; before = os.fstat(2).st_ino; quiet.import_tensorflow();"
    assert run(program + "print(before == os.fstat(2).st_ino)").stdout == "True\n"
