"""The program around the compiler.

The compiler itself is closed and not on the machines that test. Where a test needs one, a small script stands in: it
keeps the arguments it gets, prints a transcript, and writes the files that Coral's compiler made of the same models. So
what is tested is the handing on of flags, the reading of output and files, exit status, and what happens to old files.
"""

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

TRANSCRIPTS = Path(__file__).parent / "transcripts"
ROOT = Path(__file__).parents[3]
STAND_IN = """#!{python}
import pathlib, shutil, sys
folder = pathlib.Path(__file__).parent
(folder / "arguments").write_text("\\n".join(sys.argv[1:]))
out = pathlib.Path(sys.argv[sys.argv.index("--out_dir") + 1])
for file in (folder / "made").iterdir():
    shutil.copy(file, out / file.name)
print((folder / "transcript").read_text())
sys.exit(int((folder / "status").read_text()))
"""


@pytest.fixture
def folder(shared_data):
    return shared_data / "edgetpu"


@pytest.fixture
def stand_in(tmp_path, folder):
    """Puts a script in the compiler's place: what it prints, the models it writes, and its exit status."""
    place = tmp_path / "bin"

    def make(transcript, models, status=0, log=None):
        (place / "made").mkdir(parents=True)
        script = place / "edgetpu_compiler"
        script.write_text(STAND_IN.format(python=sys.executable))
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        (place / "transcript").write_text(transcript)
        (place / "status").write_text(str(status))
        for model in models:
            shutil.copy(folder / f"{model}_edgetpu.tflite", place / "made" / f"{model}_edgetpu.tflite")
            if log is not None:
                (place / "made" / f"{model}_edgetpu.log").write_text(log)
        return place

    return make


def run(*arguments, path=None):
    environment = os.environ | ({"PATH": f"{path}{os.pathsep}{os.environ['PATH']}"} if path else {})
    program = [sys.executable, "-m", "serving.edge_tpu.compile", *map(str, arguments)]
    return subprocess.run(program, cwd=ROOT, env=environment, capture_output=True, text=True)


def transcript(name):
    return (TRANSCRIPTS / name).read_text()


MOBILENET, DEEPLAB = "mobilenet_v1_0.25_128_quant", "deeplabv3_mnv2_dm05_pascal_quant"


def test_without_the_compiler_the_check_runs(folder, tmp_path):
    done = run(folder / f"{MOBILENET}.tflite", f"--out_dir={tmp_path / 'out'}", "--compiler=not_there")
    assert done.returncode == 2
    assert "31 of 31 operators are expected to map" in done.stdout
    assert "apt-get install edgetpu-compiler" in done.stderr
    assert "docker build -t edgetpu-compiler serving/edge_tpu" in done.stderr
    assert not (tmp_path / "out").exists()


def test_without_the_compiler_operators_on_the_cpu_are_status_1(folder, tmp_path):
    report = tmp_path / "report.json"
    done = run(folder / f"{DEEPLAB}.tflite", f"--json={report}", "--compiler=not_there")
    assert done.returncode == 1
    assert "64 of 72 operators" in done.stdout
    (check,) = json.loads(report.read_text())["checks"]
    assert check["fully_mapped"] is False
    assert sum(not operator["mapped"] for operator in check["operators"]) == 8


def test_a_model_that_maps(folder, tmp_path, stand_in):
    place = stand_in(transcript("mobilenet.txt"), [MOBILENET])
    out, report = tmp_path / "out", tmp_path / "report.json"
    model = folder / f"{MOBILENET}.tflite"
    done = run(model, f"--out_dir={out}", f"--json={report}", "--min_runtime_version=13", "--timeout_sec=9", path=place)
    assert done.returncode == 0, done.stderr
    assert [file.name for file in out.iterdir()] == [f"{MOBILENET}_edgetpu.tflite"]
    arguments = (place / "arguments").read_text().split("\n")
    assert arguments[-1] == str(model)
    assert "--min_runtime_version\n13\n--timeout_sec\n9" in "\n".join(arguments)
    assert "--show_operations" in arguments and "--num_segments" not in arguments
    (compiled,) = json.loads(report.read_text())["compiled"]["models"]
    assert (compiled["mapped"], compiled["on_cpu"], compiled["subgraphs"]) == (31, 0, 1)
    assert compiled["file"]["cached_bytes"] == 566_912
    assert compiled["path"] == str(out / f"{MOBILENET}_edgetpu.tflite")
    assert "566,912 bytes cached" in done.stdout
    assert "note:" not in done.stderr


def test_operators_on_the_cpu_are_status_1_unless_allowed(folder, tmp_path, stand_in):
    place = stand_in(transcript("deeplab.txt"), [DEEPLAB], log=transcript("deeplab.log"))
    arguments = [folder / f"{DEEPLAB}.tflite", f"--out_dir={tmp_path / 'out'}"]
    done = run(*arguments, path=place)
    assert done.returncode == 1
    assert "64 operators on the Edge TPU (1 subgraphs), 8 on the CPU" in done.stdout
    assert "More than one subgraph is not supported" in done.stdout
    assert (tmp_path / "out" / f"{DEEPLAB}_edgetpu.log").exists()
    assert run(*arguments, "--allow_cpu_ops", path=place).returncode == 0


def test_several_models_are_co_compiled_in_order(folder, tmp_path, stand_in):
    place = stand_in(transcript("together.txt"), [MOBILENET, "split_concat"])
    models = [folder / f"{MOBILENET}.tflite", folder / "split_concat.tflite"]
    done = run(*models, f"--out_dir={tmp_path}", "--num_segments=1", path=place)
    assert done.returncode == 0, done.stderr
    arguments = (place / "arguments").read_text().split("\n")
    assert arguments[-2:] == [str(model) for model in models]
    assert arguments[arguments.index("--num_segments") + 1] == "1"


def test_what_the_check_foretold_otherwise_is_said(folder, tmp_path, stand_in):
    """The stand-in writes DeepLab for MobileNet: eight operators more on the CPU than foretold."""
    place = stand_in(transcript("mobilenet.txt"), [])
    shutil.copy(folder / f"{DEEPLAB}_edgetpu.tflite", place / "made" / f"{MOBILENET}_edgetpu.tflite")
    done = run(folder / f"{MOBILENET}.tflite", f"--out_dir={tmp_path}", path=place)
    assert "the check foretold 0 ARG_MAX on the CPU, the compiled file has 1" in done.stderr


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ("Edge TPU Compiler version 16.0.384591198\n\nInternal compiler error. Aborting! \n", 1),
        ("Edge TPU Compiler version 16.0.384591198\nCompilation failed! \n", 0),
        ("Edge TPU Compiler version 15.0.340273435\n", 0),
        ("Edge TPU Compiler version 16.0.384591198\nsegmentation fault\n", 139),
    ],
)
def test_a_compiler_that_fails_leaves_older_files(folder, tmp_path, stand_in, said, status):
    out = tmp_path / "out"
    out.mkdir()
    older = out / f"{MOBILENET}_edgetpu.tflite"
    older.write_bytes(b"older")
    done = run(folder / f"{MOBILENET}.tflite", f"--out_dir={out}", path=stand_in(said, [MOBILENET], status))
    assert done.returncode == 2
    assert said.strip().splitlines()[-1].strip() in done.stderr
    assert older.read_bytes() == b"older"
    assert list(out.iterdir()) == [older]


def test_an_output_file_that_is_missing(folder, tmp_path, stand_in):
    done = run(folder / f"{MOBILENET}.tflite", f"--out_dir={tmp_path}", path=stand_in(transcript("mobilenet.txt"), []))
    assert done.returncode == 2
    assert f"{MOBILENET}_edgetpu.tflite" in done.stderr


def test_bad_input(folder, tmp_path, stand_in):
    """Each a sentence and status 2, and the compiler isn't called."""
    place = stand_in(transcript("mobilenet.txt"), [MOBILENET])
    (tmp_path / "foreign.tflite").write_bytes(b"%PDF-1.7" + bytes(100))
    (tmp_path / "cut.tflite").write_bytes((folder / f"{MOBILENET}.tflite").read_bytes()[:100_000])
    with open(tmp_path / "huge.tflite", "wb") as file:
        file.write(b"\x1c\0\0\0TFL3")
        file.truncate(1 << 30)
    shutil.copy(folder / f"{MOBILENET}.tflite", tmp_path)
    cases = {
        (): "name one or more .tflite files",
        (tmp_path / "none.tflite",): "No such file",
        (tmp_path / "foreign.tflite",): "isn't a .tflite file",
        (tmp_path / "cut.tflite",): "truncated or damaged",
        (tmp_path / "huge.tflite",): "1,073,741,824 bytes",
        (folder / f"{MOBILENET}_edgetpu.tflite",): "already compiled",
        (folder / f"{MOBILENET}.tflite", tmp_path / f"{MOBILENET}.tflite"): "two of the files are called",
    }
    for arguments, message in cases.items():
        done = run(*arguments, f"--out_dir={tmp_path / 'out'}", path=place)
        assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
        assert message in done.stderr
    assert not (place / "arguments").exists()
    assert not (tmp_path / "out").exists()


def test_float_and_dynamic_models_are_refused(tmp_path):
    import tensorflow as tf

    class Model(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([1, 4], tf.float32)])
        def static(self, x):
            return tf.nn.softmax(x)

        @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32)])
        def dynamic(self, x):
            return tf.nn.softmax(x)

    model = Model()
    for function, message in [(model.static, "the model isn't quantized"), (model.dynamic, "dynamic sizes")]:
        converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], model)
        (tmp_path / "model.tflite").write_bytes(converter.convert())
        done = run(tmp_path / "model.tflite")
        assert done.returncode == 2
        assert message in done.stderr
