"""A server that ends: what a signal handler may do to it, and what becomes of requests."""

import sys
import threading
import time

import numpy as np
import pytest
from tensorflow_serving.apis import get_model_status_pb2

from serving.server import config, server
from tests.serving.server import tiny_models
from tests.serving.server.calls import Clients, predict_request, spec


@pytest.mark.parametrize("point", range(1, 8))
def test_a_signal_at_any_line_of_the_wait_ends_it(tmp_path, point):
    waiting = server.ModelServer(config.Options(model_base_path=str(tmp_path)))

    def wait():
        lines = 0

        def interrupt(frame, event, argument):
            nonlocal lines
            lines += event == "line"
            if lines == point:
                sys.settrace(None)
                waiting.request_stop()  # As a handler does: in the waiting thread itself, between two lines.
                return None
            return interrupt

        sys.settrace(interrupt)
        waiting.wait()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    waiting.stop()


def test_requests_that_wait_for_the_one_thread_are_answered_and_others_do_not_wait_for_it(tmp_path):
    tiny_models.slow(tmp_path / "1", rounds=120_000)
    options = config.Options(grpc_port=0, model_name="slow", model_base_path=str(tmp_path), grpc_max_threads=1)
    ending = server.ModelServer(options)
    ending.start()
    clients = Clients(ending.grpc_port, 0)
    request = predict_request(spec("slow"), x=np.float32([1, 2]))
    (alone,) = clients.prediction.Predict(request).outputs
    calls = [clients.prediction.Predict.future(request) for _ in range(8)]
    time.sleep(0.3)
    begun = sum(call.done() for call in calls)
    clients.models.GetModelStatus(get_model_status_pb2.GetModelStatusRequest(model_spec=spec("slow")), timeout=20)
    assert sum(call.done() for call in calls) < 7, "the model is too fast for this test"
    ending.stop()
    assert begun < 8
    assert [list(call.result(timeout=0).outputs) for call in calls] == [[alone]] * 8
    clients.channel.close()
