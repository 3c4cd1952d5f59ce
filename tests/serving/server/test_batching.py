"""The batch scheduler, and batching over both faces of a running server."""

import concurrent.futures
import itertools
import re
import threading
import time
import urllib.request
from types import MappingProxyType

import grpc
import numpy as np
import pytest
import tensorflow as tf

from serving.server import batch_scheduler, batching, batching_parameters, config, servable, status
from serving.server.batching_parameters import BatchingParameters
from tests.serving.server import tiny_models
from tests.serving.server.calls import post, predict, spec

CALL = servable.Call()


class Doubler:
    """Doubles its input and remembers the batches; rows of -1 fail, and `gate` holds it up."""

    signatures = MappingProxyType({})

    def __init__(self) -> None:
        self.batches = []
        self.gate = threading.Event()
        self.gate.set()

    def run(self, signature, inputs, outputs, call):
        assert self.gate.wait(10)
        call.remaining()
        (x,) = inputs.values()
        self.batches.append(x)
        if x.dtype.kind == "f" and (x == -1).any():
            raise status.invalid_argument("a row of -1")
        return [x * 2]

    def close(self):
        pass


@pytest.fixture
def make():
    schedulers = []

    def make_one(wrapped, **parameters):
        chosen = BatchingParameters(**{"num_batch_threads": 1, **parameters})
        schedulers.append(batch_scheduler.BatchScheduler(chosen.num_batch_threads))
        return batching.BatchingServable(wrapped, "m", chosen, schedulers[-1])

    yield make_one
    for scheduler in schedulers:
        scheduler.stop()


def ask(tested, *arrays, call=CALL, stagger=0.02):
    """Sends requests at the same time, in order; returns their futures."""
    pool = concurrent.futures.ThreadPoolExecutor(len(arrays))
    futures = []
    for array in arrays:
        futures.append(pool.submit(tested.run, "s", {"x": np.asarray(array, np.float32)}, ("y",), call))
        time.sleep(stagger)
    pool.shutdown(wait=False)
    return futures


def occupy(doubler, tested):
    """Keeps the only batch thread busy, so that what comes next has to queue."""
    doubler.gate.clear()
    return ask(tested, [0])


def test_requests_join_and_every_client_gets_its_own_rows(make):
    doubler = Doubler()
    tested = make(doubler, max_batch_size=8)
    first = occupy(doubler, tested)
    futures = ask(tested, [1, 2], [3], [4, 5, 6])
    doubler.gate.set()
    assert [future.result(5)[0].tolist() for future in first + futures] == [[0], [2, 4], [6], [8, 10, 12]]
    assert [len(batch) for batch in doubler.batches] == [1, 6]


def test_batches_close_at_max_batch_size(make):
    doubler = Doubler()
    tested = make(doubler, max_batch_size=4)
    first = occupy(doubler, tested)
    futures = ask(tested, [1, 2], [3, 4, 5], [6])
    doubler.gate.set()
    assert [future.result(5)[0].tolist() for future in first + futures] == [[0], [2, 4], [6, 8, 10], [12]]
    assert [len(batch) for batch in doubler.batches] == [1, 2, 4]


def test_padding_to_allowed_sizes(make):
    doubler = Doubler()
    tested = make(doubler, max_batch_size=8, allowed_batch_sizes=(2, 4, 8))
    first = occupy(doubler, tested)
    futures = ask(tested, [1, 2], [3])
    doubler.gate.set()
    assert [future.result(5)[0].tolist() for future in first + futures] == [[0], [2, 4], [6]]
    assert [batch.tolist() for batch in doubler.batches] == [[0, 0], [1, 2, 3, 3]]


def test_an_open_batch_waits_for_the_timeout(make):
    doubler = Doubler()
    tested = make(doubler, max_batch_size=4, batch_timeout=0.3)
    start = time.monotonic()
    futures = ask(tested, [1], [2])
    assert [future.result(5)[0].tolist() for future in futures] == [[2], [4]]
    assert time.monotonic() - start >= 0.3
    start = time.monotonic()
    futures = ask(tested, [1, 2], [3, 4])
    assert [future.result(5)[0].tolist() for future in futures] == [[2, 4], [6, 8]]
    assert time.monotonic() - start < 0.3
    assert [len(batch) for batch in doubler.batches] == [2, 4]


def test_a_full_queue_answers_unavailable(make):
    doubler = Doubler()
    tested = make(doubler, max_batch_size=1, max_enqueued_batches=2)
    first = occupy(doubler, tested)
    futures = ask(tested, [1], [2])
    with pytest.raises(status.ServingError, match="to which this task was submitted is full"):
        tested.run("s", {"x": np.ones(1, np.float32)}, ("y",), CALL)
    doubler.gate.set()
    assert [future.result(5)[0].tolist() for future in first + futures] == [[0], [2], [4]]


def test_one_bad_request_does_not_fail_its_neighbours(make):
    doubler = Doubler()
    tested = make(doubler, max_batch_size=8)
    first = occupy(doubler, tested)
    good, bad, other = ask(tested, [1], [-1], [2])
    doubler.gate.set()
    assert first[0].result(5)[0].tolist() == [0]
    assert good.result(5)[0].tolist() == [2]
    assert other.result(5)[0].tolist() == [4]
    with pytest.raises(status.ServingError, match="a row of -1"):
        bad.result(5)


def test_what_nobody_waits_for_any_more_is_not_run(make):
    doubler = Doubler()
    tested = make(doubler, max_batch_size=8)
    first = occupy(doubler, tested)
    (late,) = ask(tested, [5], call=servable.Call(time.monotonic() + 0.1))
    gone = threading.Event()
    (cancelled,) = ask(tested, [6], call=servable.Call(None, gone.is_set))
    with pytest.raises(status.ServingError, match="waiting in batching queue"):
        late.result(5)
    gone.set()
    doubler.gate.set()
    with pytest.raises(status.ServingError, match="cancelled"):
        cancelled.result(5)
    first[0].result(5)
    assert [batch.tolist() for batch in doubler.batches] == [[0]]


def test_large_requests_are_refused_or_split(make):
    doubler = Doubler()
    with pytest.raises(status.ServingError, match="Task size 5 is larger than maximum input batch size 2"):
        make(doubler, max_batch_size=2).run("s", {"x": np.arange(5)}, ("y",), CALL)
    tested = make(doubler, max_batch_size=2, split_large_requests=True)
    assert tested.run("s", {"x": np.arange(5)}, ("y",), CALL)[0].tolist() == [0, 2, 4, 6, 8]
    assert [len(batch) for batch in doubler.batches] == [2, 2, 1]


def test_different_inner_shapes_do_not_share_a_batch_unless_padded(make):
    for padded, sizes in ((False, [(1, 1), (1, 2), (1, 3)]), (True, [(1, 1), (2, 3)])):
        doubler = Doubler()
        tested = make(doubler, max_batch_size=8, pad_variable_length_inputs=padded)
        first = occupy_rows(doubler, tested)
        futures = ask(tested, [[1, 2]], [[3, 4, 5]])
        doubler.gate.set()
        results = [future.result(5)[0].tolist() for future in first + futures]
        assert results[1:] == [[[2, 4, 0]] if padded else [[2, 4]], [[6, 8, 10]]]
        assert [batch.shape for batch in doubler.batches] == sizes


def occupy_rows(doubler, tested):
    """Like `occupy`, with a row of one column."""
    doubler.gate.clear()
    return ask(tested, [[0]])


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"a": np.zeros(())}, "must have at least one dimension"),
        ({"a": np.zeros(1), "b": np.zeros(2)}, "must have equal 0th-dimension size"),
    ],
)
def test_requests_that_cannot_be_batched(make, inputs, message):
    with pytest.raises(status.ServingError, match=message):
        make(Doubler()).run("s", inputs, ("y",), CALL)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_batch_size { value: 8 } allowed_batch_sizes: 2 allowed_batch_sizes: 4", "last entry was 4; expected 8"),
        ("max_batch_size { value: 4 } allowed_batch_sizes: 4 allowed_batch_sizes: 2", "monotonically increasing"),
        ("num_batch_threads { value: 0 }", "num_batch_threads is 0; at least 1 is allowed"),
        ("max_batch_size: 8", "is not a BatchingParameters"),
    ],
)
def test_faulty_parameters(tmp_path, text, message):
    file = tmp_path / "batching.config"
    file.write_text(text)
    with pytest.raises(status.ServingError, match=message):
        batching_parameters.read(str(file))


def test_the_file_without_the_flag_fails(tmp_path):
    with pytest.raises(status.ServingError, match="without setting server_options"):
        batching_parameters.from_options(config.Options(batching_parameters_file=str(tmp_path / "b")))


def test_grpc_and_rest_share_batches(start, tmp_path):
    model = tmp_path / "half"
    tiny_models.half_plus_two(model / "1")
    file = tmp_path / "batching.config"
    file.write_text(
        "max_batch_size { value: 16 } batch_timeout_micros { value: 400000 } num_batch_threads { value: 2 }"
        "allowed_batch_sizes: 4 allowed_batch_sizes: 16"
    )
    monitoring = tmp_path / "monitoring.config"
    monitoring.write_text("prometheus_config { enable: true }")
    clients = start(
        model_base_path=str(model),
        model_name="batched_half",
        enable_batching=True,
        batching_parameters_file=str(file),
        monitoring_config_file=str(monitoring),
    )
    values = [np.array([i, i + 0.5], np.float32) for i in range(3)]
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        rpcs = [pool.submit(predict, clients, spec("batched_half"), x=value) for value in values]
        url = f"{clients.url}/v1/models/batched_half:predict"
        posts = [pool.submit(post, url, {"instances": value.tolist()}) for value in values]
    for rpc, value in zip(rpcs, values, strict=True):
        np.testing.assert_array_equal(tf.make_ndarray(rpc.result().outputs["y"]), value / 2 + 2)
    for sent, value in zip(posts, values, strict=True):
        assert sent.result() == (200, {"predictions": (value / 2 + 2).tolist()})
    page = metrics_page(clients)
    assert page['batching_session:processed_batch_size_bucket{model_name="batched_half",le="8"}'] == 0
    assert page['batching_session:processed_batch_size_bucket{model_name="batched_half",le="16"}'] == 1
    assert page['batching_session:queuing_latency_count{thread_pool_name=""}'] >= 6
    limits = [float(limit) for limit in re.findall(r'queuing_latency_bucket.*?le="([\d.e+]+)"', "\n".join(page))]
    np.testing.assert_allclose(limits, 100 * 1.2 ** np.arange(52), rtol=1e-5)
    with pytest.raises(grpc.RpcError) as caught:
        predict(clients, spec("batched_half"), x=np.zeros(17, np.float32))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "Task size 17 is larger than maximum input batch size 16" in caught.value.details()


def test_parameters_of_a_version_of_its_own(tmp_path):
    common = BatchingParameters(num_batch_threads=3)
    assert batching_parameters.for_version(tmp_path, common, per_model=False) is common
    assert batching_parameters.for_version(tmp_path, common, per_model=True) is None
    (tmp_path / "batching_params.pbtxt").write_text("max_batch_size { value: 5 } num_batch_threads { value: 9 }")
    own = batching_parameters.for_version(tmp_path, common, per_model=True)
    assert (own.max_batch_size, own.num_batch_threads) == (5, 3)


def metrics_page(clients):
    """Reads the metrics: value by name, without TF Serving's prefix."""
    with urllib.request.urlopen(f"{clients.url}/monitoring/prometheus/metrics") as response:
        lines = response.read().decode().splitlines()
    entries = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name.removeprefix(":tensorflow:serving:"): float(value) for name, value in entries}


def test_many_concurrent_requests_get_their_own_answers(make):
    doubler = Doubler()
    tested = make(doubler, max_batch_size=16, num_batch_threads=2, max_enqueued_batches=1000)
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        arrays = [np.arange(i, i + i % 4 + 1, dtype=np.float32) for i in range(300)]
        futures = [pool.submit(tested.run, "s", {"x": array}, ("y",), CALL) for array in arrays]
        for array, future in zip(arrays, futures, strict=True):
            np.testing.assert_array_equal(future.result(10)[0], array * 2)
    assert sum(map(len, doubler.batches)) == sum(map(len, arrays))
    assert all(len(batch) <= 16 for batch in doubler.batches)
    assert len(list(itertools.chain(doubler.batches))) < 300
