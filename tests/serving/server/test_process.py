"""The program itself: `python -m serving.server` as a process, its messages, signals and exit codes."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import grpc
import numpy as np
import pytest
import tensorflow as tf

from tests.serving.server import tiny_models
from tests.serving.server.calls import Clients, post, predict, spec

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
X = np.array([1.0, 2.0], np.float32)
SECONDS = 240  # Importing TensorFlow takes a while on a busy machine.


class Process:
    """A server process and what it wrote to standard error."""

    def __init__(self, *flags: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "serving.server", *flags],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        self.lines.extend(iter(self.process.stderr.readline, ""))

    @property
    def text(self) -> str:
        return "".join(self.lines)

    def wait_for(self, pattern: str) -> re.Match:
        deadline = time.monotonic() + SECONDS
        while not (match := re.search(pattern, self.text)):
            assert time.monotonic() < deadline, self.text
            assert self.process.poll() is None or re.search(pattern, self.text), self.text
            time.sleep(0.05)
        return match

    def clients(self) -> Clients:
        rest = self.wait_for(r"Exporting HTTP/REST API at:localhost:(\d+) \.\.\.")[1]
        return Clients(self.wait_for(r"Running gRPC ModelServer at 0\.0\.0\.0:(\d+) \.\.\.")[1], rest)

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        code = self.process.wait(SECONDS)
        self._reader.join()
        return code


@pytest.fixture
def run():
    processes = []

    def run_one(*flags):
        processes.append(Process(*flags))
        return processes[-1]

    yield run_one
    for started in processes:
        if started.process.poll() is None:
            started.process.kill()
            started.process.wait()


FREE_PORTS = ("--port=0", "--rest_api_port=-1", "--file_system_poll_wait_seconds=0.05")


def test_starts_quietly_answers_and_ends(run, tmp_path):
    tiny_models.half_plus_two(tmp_path / "1")
    server = run(*FREE_PORTS, f"--model_base_path={tmp_path}", "--model_name=half")
    clients = server.clients()
    assert predict(clients, spec(), x=X).outputs["y"].float_val == [2.5, 3.0]
    assert post(f"{clients.url}/v1/models/half:predict", {"instances": [1.0]}) == (200, {"predictions": [2.5]})
    for body in (b"{", b"\xff", b""):
        assert post(f"{clients.url}/v1/models/half:predict", body)[0] == 400
    assert predict(clients, spec(), x=X).outputs["y"].float_val == [2.5, 3.0]
    assert server.end() == 0
    messages = [line.split("] ", 1)[1].split(" ")[0] for line in server.lines]
    assert messages == ["Successfully", "Running", "Exporting", "Draining:", "Successfully"], server.text


def test_the_number_of_tensorflows_threads_is_the_flags(run, tmp_path):
    tiny_models.half_plus_two(tmp_path / "1")

    def threads(count: int) -> int:
        server = run(*FREE_PORTS, f"--model_base_path={tmp_path}", f"--tensorflow_inter_op_parallelism={count}")
        server.clients()
        names = [task.read_text().strip() for task in Path(f"/proc/{server.process.pid}/task").glob("*/comm")]
        assert server.end() == 0
        return names.count("tf_Compute")

    assert threads(9) == threads(2) + 7


def test_requests_under_way_are_answered_before_the_end(run, tmp_path):
    tiny_models.slow(tmp_path / "1", rounds=300_000)
    server = run(*FREE_PORTS, f"--model_base_path={tmp_path}", "--model_name=slow")
    clients = server.clients()
    start = time.monotonic()
    predict(clients, spec("slow"), x=X)
    alone = time.monotonic() - start
    answers = []

    def ask_rest():
        answers.append(post(f"{clients.url}/v1/models/slow:predict", {"instances": [1.0]})[0])

    def ask_grpc():
        answers.append(len(predict(clients, spec("slow"), x=X).outputs["y"].float_val))

    threads = [threading.Thread(target=ask) for ask in (ask_rest, ask_grpc)]
    for thread in threads:
        thread.start()
    time.sleep(alone / 4)
    assert server.end() == 0
    for thread in threads:
        thread.join()
    assert sorted(answers) == [2, 200]
    with pytest.raises(grpc.RpcError):
        predict(clients, spec("slow"), x=X, timeout=1)


def test_hot_swap_of_saved_models_under_load(run, tmp_path):
    tiny_models.half_plus_two(tmp_path / "m" / "1", offset=1.0)
    server = run(*FREE_PORTS, f"--model_base_path={tmp_path / 'm'}", "--model_name=m")
    clients = server.clients()
    stop, failures, seen = threading.Event(), [], set()

    def ask():
        while not stop.is_set():
            try:
                response = predict(clients, spec("m"), x=np.zeros(1, np.float32), timeout=20)
                version = response.model_spec.version.value
                seen.add(version)
                if response.outputs["y"].float_val != [float(version)]:
                    failures.append((version, response.outputs["y"].float_val))
            except grpc.RpcError as error:
                failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for version in range(2, 6):
        tiny_models.half_plus_two(tmp_path / "unfinished" / str(version), offset=float(version))
        (tmp_path / "unfinished" / str(version)).rename(tmp_path / "m" / str(version))
        server.wait_for(rf"Successfully unloaded servable version {{name: m version: {version - 1}}}")
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert {1, 5} <= seen
    assert server.end() == 0


def test_waits_for_a_missing_base_path_and_can_be_stopped_meanwhile(run, tmp_path):
    base = tmp_path / "later"
    server = run(*FREE_PORTS, f"--model_base_path={base}", "--model_name=m")
    server.wait_for(f"Could not find base path {base} for servable m")
    tiny_models.half_plus_two(tmp_path / "new" / "1")
    (tmp_path / "new").rename(base)
    assert predict(server.clients(), spec("m"), x=X).model_spec.version.value == 1
    assert server.end() == 0
    assert server.text.count("Could not find base path") == 1
    (tmp_path / "empty").mkdir()
    empty = run(*FREE_PORTS, f"--model_base_path={tmp_path / 'empty'}")
    empty.wait_for("Did you forget to name your leaf directory as a number")
    assert empty.end(signal.SIGINT) == 0


def test_taken_ports_and_models_that_fail(run, tmp_path):
    (tmp_path / "broken" / "1").mkdir(parents=True)
    tiny_models.half_plus_two(tmp_path / "half" / "1")
    half = (f"--model_base_path={tmp_path / 'half'}", "--model_name=m")
    with contextlib.closing(socket.socket()) as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = taken.getsockname()[1]
        grpc_only = run("--port=0", f"--rest_api_port={port}", *half)
        failing = {
            f"INVALID_ARGUMENT: Failed to BuildAndStart gRPC server at 0.0.0.0:{port}": run(f"--port={port}", *half),
            "UNKNOWN: 1 model(s) did not become available: {{default due to error: NOT_FOUND: Could not find": run(
                "--port=0", f"--model_base_path={tmp_path / 'broken'}", "--max_num_load_retries=0"
            ),
        }
        for message, server in failing.items():
            assert server.process.wait(SECONDS) == 255
            server._reader.join()
            assert f"Failed to start server. Error: {message}" in server.text
        grpc_port = grpc_only.wait_for(r"Running gRPC ModelServer at 0\.0\.0\.0:(\d+)")[1]
        grpc_only.wait_for(f"Failed to start HTTP Server at localhost:{port}")
        assert predict(Clients(grpc_port, 0), spec("m"), x=X).model_spec.version.value == 1
        assert grpc_only.end(signal.SIGINT) == 0


def test_flags(run, tmp_path):
    tiny_models.half_plus_two(tmp_path / "1")
    socket_path = tmp_path / "grpc.sock"
    server = run(
        *FREE_PORTS,
        f"--model_base_path={os.path.relpath(tmp_path, ROOT)}",
        "--use_alts_credentials",
        "--noenable_profiler",
        "--xla_cpu_compilation_enabled=true",
        f"--grpc_socket_path={socket_path}",
        "--request_log=-",
        "--tensorflow_session_parallelism=1",
    )
    server.clients()
    with grpc.insecure_channel(f"unix:{socket_path}") as channel:
        from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

        request = predict_pb2.PredictRequest(model_spec=spec("default"), inputs={"x": tf.make_tensor_proto(X)})
        response = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request)
    assert response.model_spec.name == "default"
    server.wait_for('"api": "Predict", "model": "default"')
    assert "--use_alts_credentials is known but not honoured: use --ssl_config_file" in server.text
    assert "--xla_cpu_compilation_enabled is known but not honoured" in server.text
    assert "enable_profiler" not in server.text
    assert server.end() == 0
    version = run("--version")
    out, _ = version.process.communicate(timeout=SECONDS)
    assert version.process.returncode == 0
    assert f"TensorFlow Library: {tf.__version__}" in out
