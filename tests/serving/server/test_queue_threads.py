"""Threads with completion queues of their own answer as grpcio's own server does."""

import os
import threading
import time
from concurrent import futures

import grpc
import numpy as np
import pytest
from google.protobuf import wrappers_pb2

from serving.server import queue_threads, status
from tests.serving.server import tiny_models
from tests.serving.server.calls import predict, spec

METHOD = "/package.Service/Method"
CODES = grpc.StatusCode


class Service:
    """A method whose behaviour the request names, served by this module or by grpcio's own server."""

    def __init__(self, on_queues=True, threads=2, pinned=False, options=()):
        self.free = threading.Event()
        self.begun = threading.Semaphore(0)
        self.seen, self.active = [], []
        handler = grpc.unary_unary_rpc_method_handler(
            self.answer, wrappers_pb2.StringValue.FromString, wrappers_pb2.StringValue.SerializeToString
        )
        self.server = grpc.server(
            futures.ThreadPoolExecutor(threads), options=(*queue_threads.CHANNEL_ARGUMENTS, *options)
        )
        self.threads = None
        if on_queues:
            self.threads = queue_threads.QueueThreads(self.server, METHOD, handler, threads, pinned)
        else:
            handlers = grpc.method_handlers_generic_handler("package.Service", {"Method": handler})
            self.server.add_generic_rpc_handlers((handlers,))
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.server.start()
        if self.threads:
            self.threads.start()

    def answer(self, request, context):
        self.seen.append(request.value)
        match request.value:
            case "abort":
                context.abort(CODES.OUT_OF_RANGE, "too far: \u00e9")
            case "fail":
                raise ValueError("a fault of the handler's")
            case "wrong type":
                return "no message"
            case "wait":
                self.begun.release()
                self.free.wait(30)
            case "watch":
                self.begun.release()
                self.active.append(context.is_active())
                deadline = time.monotonic() + 30
                while context.is_active() and time.monotonic() < deadline:
                    time.sleep(0.005)
                self.active.append(context.is_active())
                self.begun.release()
            case "deadline":
                return wrappers_pb2.StringValue(value=str(context.time_remaining()))
            case "peer":
                return wrappers_pb2.StringValue(value=context.peer().rpartition(":")[0])
            case "cores":
                self.begun.release()
                self.free.wait(30)
                return wrappers_pb2.StringValue(value=str(sorted(os.sched_getaffinity(0))))
        return wrappers_pb2.StringValue(value=request.value.upper())

    def method(self, channel):
        return channel.unary_unary(
            METHOD, wrappers_pb2.StringValue.SerializeToString, wrappers_pb2.StringValue.FromString
        )

    def await_begun(self, count=1):
        for _ in range(count):
            assert self.begun.acquire(timeout=20)

    def stop(self):
        self.free.set()
        self.server.stop(None).wait()


@pytest.fixture
def serve():
    services = []

    def start(*arguments, **named):
        services.append(Service(*arguments, **named))
        return services[-1]

    yield start
    for service in services:
        service.stop()


@pytest.fixture
def connect():
    channels = []

    def open_to(service):
        channels.append(grpc.insecure_channel(service.address, [("grpc.use_local_subchannel_pool", 1)]))
        return channels[-1]

    yield open_to
    for channel in channels:
        channel.close()


def sent(value):
    return wrappers_pb2.StringValue(value=value).SerializeToString()


def outcome(call):
    try:
        return CODES.OK, call()
    except grpc.RpcError as error:
        return error.code(), error.details()


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (sent("right"), CODES.OK),
        (sent("x" * 200_000), CODES.OK),
        (sent("abort"), CODES.OUT_OF_RANGE),
        (sent("fail"), CODES.UNKNOWN),
        (sent("wrong type"), CODES.INTERNAL),
        (sent("peer"), CODES.OK),
        (b"\xff\xff", CODES.INTERNAL),
        (b"", CODES.OK),
        (sent("y" * 400_000), CODES.RESOURCE_EXHAUSTED),
    ],
    ids=["right", "long", "abort", "fail", "wrong type", "peer", "not a message", "empty", "too long"],
)
@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_answers_and_failures_are_those_of_grpcios_own_server(serve, connect, message, code, compression):
    options = [("grpc.max_receive_message_length", 300_000)]
    found = []
    for on_queues in (True, False):
        call = connect(serve(on_queues, options=options)).unary_unary(METHOD)
        found.append(outcome(lambda call=call: call(message, timeout=20, compression=compression)))
    assert found[0] == found[1]
    assert found[0][0] is code


@pytest.mark.parametrize("messages", [0, 2])
def test_a_client_that_does_not_send_one_message_gets_what_grpcios_own_server_says(serve, connect, messages):
    found = []
    for on_queues in (True, False):
        service = serve(on_queues)
        call = connect(service).stream_unary(METHOD)
        found.append(outcome(lambda call=call: call(iter([sent("right")] * messages), timeout=20)))
        assert service.seen == ["right"] * (messages > 0)
    (code, said), (peers_code, peer_said) = found
    assert code is peers_code is (CODES.OK if messages else CODES.UNIMPLEMENTED)
    if not messages:
        assert said == f'"{METHOD}" requires exactly one request message.'
        assert peer_said.endswith(said.partition('"')[2].partition('"')[2])  # Its name of the method is Python's repr.


def test_a_thread_goes_on_after_each_kind_of_failure(serve, connect):
    service = serve(threads=1)
    method = service.method(connect(service))
    for value in ("abort", "fail", "wrong type"):
        with pytest.raises(grpc.RpcError):
            method(wrappers_pb2.StringValue(value=value), timeout=20)
        assert method(wrappers_pb2.StringValue(value="on"), timeout=20).value == "ON"


def test_a_thread_goes_on_after_an_answer_that_grpc_does_not_take(serve, connect, monkeypatch, caplog):
    service = serve(threads=1)
    method = service.method(connect(service))
    answer = queue_threads.Rpc.answer

    def refuse(rpc, *arguments):
        monkeypatch.setattr(queue_threads.Rpc, "answer", answer)
        raise ValueError("Failed grpc_call_start_batch")

    monkeypatch.setattr(queue_threads.Rpc, "answer", refuse)
    with pytest.raises(grpc.RpcError, match="CANCELLED"):
        method(wrappers_pb2.StringValue(value="lost"), timeout=20)
    assert method(wrappers_pb2.StringValue(value="on"), timeout=20).value == "ON"
    assert f"gRPC could not answer {METHOD}" in caplog.text


def test_other_methods_are_those_of_the_server(serve, connect):
    service = serve()
    code, details = outcome(lambda: connect(service).unary_unary("/package.Service/Other")(b"", timeout=20))
    assert (code, details) == (CODES.UNIMPLEMENTED, "Method not found!")


def test_the_clients_deadline_is_known(serve, connect):
    service = serve()
    method = service.method(connect(service))
    request = wrappers_pb2.StringValue(value="deadline")
    assert 15 < float(method(request, timeout=20).value) < 21  # gRPC rounds it up.
    assert float(method(request).value) > 1e8  # To the end of time.


@pytest.mark.parametrize("on_queues", [True, False])
@pytest.mark.parametrize("leaves", ["cancel", "timeout", "close"])
def test_a_handler_sees_that_its_client_has_gone(serve, connect, leaves, on_queues):
    service = serve(on_queues, threads=1)
    channel = connect(service)
    call = service.method(channel).future(
        wrappers_pb2.StringValue(value="watch"), timeout=0.5 if leaves == "timeout" else 60
    )
    service.await_begun()
    if leaves == "cancel":
        call.cancel()
    elif leaves == "close":
        channel.close()
    service.await_begun()
    assert service.active == [True, False]
    assert service.method(connect(service))(wrappers_pb2.StringValue(value="on"), timeout=20).value == "ON"


def test_requests_wait_for_a_thread_and_one_whose_client_has_gone_is_not_handled(serve, connect):
    service = serve(threads=2)
    method = service.method(connect(service))
    held = [method.future(wrappers_pb2.StringValue(value="wait")) for _ in range(2)]
    service.await_begun(2)
    waiting = [method.future(wrappers_pb2.StringValue(value=f"waiting {i}")) for i in range(10_500)]
    gone = method.future(wrappers_pb2.StringValue(value="gone"))
    with pytest.raises(grpc.RpcError, match="DEADLINE_EXCEEDED"):
        method(wrappers_pb2.StringValue(value="late"), timeout=0.2)
    gone.cancel()
    last = method.future(wrappers_pb2.StringValue(value="last"))
    assert service.seen == ["wait"] * 2
    service.free.set()
    assert [call.result(timeout=60).value for call in held] == ["WAIT"] * 2
    assert [call.result(timeout=60).value for call in waiting] == [f"WAITING {i}" for i in range(10_500)]
    assert last.result(timeout=60).value == "LAST"
    assert not {"gone", "late"} & set(service.seen)


def test_a_server_that_stops_answers_what_waited_and_its_threads_end(serve, connect):
    before = set(threading.enumerate())
    service = serve(threads=2)
    method = service.method(connect(service))
    held = [method.future(wrappers_pb2.StringValue(value="wait")) for _ in range(2)]
    service.await_begun(2)
    waiting = [method.future(wrappers_pb2.StringValue(value=f"waiting {i}")) for i in range(200)]
    time.sleep(0.5)  # Until the server has them.
    service.threads.take_all()
    stopped = service.server.stop(60)
    assert not stopped.wait(0.2)
    service.free.set()
    assert stopped.wait(60)
    assert [call.result().value for call in held + waiting] == ["WAIT"] * 2 + [f"WAITING {i}" for i in range(200)]
    for thread in set(threading.enumerate()) - before:
        if thread.name.startswith("predict_"):
            thread.join(20)
            assert not thread.is_alive()


def test_a_server_that_need_not_wait_cancels_what_is_under_way(serve, connect):
    service = serve(threads=1)
    call = service.method(connect(service)).future(wrappers_pb2.StringValue(value="watch"))
    service.await_begun()
    service.threads.take_all()
    service.server.stop(0.2).wait(20)
    service.await_begun()
    assert service.active == [True, False]
    assert call.code() in (CODES.CANCELLED, CODES.UNAVAILABLE)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot keep threads on cores")
@pytest.mark.parametrize("pinned", [True, False])
def test_pinned_threads_have_a_core_each_and_others_have_all(serve, connect, pinned):
    cores = sorted(os.sched_getaffinity(0))
    service = serve(threads=len(cores), pinned=pinned)
    method = service.method(connect(service))
    calls = [method.future(wrappers_pb2.StringValue(value="cores")) for _ in cores]
    service.await_begun(len(cores))
    service.free.set()
    expected = [str([core]) for core in cores] if pinned else [str(cores)] * len(cores)
    assert sorted(call.result(timeout=20).value for call in calls) == sorted(expected)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot keep threads on cores")
def test_more_pinned_threads_than_cores_are_refused(serve):
    cores = len(os.sched_getaffinity(0))
    with pytest.raises(status.ServingError, match=f"--grpc_max_threads={cores + 1}.*--grpc_max_threads={cores} or"):
        serve(threads=cores + 1, pinned=True)


def test_this_grpcio_has_what_it_takes():
    assert queue_threads.available(grpc.server(futures.ThreadPoolExecutor(1)))


@pytest.mark.parametrize("lacks", ["ReceiveMessageOperation", "CompletionQueue", "CompletionType"])
def test_a_grpcio_without_it_is_noticed(monkeypatch, lacks):
    server = grpc.server(futures.ThreadPoolExecutor(1))
    monkeypatch.delattr(queue_threads.cygrpc, lacks)
    assert not queue_threads.available(server)


def test_without_it_grpcios_own_server_answers(start, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(queue_threads, "available", lambda server: False)
    tiny_models.half_plus_two(tmp_path / "1")
    clients = start(model_name="half", model_base_path=str(tmp_path))
    assert f"grpcio {grpc.__version__} cannot answer Predict on completion queues" in caplog.text
    assert list(predict(clients, spec(), x=np.float32([2])).outputs["y"].float_val) == [3]
