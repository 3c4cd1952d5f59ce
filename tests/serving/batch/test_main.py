import shutil
import signal
import subprocess
import time

import numpy as np
import psutil
import pytest

pytest.importorskip("apache_beam", reason="batch prediction needs apache-beam")

from keras_mobilenet.runtime import Predictor
from serving.batch import pictures

from .jobs import ROOT, command, link, read_bad, read_rows, run


@pytest.fixture(scope="module")
def photos(shared_data):
    return sorted((shared_data / "imagenet" / "ccby400").iterdir())


@pytest.fixture(scope="module")
def model(shared_data):
    return shared_data / "weights" / "mobilenet_v1_0.25_128_quant.tflite"


@pytest.mark.slow
def test_errors_are_sentences_and_leave_nothing_behind(photos, model, shared_data, tmp_path):
    out = tmp_path / "out"
    segmenter = shared_data / "weights" / "deeplabv3_mnv2_dm05_pascal_quant.tflite"
    (tmp_path / "list.csv").write_text("file\na.jpg\n")
    (tmp_path / "text.tflite").write_text("no model")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("notes")
    some, given = f"--input={photos[0]}", (f"--model={model}", f"--output={out}")
    cases = {
        (f"--input={tmp_path}/*.jpg", *given): "fits no file",
        given: "--input is missing",
        (some, f"--output={out}"): "name one of --model",
        (some, *given, "--server=localhost:1"): "name one of --model",
        (some, f"--model={model}"): "--output is missing",
        (some, f"--model={model}", f"--output={tmp_path}/o[u]t"): "take for a pattern",
        (some, f"--model={tmp_path / 'none.tflite'}", f"--output={out}"): "there is no model at",
        (some, f"--model={tmp_path / 'text.tflite'}", f"--output={out}"): "text.tflite",
        (some, *given, "--task=detect"): "is not a detector",
        (some, f"--model={segmenter}", f"--output={out}"): "not one for --task=classify",
        (some, *given, f"--label_file={tmp_path / 'none.txt'}"): "No such file",
        (f"--input={tmp_path}/list.csv", *given): "no column 'path'",
        (some, f"--model={model}", f"--output={tmp_path / 'mine'}"): "isn't empty",
        (some, "--server=localhost:1", "--timeout=1", f"--output={out}"): "the server cannot be asked",
        (some, *given, "--no_such_flag=1"): "neither a flag of this program",
        (some, *given, "--format=excel"): "parquet",
    }
    for arguments, message in cases.items():
        done = run(*arguments)
        assert (done.returncode in (1, 2), "Traceback" in done.stderr) == (True, False), (arguments, done.stderr)
        assert message in done.stderr + done.stdout, (arguments, done.stderr)
        assert not out.exists(), arguments
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


@pytest.mark.slow
def test_the_program_with_bad_pictures_up_to_a_share(photos, model, tmp_path):
    paths = link(photos[:40], tmp_path / "in")
    (tmp_path / "in" / "text.jpg").write_text("not a picture")
    given = [f"--input={tmp_path / 'in'}/**.jpg", f"--model={model}", "--top=3"]
    done = run(*given, f"--output={tmp_path / 'out'}", "--max_bad_share=0.05")
    assert done.returncode == 0, done.stderr
    assert "40 pictures with a row, 1 bad" in done.stdout and "batches: " in done.stdout
    assert "41/41" in done.stderr  # the progress line
    rows = read_rows(tmp_path / "out")
    assert sorted(rows) == sorted(paths)
    predictor = Predictor(model)
    for path in paths[:5]:
        pixels = pictures.decode(pictures.read(path), (128, 128)).data
        (scores,) = predictor.predict(pixels).values()
        best = np.argsort(-scores[0], kind="stable")[:3]
        expected = [(int(i), float(scores[0, i])) for i in best if scores[0, i] > 0]
        assert list(zip(rows[path]["class_ids"], rows[path]["scores"], strict=True)) == expected
    again = run(*given, f"--output={tmp_path / 'out'}", "--max_bad_share=0.05")
    assert again.returncode == 2 and "finished job" in again.stderr
    strict = run(*given, f"--output={tmp_path / 'strict'}", "--max_bad_share=0.01")
    assert strict.returncode == 1 and "2.44% of the pictures are bad" in strict.stderr
    assert "text.jpg: its 13 bytes are no JPEG" in strict.stderr
    assert sorted(read_rows(tmp_path / "strict")) == sorted(paths)
    assert len(read_bad(tmp_path / "strict")) == 1


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["begun", "midway", "finishing"])
def test_a_killed_run_started_again_neither_loses_nor_doubles_a_row(photos, model, tmp_path, moment):
    paths = link(photos, tmp_path / "in", repeats=10)
    out = tmp_path / "out"
    # A file of lines is there from the first row on; one of Parquet from the thousandth.
    given = command(f"--input={tmp_path / 'in'}/**.jpg", f"--model={model}", f"--output={out}", "--format=jsonl")
    killed = subprocess.Popen(given, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wanted = {"begun": "_begun.json", "midway": "beam-temp-rows-*/*", "finishing": "rows-*"}[moment]
    while not list(out.glob(wanted)):
        assert killed.poll() is None, "the job ended before it could be killed"
        time.sleep(0.002)
    workers = psutil.Process(killed.pid).children(recursive=True)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    if moment == "finishing":  # as if the kill had hit between the names of two files
        (out / "_finished.json").unlink(missing_ok=True)
        first = min(out.glob("rows-*"))
        shutil.copy(first, out / "rows-00004-of-00005.jsonl")
    done = subprocess.run(given, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = read_rows(out)
    assert len(rows) == len(paths) and set(rows) == set(paths)
    assert not list(out.glob("beam-temp-*"))
    assert not [one for one in workers if one.is_running()], "the killed run's workers went on"
