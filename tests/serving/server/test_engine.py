"""Versions, policies, labels, reload and hot swap."""

import contextlib
import dataclasses
import gc
import shutil
import threading
import time
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
from google.protobuf import text_format
from tensorflow_serving.apis import model_pb2
from tensorflow_serving.config import model_server_config_pb2

from serving.server import config, engine, servable, status, versions
from serving.server.lifecycle import State
from tests.serving.server.calls import spec

OPTIONS = config.Options(file_system_poll_wait_seconds=0.02, max_num_load_retries=0)


class FileServable:
    """Answers with the text of the version's file; the engine's tests need no TensorFlow model."""

    signatures = MappingProxyType({})

    def __init__(self, backend, path: Path) -> None:
        self.text = (path / "model.txt").read_text()
        self.closed = False
        backend.opened.append(self)

    def run(self, signature, inputs, outputs, call):
        assert not self.closed
        return [np.array(self.text)]

    def close(self):
        self.closed = True


class FileBackend:
    """Loads such files; one that says `broken` fails."""

    name = "file"

    def __init__(self) -> None:
        self.opened: list[FileServable] = []
        self.attempts = 0

    def accepts(self, path: Path) -> bool:
        return True

    def load(self, path: Path) -> FileServable:
        self.attempts += 1
        if (path / "model.txt").read_text() == "broken":
            raise ValueError("the file is broken")
        return FileServable(self, path)


def write(base: Path, version: str, text: str | None = None) -> None:
    """Writes a version under a temporary name and renames it, as an export does."""
    unfinished = base / f".{version}.unfinished"
    unfinished.mkdir(parents=True)
    (unfinished / "model.txt").write_text(text or version)
    unfinished.rename(base / version)


def models(text: str) -> model_server_config_pb2.ModelServerConfig:
    return text_format.Parse(f"model_config_list {{ {text} }}", model_server_config_pb2.ModelServerConfig())


def one(base: Path, more: str = "", name: str = "m") -> model_server_config_pb2.ModelServerConfig:
    return models(f"config {{ name: '{name}' base_path: '{base}' model_platform: 'tensorflow' {more} }}")


def states(tested: engine.Engine, name: str = "m") -> dict[int, State]:
    return {number: state for number, state, _ in tested.states(name)}


def eventually(condition, seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.01)


def answered_by(tested: engine.Engine, **wanted) -> str:
    with tested.acquire(spec("m", **wanted)) as model:
        return str(model.servable.run("", {}, (), servable.Call())[0])


@pytest.fixture
def run_engine():
    running = []

    def run_one(first, options=OPTIONS, backend=None, wait=True, **more):
        backend = backend or FileBackend()
        tested = engine.Engine([backend], options, **more)
        running.append(tested)
        added = tested.configure(first)
        tested.start()
        if wait:
            tested.wait_until_available(added)
        return tested

    yield run_one
    for tested in running:
        tested.stop()


def test_names_parse_as_integers_and_others_are_skipped(tmp_path):
    for name in ("00000123", "7", "v8", "9.tmp", "-1", "99999999999999999999"):
        (tmp_path / name).mkdir()
    (tmp_path / "10").write_text("a file")
    assert versions.find(tmp_path) == {123: tmp_path / "00000123", 7: tmp_path / "7"}


def test_a_directory_that_is_renamed_while_it_is_read_has_all_of_its_versions(tmp_path):
    base, away = tmp_path / "base", tmp_path / "away"
    for version in range(1, 9):
        (base / str(version)).mkdir(parents=True)
    (base / "9").symlink_to("8")
    end = threading.Event()

    def rename() -> None:
        while not end.is_set():
            base.rename(away)
            away.rename(base)

    renaming = threading.Thread(target=rename)
    renaming.start()
    found = []
    try:
        for _ in range(2000):
            with contextlib.suppress(FileNotFoundError):
                found.append(len(versions.find(base)))
    finally:
        end.set()
        renaming.join()
    assert len(found) > 100 and set(found) == {9}


@pytest.mark.parametrize(
    ("policy", "wanted"),
    [
        ("", {4}),
        ("model_version_policy { latest {} }", {4}),
        ("model_version_policy { latest { num_versions: 2 } }", {3, 4}),
        ("model_version_policy { latest { num_versions: 9 } }", {1, 2, 3, 4}),
        ("model_version_policy { all {} }", {1, 2, 3, 4}),
        ("model_version_policy { specific { versions: 1 versions: 3 versions: 77 } }", {1, 3}),
    ],
)
def test_version_policies(tmp_path, run_engine, policy, wanted):
    for version in "1234":
        write(tmp_path, version)
    tested = run_engine(one(tmp_path, policy))
    eventually(lambda: states(tested) == dict.fromkeys(wanted, State.AVAILABLE))
    assert answered_by(tested) == str(max(wanted))


def test_a_new_version_takes_over_and_the_old_one_is_closed(tmp_path, run_engine):
    backend = FileBackend()
    write(tmp_path, "1")
    tested = run_engine(one(tmp_path), backend=backend)
    write(tmp_path, "2")
    eventually(lambda: states(tested) == {1: State.END, 2: State.AVAILABLE})
    assert answered_by(tested) == "2"
    assert [opened.closed for opened in backend.opened] == [True, False]
    with pytest.raises(status.ServingError, match=r"Servable not found for request: Specific\(m, 1\)"):
        answered_by(tested, version=1)


def test_a_version_in_use_is_not_closed(tmp_path, run_engine):
    write(tmp_path, "1")
    tested = run_engine(one(tmp_path))
    with tested.acquire(spec("m")) as held:
        write(tmp_path, "2")
        eventually(lambda: states(tested).get(2) is State.AVAILABLE)
        eventually(lambda: states(tested)[1] is State.UNLOADING)
        assert answered_by(tested) == "2"
        time.sleep(0.1)
        assert not held.servable.closed
    eventually(lambda: states(tested)[1] is State.END)
    assert held.servable.closed


def test_a_version_that_fails_leaves_the_old_one_serving(tmp_path, run_engine):
    write(tmp_path, "1")
    tested = run_engine(one(tmp_path))
    write(tmp_path, "2", "broken")
    eventually(lambda: states(tested).get(2) is State.END)
    assert answered_by(tested) == "1"
    assert states(tested)[1] is State.AVAILABLE
    number, _, error = tested.states("m")[0]
    assert number == 2
    assert "the file is broken" in error.message
    write(tmp_path, "3")
    eventually(lambda: states(tested)[1] is State.END)
    assert answered_by(tested) == "3"


def test_warm_up_comes_before_the_swap_and_its_failure_fails_the_version(tmp_path, run_engine):
    release, seen = threading.Event(), []

    def prepare(model, path):
        seen.append(model.version)
        if model.version == 2:
            assert release.wait(5)
        if model.version == 3:
            raise status.invalid_argument("a bad record")
        return model.servable

    backend = FileBackend()
    write(tmp_path, "1")
    tested = run_engine(one(tmp_path), backend=backend, prepare=prepare)
    write(tmp_path, "2")
    eventually(lambda: 2 in seen)
    assert answered_by(tested) == "1"
    assert states(tested) == {1: State.AVAILABLE, 2: State.LOADING}
    release.set()
    eventually(lambda: answered_by(tested) == "2")
    write(tmp_path, "3")
    eventually(lambda: states(tested).get(3) is State.END)
    assert answered_by(tested) == "2"
    assert backend.opened[-1].closed


def test_loading_is_retried(tmp_path, run_engine):
    backend = FileBackend()
    write(tmp_path, "1", "broken")
    options = dataclasses.replace(OPTIONS, max_num_load_retries=2, load_retry_interval_micros=1000)
    tested = run_engine(one(tmp_path), options, backend, wait=False)
    with pytest.raises(status.ServingError, match=r"1 model\(s\) did not become available: .*the file is broken"):
        tested.wait_until_available(["m"])
    assert backend.attempts == 3
    assert states(tested) == {1: State.END}


def test_a_retry_can_succeed(tmp_path, run_engine):
    backend = FileBackend()
    write(tmp_path, "1", "broken")
    options = dataclasses.replace(OPTIONS, max_num_load_retries=1000, load_retry_interval_micros=1000)
    tested = run_engine(one(tmp_path), options, backend, wait=False)
    eventually(lambda: backend.attempts > 2)
    assert states(tested) == {1: State.LOADING}
    (tmp_path / "1" / "model.txt").write_text("mended")
    tested.wait_until_available(["m"])
    assert answered_by(tested) == "mended"


def test_deleted_versions_unload_and_come_back(tmp_path, run_engine):
    write(tmp_path, "1")
    write(tmp_path, "2")
    tested = run_engine(one(tmp_path))
    shutil.rmtree(tmp_path / "2")
    eventually(lambda: states(tested) == {1: State.AVAILABLE, 2: State.END})
    write(tmp_path, "2", "second life")
    eventually(lambda: states(tested)[2] is State.AVAILABLE)
    assert answered_by(tested) == "second life"


def test_a_missing_base_path_changes_nothing_and_is_waited_for(tmp_path, run_engine):
    base = tmp_path / "later"
    tested = run_engine(one(base), wait=False)
    time.sleep(0.1)
    with pytest.raises(status.ServingError, match=r"Latest\(m\)"):
        answered_by(tested)
    write(base, "1")
    tested.wait_until_available(["m"])
    base.rename(tmp_path / "away")
    time.sleep(0.1)
    assert answered_by(tested) == "1"


def test_reload_replaces_the_configuration(tmp_path, run_engine):
    write(tmp_path / "a", "1")
    write(tmp_path / "b", "1")
    tested = run_engine(one(tmp_path / "a"))
    added = tested.configure(one(tmp_path / "b", name="n"))
    assert added == ["n"]
    tested.wait_until_available(added)
    eventually(lambda: states(tested) == {1: State.END})
    with pytest.raises(status.ServingError, match=r"Servable not found for request: Latest\(m\)"):
        answered_by(tested)
    assert tested.configure(one(tmp_path / "a")) == ["m"]
    tested.wait_until_available(["m"])
    assert answered_by(tested) == "1"


REFUSED = {
    "duplicate": (
        "config { name: 'm' base_path: '/b' model_platform: 'tensorflow' }"
        "config { name: 'm' base_path: '/c' model_platform: 'tensorflow' }",
        "Illegal to list model m multiple times in config list",
    ),
    "relative": (
        "config { name: 'm' base_path: 'b' model_platform: 'tensorflow' }",
        "Expected model m to have an absolute path or URI; got base_path()=b",
    ),
    "no name": ("config { base_path: '/b' model_platform: 'tensorflow' }", "has no name"),
    "no platform": ("config { name: 'm' base_path: '/b' }", "Illegal setting neither"),
    "foreign platform": ("config { name: 'm' base_path: '/b' model_platform: 'caffe' }", "unsupported platform caffe"),
    "label without version": (
        "config { name: 'n' base_path: '/b' model_platform: 'tensorflow' version_labels { key: 'l' value: 2 } }",
        "Request to assign label to version 2 of model n, which is not currently available for inference",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refused_reload_changes_nothing(tmp_path, run_engine, case):
    text, message = REFUSED[case]
    write(tmp_path, "1")
    tested = run_engine(one(tmp_path))
    with pytest.raises(status.ServingError, match=message.replace("(", r"\(").replace(")", r"\)")):
        tested.configure(models(text))
    time.sleep(0.1)
    assert states(tested) == {1: State.AVAILABLE}
    assert answered_by(tested) == "1"
    assert not tested.knows("n")


def test_labels(tmp_path, run_engine):
    everything = "model_version_policy { all {} }"
    write(tmp_path, "1")
    write(tmp_path, "2")
    tested = run_engine(one(tmp_path, everything))
    eventually(lambda: states(tested) == {1: State.AVAILABLE, 2: State.AVAILABLE})
    label = "version_labels {{ key: '{}' value: {} }}".format
    tested.configure(one(tmp_path, everything + label("stable", 1) + label("canary", 2)))
    assert (answered_by(tested, label="stable"), answered_by(tested, label="canary")) == ("1", "2")
    with pytest.raises(status.ServingError, match="not currently available"):
        tested.configure(one(tmp_path, everything + label("stable", 3)))
    assert answered_by(tested, label="stable") == "1"
    tested.configure(one(tmp_path, everything + label("stable", 2)))
    assert answered_by(tested, label="stable") == "2"
    with pytest.raises(status.ServingError, match="Unrecognized servable version label: canary"):
        answered_by(tested, label="canary")


def test_labels_for_unavailable_versions_where_allowed(tmp_path, run_engine):
    write(tmp_path, "1")
    options = dataclasses.replace(OPTIONS, allow_version_labels_for_unavailable_models=True)
    labelled = "version_labels {{ key: 'stable' value: {} }}".format
    tested = run_engine(one(tmp_path, labelled(1)), options)
    assert answered_by(tested, label="stable") == "1"
    # Only unused labels may do so: one that is in use is not moved to a version that cannot answer.
    with pytest.raises(status.ServingError, match="not currently available"):
        tested.configure(one(tmp_path, labelled(2)))


def test_hot_swap_fails_no_request(tmp_path, run_engine):
    write(tmp_path, "1")
    backend = FileBackend()
    tested = run_engine(one(tmp_path), backend=backend)
    stop, failures, answers = threading.Event(), [], []

    def ask():
        while not stop.is_set():
            try:
                answers.append(int(answered_by(tested)))
            except Exception as error:
                failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for version in range(2, 12):
        write(tmp_path, str(version))
        eventually(lambda version=version: states(tested).get(version) is State.AVAILABLE)
    eventually(lambda: states(tested)[10] is State.END)
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert set(answers) <= set(range(1, 12))
    assert max(answers) == 11
    assert [opened.closed for opened in backend.opened] == [True] * 10 + [False]
    del backend.opened[:]
    gc.collect()


def test_an_empty_name_is_refused(tmp_path, run_engine):
    write(tmp_path, "1")
    tested = run_engine(one(tmp_path))
    with pytest.raises(status.ServingError, match="ModelSpec has no name specified"):
        tested.version_for(model_pb2.ModelSpec())
