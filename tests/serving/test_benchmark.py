"""The benchmark's own parts, and its figures on a tiny model: what it counts, and what it would not let pass."""

import json
import os
import subprocess
import sys
import time
from concurrent import futures
from pathlib import Path

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from serving.benchmark import answers, client, faults, models, orders, rows, table

SCORES = np.array([[0.2, 0.8], [0.7, 0.3]], np.float32)  # Of even and odd versions.


def response(version, scores):
    built = predict_pb2.PredictResponse(model_spec={"name": "mobilenet", "version": {"value": version}})
    built.outputs["probabilities"].CopyFrom(tf.make_tensor_proto(np.array([scores], np.float32)))
    return built


class Servicer(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Answers as version 2, and refuses every third request."""

    def __init__(self, scores):
        self.scores, self.requests = scores, 0

    def Predict(self, request, context):
        self.requests += 1
        if self.requests % 3 == 0:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "the third")
        return response(2, self.scores)


@pytest.fixture
def serve():
    servers = []

    def start(servicer):
        servers.append(grpc.server(futures.ThreadPoolExecutor(2)))
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(servicer, servers[-1])
        port = servers[-1].add_insecure_port("127.0.0.1:0")
        servers[-1].start()
        return f"127.0.0.1:{port}"

    yield start
    for server in servers:
        server.stop(None)


SHOW_SCHEDULING = """
import os, threading
from pathlib import Path
from serving.benchmark import scheduling
def show():
    facts = Path("/proc/thread-self/sched").read_text().splitlines()
    slices = [line.split()[-1] for line in facts if "slice" in line]
    print(os.sched_getscheduler(0) == os.SCHED_BATCH, *slices)
for ask in (scheduling.wait, lambda: scheduling.interrupt(1e-4)):
    ask()
    thread = threading.Thread(target=show)
    thread.start()
    thread.join()
"""


@pytest.mark.skipif(
    "se.slice" not in (Path("/proc/self/sched").read_text() if os.path.exists("/proc/self/sched") else ""),
    reason="this kernel does not show time slices",
)
def test_threads_of_clients_wait_for_the_server_or_interrupt_it():
    done = subprocess.run([sys.executable, "-c", SHOW_SCHEDULING], capture_output=True, text=True, check=True)
    waiting, interrupting = done.stdout.splitlines()
    assert waiting.startswith("True") and int(waiting.split()[1]) > 100_000
    assert interrupting.split() == ["False", "100000"]


def test_answers_are_held_against_the_version_that_they_name():
    expected = answers.Expected(SCORES)
    assert expected.matches(response(2, SCORES[0]).SerializeToString())
    assert expected.matches(response(3, SCORES[1] * 1.001).SerializeToString())
    assert not expected.matches(response(3, SCORES[0]).SerializeToString())
    assert not expected.matches(response(2, [0.2]).SerializeToString())


@pytest.mark.parametrize("loop", ["closed", "open"])
@pytest.mark.parametrize("right", [True, False])
def test_clients_count_answers_failures_and_wrong_ones(serve, loop, right):
    servicer = Servicer(SCORES[0] if right else SCORES[1])
    clients = client.Clients(serve(servicer), b"", answers.Expected(SCORES).matches, count=2)
    report = clients.closed_loop(0.3) if loop == "closed" else clients.open_loop(0.5, rate=60)
    answered = len(report["latencies"])
    assert answered + report["failed"] == servicer.requests > 6
    assert report["failed"] == servicer.requests // 3
    assert report["wrong"] == (0 if right else answered)
    assert report["errors"][0] == "RESOURCE_EXHAUSTED: the third"
    assert all(0 < seconds < 60 for seconds in report["latencies"])


def test_an_open_loop_keeps_its_rate_where_answers_are_slow(serve):
    class Slow(Servicer):
        def Predict(self, request, context):
            self.requests += 1
            time.sleep(0.2)
            return response(2, self.scores)

    servicer = Slow(SCORES[0])
    report = client.Clients(serve(servicer), b"", lambda answer: True, seed=1).open_loop(1.0, rate=20)
    # Two threads answer ten in that second; the rest waits, and its wait counts.
    assert 12 <= len(report["latencies"]) <= 30
    assert max(report["latencies"]) > 0.35


def test_a_child_that_does_not_start_is_an_error():
    with pytest.raises(RuntimeError, match=r"serving\.benchmark\.missing ended with 1"):
        orders.Child("serving.benchmark.missing")


def test_the_table_and_json_say_the_same():
    row = table.Row("cpu", "at most 1.20 times", (1.3, 1.1, 1.15), True, " times", "2 against 1 ms")
    assert "| cpu | at most 1.20 times | 1.15 times | 1.10 to 1.30 | yes | 2 against 1 ms |" in table.markdown([row])
    (entry,) = json.loads(table.as_json([row]))["rows"]
    assert entry["median"] == 1.15 and entry["values"] == [1.3, 1.1, 1.15] and entry["reached"] is True


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder that `models.make` fills, with models that answer the same scores to every picture."""
    made = models.Models(tmp_path_factory.mktemp("benchmark"))
    for remainder, scores in enumerate(SCORES):
        save(made.swapped(remainder), scores)
    save(made.served / "1", SCORES[0])
    np.save(made.picture, np.zeros((1, 8, 8, 3), np.uint8))
    answers.Expected(SCORES).save(made.expected)
    return made


def save(path, scores):
    class Module(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 3], tf.uint8)])
        def serve(self, image):
            return {"probabilities": tf.tile(tf.constant(scores[None]), [tf.shape(image)[0], 1])}

    module = Module()
    tf.saved_model.save(module, str(path), signatures={"serving_default": module.serve})


@pytest.mark.slow
def test_versions_are_swapped_under_load_without_a_failed_or_wrong_answer(made):
    row = faults.swaps(rows.Plan(made, clients=2, rounds=1, seconds=0.5, threads=2), 4)
    answered = int(row.detail.split()[0])
    assert answered > 100
    assert " answered, 0 failed, 0 wrong;" in row.detail
    assert row.figure.startswith("4 version swaps under load")


@pytest.mark.slow
def test_wrong_answers_do_not_pass(made, tmp_path):
    answers.Expected(SCORES[::-1]).save(tmp_path / "expected.npy")
    wrong = type("Wrong", (models.Models,), {"expected": tmp_path / "expected.npy"})(made.folder)
    row = faults.swaps(rows.Plan(wrong, clients=1, rounds=1, seconds=0.5, threads=1), 1)
    assert not row.reached and ", 0 wrong" not in row.detail


@pytest.mark.slow
def test_figures_of_a_tiny_model(made):
    plan = rows.Plan(made, clients=2, rounds=2, seconds=0.5, threads=1)
    for figure in (rows.saved_model_cpu, rows.throughput):
        row = figure(plan)
        assert len(row.values) == 2 and min(row.values) > 0
        assert row.reached == (row.median >= 1.5 if figure is rows.throughput else row.median <= 1.15)
