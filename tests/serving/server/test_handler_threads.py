"""The threads that run gRPC's handlers."""

import os
import threading

import pytest
from absl import logging

from serving.server import status
from serving.server.handler_threads import HandlerThreads

NO_PINNING = not hasattr(os, "sched_setaffinity")


def test_as_many_tasks_run_at_once_as_there_are_threads():
    together, ran = threading.Barrier(3), []
    threads = HandlerThreads(2, "test")
    for number in range(2):
        threads.submit(lambda number: (ran.append(number), together.wait(10)), number)
    threads.submit(ran.append, 2)
    together.wait(10)
    assert sorted(ran[:2]) == [0, 1]
    threads.shutdown()
    assert ran[2:] == [2]


def test_tasks_run_in_the_order_that_they_came_in():
    ran = []
    threads = HandlerThreads(1, "test")
    for number in range(100):
        threads.submit(ran.append, number)
    threads.shutdown()
    assert ran == list(range(100))


def test_a_task_that_fails_is_logged_and_its_thread_goes_on(monkeypatch):
    logged, done = [], []
    monkeypatch.setattr(logging, "exception", logged.append)
    threads = HandlerThreads(1, "test")
    threads.submit(lambda: 1 / 0)
    threads.submit(done.append, True)
    threads.shutdown()
    assert logged == ["A gRPC handler failed"]
    assert done == [True]


def test_a_callback_of_a_submitted_task_is_called():
    called = []
    threads = HandlerThreads(1, "test")
    threads.submit(lambda: None).add_done_callback(called.append)
    threads.shutdown()
    assert len(called) == 1


@pytest.mark.skipif(NO_PINNING, reason="this system cannot keep threads on cores")
def test_pinned_threads_have_a_core_each_and_others_have_all():
    cores = os.sched_getaffinity(0)

    def found(pinned):
        together, found = threading.Barrier(len(cores)), []
        threads = HandlerThreads(len(cores), "test", pinned)
        for _ in cores:
            threads.submit(lambda: (found.append(os.sched_getaffinity(0)), together.wait(10)))
        threads.shutdown()
        return sorted(found, key=sorted)

    assert found(pinned=True) == [{core} for core in sorted(cores)]
    assert found(pinned=False) == [cores] * len(cores)


@pytest.mark.skipif(NO_PINNING, reason="this system cannot keep threads on cores")
def test_more_pinned_threads_than_cores_are_refused():
    cores = len(os.sched_getaffinity(0))
    with pytest.raises(status.ServingError, match=f"--grpc_max_threads={cores + 1}.*--grpc_max_threads={cores} or"):
        HandlerThreads(cores + 1, "test", pinned=True)
