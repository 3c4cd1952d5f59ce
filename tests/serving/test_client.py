import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import grpc
import pytest
import tensorflow as tf

from tests.keras_mobilenet.client_peer import LABELS, Peer, write_model

COLOURS = {"red": (250, 0, 0), "green": (0, 250, 0), "blue": (0, 0, 250)}


@pytest.fixture(scope="module")
def peer(tmp_path_factory):
    peer = Peer(write_model(tmp_path_factory.mktemp("models") / "colours"))
    yield peer
    peer.stop()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pictures in a folder and one below it, a file that only looks like one, and a file that does not."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "below").mkdir()
    for name, colour in COLOURS.items():
        image = tf.fill([6, 5, 3], tf.constant(0, tf.uint8)) + tf.constant(colour, tf.uint8)
        data = (tf.io.encode_png(image) if name == "green" else tf.io.encode_jpeg(image)).numpy()
        (folder / ("below" if name == "blue" else ".") / f"{name}.{'PNG' if name == 'green' else 'jpg'}").write_bytes(
            data
        )
    (folder / "notes.txt").write_text("not a picture")
    return folder


@pytest.fixture(scope="module")
def bad_folder(folder, tmp_path_factory):
    bad = tmp_path_factory.mktemp("bad")
    (bad / "a_broken.jpg").write_bytes(b"not a picture")
    (bad / "b_empty.jpg").write_bytes(b"")
    (bad / "c_red.jpg").write_bytes((folder / "red.jpg").read_bytes())
    return bad


def run(*arguments, peer=None):
    address = [f"--server={peer.target}", "--model_name=colours"] if peer else []
    command = [sys.executable, "-m", "serving.client", *address, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def blocks(text):
    """The label that each printed picture starts with."""
    found, name = {}, None
    for line in text.splitlines():
        if line.startswith("  "):
            found[name].append(line.split())
        else:
            name = line
            found[name] = []
    return found


def test_top_five_with_labels(peer, folder):
    done = run(folder / "red.jpg", folder / "below" / "blue.jpg", peer=peer)
    assert done.returncode == 0 and not done.stderr
    printed = blocks(done.stdout)
    assert list(printed) == [str(folder / "red.jpg"), str(folder / "below" / "blue.jpg")]
    assert [len(lines) for lines in printed.values()] == [5, 5]
    assert [lines[0][1] for lines in printed.values()] == ["red", "blue"]
    scores = [float(line[0]) for line in printed[str(folder / "red.jpg")]]
    assert scores == sorted(scores, reverse=True) and scores[0] > 0.8


def test_a_folder_is_walked_with_a_progress_bar(peer, folder):
    done = run(folder, "--top=1", peer=peer)
    assert done.returncode == 0
    assert {Path(name).stem: lines[0][1] for name, lines in blocks(done.stdout).items()} == {
        name: name for name in COLOURS
    }
    assert "3/3" in done.stderr and "picture" in done.stderr


def test_labels_from_a_file(peer, folder, tmp_path):
    file = tmp_path / "labels.txt"
    file.write_text("\n".join(f"my {label}" for label in LABELS))
    done = run(folder / "red.jpg", f"--labels={file}", peer=peer)
    assert done.returncode == 0 and "my red" in done.stdout.splitlines()[1]
    file.write_text("one\n")
    done = run(folder / "red.jpg", f"--labels={file}", peer=peer)
    assert done.returncode == 1 and "there are only 1 labels" in done.stderr


def test_a_bad_picture_is_named_and_the_rest_go_on(peer, bad_folder):
    done = run(bad_folder, bad_folder / "missing.jpg", peer=peer)
    assert done.returncode == 1
    assert list(blocks(done.stdout)) == [str(bad_folder / "c_red.jpg")]
    assert "a_broken.jpg: " in done.stderr and "Unknown image file format" in done.stderr
    assert "b_empty.jpg' is empty" in done.stderr
    assert "missing.jpg' cannot be read: No such file or directory" in done.stderr
    assert "Traceback" not in done.stderr


def test_csv(peer, bad_folder, tmp_path):
    output = tmp_path / "answers.csv"
    done = run(bad_folder, f"--output={output}", "--top=2", peer=peer)
    assert done.returncode == 1
    assert done.stdout == f"{output}: 1 pictures classified, 2 failed\n"
    rows = list(csv.DictReader(output.open()))
    assert [(Path(row["picture"]).name, row["rank"], row["label"], bool(row["error"])) for row in rows[:3]] == [
        ("a_broken.jpg", "", "", True),
        ("b_empty.jpg", "", "", True),
        ("c_red.jpg", "1", "red", False),
    ]
    assert len(rows) == 4 and float(rows[2]["score"]) > float(rows[3]["score"])
    assert [path.name for path in tmp_path.iterdir()] == ["answers.csv"]


def test_json_and_no_file_is_overwritten_unasked(peer, folder, tmp_path):
    output = tmp_path / "answers.json"
    output.write_text("mine")
    refused = run(folder, f"--output={output}", peer=peer)
    assert refused.returncode == 1 and "--overwrite" in refused.stdout + refused.stderr
    assert output.read_text() == "mine"
    assert run(folder, f"--output={output}", "--overwrite", peer=peer).returncode == 0
    answers = json.loads(output.read_text())
    assert [Path(entry["picture"]).stem for entry in answers] == ["blue", "green", "red"]
    assert [entry["classes"][0]["label"] for entry in answers] == ["blue", "green", "red"]


def test_metadata_and_list(peer):
    done = run("--metadata", peer=peer)
    assert done.returncode == 0
    assert done.stdout.startswith("colours, version 3\n")
    assert "  in   image: uint8 [?, ?, ?, 3]" in done.stdout
    done = run("--list", f"--server={peer.target}", "--model_name=colours,other")
    assert done.returncode == 1
    assert done.stdout.splitlines() == ["colours  3  AVAILABLE", "colours  1  END  NOT_FOUND: no such file"]
    assert done.stderr.startswith("other: NOT_FOUND")


def test_versions(peer, folder):
    assert run(folder / "red.jpg", "--version=3", peer=peer).returncode == 0
    assert run(folder / "red.jpg", "--version_label=stable", peer=peer).returncode == 0
    done = run(folder / "red.jpg", "--version=7", peer=peer)
    assert done.returncode == 1 and "Servable not found for request: Specific(colours, 7)" in done.stderr


def test_ctrl_c_ends_it_at_once(peer, folder):
    command = [sys.executable, "-m", "serving.client", f"--server={peer.target}", "--model_name=colours", str(folder)]
    # A test run in the background hands on an ignored SIGINT, which Python would leave ignored.
    heard = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, preexec_fn=heard, **pipes)
    peer.calls.clear()
    peer.delay = 20  # had it to wait for the answers under way, it would not end in time
    try:
        deadline = time.monotonic() + 60
        while not peer.calls and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        output = "".join(process.communicate(timeout=15))
        assert process.returncode == 130
        assert "Traceback" not in output
    finally:
        peer.delay = 0
        process.kill()


def test_a_server_that_goes_away_ends_the_run_and_writes_nothing(peer, folder, tmp_path):
    peer.calls.clear()
    peer.delay = 0.1
    command = [sys.executable, "-m", "serving.client", f"--server={peer.target}", "--model_name=colours"]
    command += [str(folder), "--at_once=1", f"--output={tmp_path / 'answers.csv'}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 30
    while "Classify" not in peer.calls and time.monotonic() < deadline:
        time.sleep(0.01)
    peer.fail(grpc.StatusCode.UNAVAILABLE, "going away", times=10)
    try:
        output = "".join(process.communicate(timeout=30))
    finally:
        peer.delay = 0
        peer.failures.clear()
        process.kill()
    assert process.returncode == 1
    assert "going away" in output and "Nothing was written" in output and "Traceback" not in output
    assert not list(tmp_path.iterdir())


def test_nobody_listens(folder):
    done = run(folder / "red.jpg", "--server=localhost:1", "--timeout=5")
    assert done.returncode == 1
    assert "UNAVAILABLE (localhost:1): no gRPC server answers there; is it running" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "Give pictures or folders"),
        (["--list", "a.jpg"], "Give pictures or folders"),
        (["a.jpg", "--model_name=a,b"], "Only --list takes several names"),
        (["a.jpg", "--output=a.txt"], "must end in .csv or .json"),
        (["a.jpg", "--output=/no/such/folder/a.csv"], "does not exist"),
        (["a.jpg", "--server=localhost"], "'localhost' is no server address; give HOST:PORT"),
        (["a.jpg", "--labels=none.txt"], "none.txt"),
    ],
)
def test_flags_that_do_not_fit(arguments, text):
    done = run(*arguments)
    assert done.returncode != 0
    assert text in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_without_pictures(peer, tmp_path):
    done = run(tmp_path, peer=peer)
    assert done.returncode == 1 and "holds no picture (.bmp, .gif, .jpeg, .jpg, .png)" in done.stderr
