"""Servers under test, each in a process of its own, and what they use."""

import contextlib
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from serving.benchmark.orders import ROOT

MODEL = "mobilenet"
_START_SECONDS = 180.0
_STOP_SECONDS = 90.0
_LISTENING = re.compile(r"Running gRPC ModelServer at 0\.0\.0\.0:(\d+)")
_LISTENING_TO_REST = re.compile(r"Exporting HTTP/REST API at:localhost:(\d+)")
_MONITORING = "prometheus_config { enable: true }"
_METRICS = "/monitoring/prometheus/metrics"
_BATCH_SIZE = r"^:tensorflow:serving:batching_session:processed_batch_size_{}\{{.*\}} (\S+)$"


class EmbeddedServer:
    """`python -m serving.server` on a free port.

    Args:
        base_path: The model's versions.
        flags: Further flags.

    Raises:
        RuntimeError: It did not start; with its messages.
    """

    def __init__(self, base_path: Path, flags: Sequence[str] = ()) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._log = Path(self._folder.name) / "stderr"
        monitoring = Path(self._folder.name) / "monitoring.config"
        monitoring.write_text(_MONITORING)
        command = [sys.executable, "-m", "serving.server", "--port=0", "--rest_api_port=-1"]
        command += [f"--model_name={MODEL}", f"--model_base_path={base_path}", f"--monitoring_config_file={monitoring}"]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen([*command, *flags], cwd=ROOT, stderr=log)
        try:
            self._rest_port = self._wait_for(_LISTENING_TO_REST)
            self.address = f"127.0.0.1:{self._wait_for(_LISTENING)}"
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    def messages(self) -> str:
        """Returns what it wrote to standard error so far."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def mean_batch(self) -> float:
        """Returns the mean size of its batches since it started."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._rest_port}{_METRICS}") as response:
            page = response.read().decode()
        rows, batches = (
            float(re.findall(_BATCH_SIZE.format(what), page, re.MULTILINE)[0]) for what in ("sum", "count")
        )
        return rows / batches

    def close(self) -> None:
        """Stops it."""
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _wait_for(self, message: re.Pattern[str]) -> str:
        deadline = time.monotonic() + _START_SECONDS
        while not (found := message.search(self.messages())):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"The server did not start:\n{self.messages()}")
            time.sleep(0.1)
        return found[1]


def cpu_seconds(pid: int) -> float:
    """Returns the CPU time of a process so far, in user and system mode."""
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def resident_bytes(pid: int) -> int:
    """Returns the memory that a process holds."""
    return psutil.Process(pid).memory_info().rss


def free_ports(count: int) -> list[int]:
    """Ports of the loopback address that nothing listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
