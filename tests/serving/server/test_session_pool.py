"""Requests take turns on sessions."""

import threading
import time

import pytest

from serving.server import session_pool, status


def wait_until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_who_came_first_goes_first_even_if_another_comes_as_a_session_is_given_back():
    pool = session_pool.SessionPool(["the only one"])
    taken, order, threads = pool.take(None), [], []

    def ask(number):
        session = pool.take(30)
        order.append(number)
        pool.give(session)

    for number in range(5):
        threads.append(threading.Thread(target=ask, args=(number,)))
        threads[-1].start()
        wait_until(lambda expected=number + 1: len(pool._waiting) == expected)
    pool.give(taken)
    pool.give(pool.take(30))  # at the end of the line
    assert order == [0, 1, 2, 3, 4]
    for thread in threads:
        thread.join()


def test_who_waits_too_long_leaves_the_line():
    pool = session_pool.SessionPool(["the only one"])
    taken = pool.take(0.01)
    for timeout in (0, 0.01):
        with pytest.raises(status.ServingError, match="No interpreter was free before the deadline"):
            pool.take(timeout)
    pool.give(taken)
    assert pool.take(1e12) == taken


def test_no_session_is_lost_or_used_twice_at_a_time():
    pool = session_pool.SessionPool(["a", "b"])
    in_use, most, late = [], [], []

    def ask():
        for _ in range(300):
            try:
                session = pool.take(1e-4)
            except status.ServingError:
                late.append(1)
                continue
            in_use.append(session)
            most.append(sorted(in_use))
            time.sleep(1e-5)
            in_use.remove(session)
            pool.give(session)

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert late and all(used in (["a"], ["b"], ["a", "b"]) for used in most)
    assert {pool.take(0.1), pool.take(0.1)} == {"a", "b"}
