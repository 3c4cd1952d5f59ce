"""Records that wait for others until the page is asked for."""

import re
from concurrent import futures

from serving.server import metrics


def value(name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", metrics.page(), re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_the_page_has_every_record_however_few_or_many_came_from_however_many_threads():
    counter = ':tensorflow:serving:request_count{model_name="waiting",status="OK"}'
    total = ':tensorflow:serving:request_latency_sum{model_name="waiting",API="Predict",entrypoint="GRPC"}'
    count = total.replace("_sum", "_count")
    metrics.request("waiting", "Predict", "GRPC", "OK", 0.001)
    assert (value(counter), value(count), value(total)) == (1, 1, 1000)

    with futures.ThreadPoolExecutor(8) as pool:
        for _ in range(1000):
            pool.submit(metrics.request, "waiting", "Predict", "GRPC", "OK", 0.001)
    assert (value(counter), value(count), value(total)) == (1001, 1001, 1001000)


def test_the_last_depth_of_a_queue_is_what_the_page_shows():
    for depth in (3, 1, 2):
        metrics.queue_depth("waiting", depth)
    assert value(':tensorflow:serving:batching_session:enqueued_batches{model_name="waiting"}') == 2
