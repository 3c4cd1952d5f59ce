"""Interpreters that requests take turns on, in the order in which they came."""

import collections
import threading
from collections.abc import Sequence

from keras_mobilenet.runtime.session import Session
from serving.server import status


class SessionPool:
    """Hands out sessions, each to one request at a time.

    One that comes back goes straight to the request that has waited longest. A `queue.Queue` lets a request that comes
    just then have it, and sends the one that was woken to the end of the line.

    Args:
        sessions: The sessions; of those that are free the one used last goes out first: its memory is in the caches.
    """

    def __init__(self, sessions: Sequence[Session]) -> None:
        self._lock = threading.Lock()
        self._free = list(sessions)  # Empty while anyone waits.
        self._waiting: collections.deque[_Waiter] = collections.deque()

    def take(self, timeout: float | None) -> Session:
        """Waits for a session; `give` returns it.

        Args:
            timeout: Seconds, None without end.

        Raises:
            ServingError: DEADLINE_EXCEEDED when none was free in time.
        """
        with self._lock:
            if self._free:
                return self._free.pop()
            waiter = _Waiter()
            self._waiting.append(waiter)
        if not waiter.woken.acquire(timeout=-1 if timeout is None else min(timeout, threading.TIMEOUT_MAX)):
            with self._lock:
                if waiter.session is None:  # Else it came at the last moment.
                    self._waiting.remove(waiter)
                    raise status.deadline_exceeded("No interpreter was free before the deadline")
        return waiter.session

    def give(self, session: Session) -> None:
        """Takes a session back."""
        with self._lock:
            if not self._waiting:
                self._free.append(session)
                return
            waiter = self._waiting.popleft()
            waiter.session = session
            waiter.woken.release()

    def clear(self) -> None:
        """Lets the sessions go; nobody uses one any more."""
        with self._lock:
            self._free.clear()


class _Waiter:
    """A request in line."""

    def __init__(self) -> None:
        self.session: Session | None = None
        self.woken = threading.Lock()
        self.woken.acquire()
