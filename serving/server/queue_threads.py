"""Threads that answer one gRPC method, each with a completion queue of its own.

A server of grpcio's waits for everything on one thread, which wakes the handler's thread for each step of a request and
is woken by it. Here the thread that takes a request also waits for its message and sends its answer, as in gRPC's
asynchronous servers in C++. grpcio has no public name for that, so what is used of `cygrpc` is used nowhere else, and
`available` says whether an installed grpcio has it.
"""

import collections
import threading
import time
from typing import Any, NoReturn

import grpc
from absl import logging
from grpc._cython import cygrpc

from serving.server import scheduling

# What waits for a thread waits in gRPC's core, which by default cancels some of 1,000 requests, and those that have
# waited for 30 seconds. A client's own deadline is the better bound.
_UNLIMITED = 2**31 - 1
CHANNEL_ARGUMENTS = (
    ("grpc.server.max_pending_requests", _UNLIMITED),
    ("grpc.server.max_pending_requests_hard_limit", _UNLIMITED),
    ("grpc.server_max_unrequested_time_in_server", _UNLIMITED),
)
_TAKEN_AT_THE_END = 10_000
_CYGRPC = (
    "CompletionQueue",
    "CompletionType",
    "ReceiveCloseOnServerOperation",
    "ReceiveMessageOperation",
    "SendInitialMetadataOperation",
    "SendMessageOperation",
    "SendStatusFromServerOperation",
)
_SERVER = ("register_completion_queue", "register_method", "request_registered_call")
_NO_FLAGS = 0
_AT_ONCE = 0  # A deadline that has passed: the queue is looked at, and not waited for.
_LOOK_SECONDS = 0.01
_OK = grpc.StatusCode.OK.value[0]
_MESSAGE = object()  # The tag of a message; other events have tags that are called with them.


def available(server: grpc.Server) -> bool:
    """Says whether this grpcio lets a server's methods be answered in this way."""
    core = getattr(server, "_cy_server", None)
    return all(hasattr(cygrpc, name) for name in _CYGRPC) and all(hasattr(core, name) for name in _SERVER)


class Rpc:
    """A request's client: the part of `grpc.ServicerContext` that this server's handlers use."""

    def __init__(self, queue: "_Queue", call: Any, deadline: float) -> None:
        self._queue = queue
        self._call = call
        self._deadline = deadline
        self._lock = threading.Lock()
        self._look = time.monotonic() + _LOOK_SECONDS
        self._active = True
        self._answered = False

    def is_active(self) -> bool:
        """Says whether the client still waits; asks gRPC at most every 10 ms. Any thread may call it."""
        if time.monotonic() >= self._look:
            with self._lock:
                if not self._answered:
                    self._queue.look()
                    self._look = time.monotonic() + _LOOK_SECONDS
        return self._active

    def time_remaining(self) -> float:
        """Returns the seconds to the client's deadline, those to the end of time without one."""
        return max(self._deadline - time.time(), 0)

    def peer(self) -> str:
        """Returns the client's address."""
        return self._call.peer().decode()

    def abort(self, code: grpc.StatusCode, details: str) -> NoReturn:
        """Ends the handler; the client gets the code and the details."""
        raise _AbortError(code, details)

    def cancel(self) -> None:
        """Ends the request without an answer."""
        self._call.cancel()

    def receive(self) -> bytes | None:
        """Waits for the message; None where there is none.

        It is asked for after the client's end: of one that has gone while its request waited, that comes first.
        """
        self._call.start_server_batch((cygrpc.ReceiveCloseOnServerOperation(_NO_FLAGS),), self._ended)
        self._call.start_server_batch((cygrpc.ReceiveMessageOperation(_NO_FLAGS),), _MESSAGE)
        return self._queue.message()

    def answer(self, code: int, details: str, message: bytes | None) -> None:
        """Sends the answer, where it is not a failure with its message, and takes no further look at the client."""
        with self._lock:
            self._answered = True
        start = cygrpc.SendInitialMetadataOperation(None, _NO_FLAGS)
        end = cygrpc.SendStatusFromServerOperation(None, code, details.encode(), _NO_FLAGS)
        body = () if message is None else (cygrpc.SendMessageOperation(message, _NO_FLAGS),)
        self._call.start_server_batch((start, *body, end), self._sent)

    def _ended(self, event: Any) -> None:
        self._active = not event.batch_operations[0].cancelled()

    def _sent(self, event: Any) -> None:
        """As the answer's tag it keeps the call until all of that is sent."""


class _Queue:
    """A completion queue.

    Attributes:
        core: gRPC's own.
        arrived: The tag to ask for a request with.
    """

    def __init__(self) -> None:
        self.core = cygrpc.CompletionQueue()
        self._requests: collections.deque[Any] = collections.deque()
        self.arrived = self._requests.append

    def request(self) -> Any:
        """Waits for the event of a new request, or of one that will not come any more."""
        while not self._requests:
            event = self.core.poll()
            event.tag(event)
        return self._requests.popleft()

    def message(self) -> bytes | None:
        """Waits for the message of the one request that is being received; None where there is none."""
        while (event := self.core.poll()).tag is not _MESSAGE:
            event.tag(event)
        return event.batch_operations[0].message()

    def look(self) -> None:
        """Takes what has come in, while the queue's own thread does not wait at it."""
        while (event := self.core.poll(_AT_ONCE)).completion_type != cygrpc.CompletionType.queue_timeout:
            event.tag(event)

    def end(self) -> None:
        """Waits until everything has been sent."""
        self.core.shutdown()
        while self.core.poll().completion_type != cygrpc.CompletionType.queue_shutdown:
            pass


class QueueThreads:
    """Answers one method of a server, which must not have been started.

    Args:
        server: A server of grpcio's for which `available` is true; its own handlers of the method are not called.
        method: "/package.Service/Method", which takes one message and returns one.
        handler: Called with the request and an `Rpc`.
        count: Threads.
        pinned: Whether each stays on a core of its own; see `scheduling.cores_for`.

    Raises:
        ServingError: INVALID_ARGUMENT where pinned threads are more than cores.
    """

    def __init__(
        self, server: grpc.Server, method: str, handler: grpc.RpcMethodHandler, count: int, pinned: bool = False
    ) -> None:
        core = server._cy_server  # type: ignore[attr-defined]
        core.register_method(method)
        self._threads = [_Thread(core, method, handler) for _ in range(count)]
        self._cores = scheduling.cores_for(count) if pinned else [None] * count

    def start(self) -> None:
        """Starts to answer; the server must have been started."""
        for number, (thread, core) in enumerate(zip(self._threads, self._cores, strict=True)):
            threading.Thread(target=thread.work, args=(core,), name=f"predict_{number}", daemon=True).start()

    def take_all(self) -> None:
        """Takes the requests that wait for a thread, up to 10,000: a server that stops would cancel them.

        The threads answer them one after the other, and end when the server has stopped.
        """
        for _ in range(-(-_TAKEN_AT_THE_END // len(self._threads))):
            for thread in self._threads:
                thread.ask(last=True)


class _Thread:
    """What one thread does, from its completion queue on."""

    def __init__(self, server: Any, method: str, handler: grpc.RpcMethodHandler) -> None:
        self._server = server
        self._method = method
        self._handle = handler.unary_unary
        self._deserialize = handler.request_deserializer or bytes
        self._serialize = handler.response_serializer or bytes
        self._queue = _Queue()
        server.register_completion_queue(self._queue.core)
        self._lock = threading.Lock()
        self._asked = 0
        self._last = False

    def ask(self, last: bool = False) -> None:
        """Asks gRPC for a request, the `last` unless told again so; any thread may call it."""
        with self._lock:
            if self._last and not last:
                return
            self._last = last
            try:
                queue = self._queue
                self._server.request_registered_call(queue.core, queue.core, self._method, queue.arrived)
            except ValueError:  # The server is stopping.
                return
            self._asked += 1

    def work(self, core: int | None) -> None:
        """Answers requests until the server stops."""
        if core is not None:
            scheduling.stay_on(core)
        self.ask()
        while self._asked:
            event = self._queue.request()
            with self._lock:
                self._asked -= 1
            if event.success:
                rpc = Rpc(self._queue, event.call, event.call_details.deadline)
                try:
                    self._answer(rpc)
                except Exception:
                    logging.exception("gRPC could not answer %s", self._method)
                    rpc.cancel()
                del event, rpc  # They would keep the call until the next request.
                self.ask()
        self._queue.end()

    def _answer(self, rpc: Rpc) -> None:
        message = rpc.receive()
        if not rpc.is_active():  # The client has gone while the request waited.
            return
        try:
            answer = _OK, "", self._response(message, rpc)
        except _AbortError as abort:
            answer = abort.code.value[0], abort.details, None
        except Exception as error:
            logging.exception("Handler of %s", self._method)
            answer = grpc.StatusCode.UNKNOWN.value[0], f"Exception calling application: {error}", None
        rpc.answer(*answer)

    def _response(self, message: bytes | None, rpc: Rpc) -> bytes:
        """Calls the handler; the failures beside it have the codes and words that grpcio's server has for them."""
        if message is None:
            rpc.abort(grpc.StatusCode.UNIMPLEMENTED, f'"{self._method}" requires exactly one request message.')
        try:
            request = self._deserialize(message)
        except Exception:
            rpc.abort(grpc.StatusCode.INTERNAL, "Exception deserializing request!")
        response = self._handle(request, rpc)
        try:
            return self._serialize(response)
        except Exception:
            rpc.abort(grpc.StatusCode.INTERNAL, "Failed to serialize response!")


class _AbortError(Exception):
    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(details)
        self.code = code
        self.details = details
