"""The embedded server, started from the flags and files that are meant for a container."""

import contextlib
import dataclasses
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from serving.server import config as server_config
from serving.server import server
from tests.serving.server.calls import Clients

ROOT = Path(__file__).parents[3]
DOCKER = ROOT / "serving" / "docker"
CONFIG = DOCKER / "config"
SECONDS = 240  # Importing TensorFlow takes a while on a busy machine.

_READY = re.compile(r"Exporting HTTP/REST API at:localhost:(\d+) \.\.\.")
_GRPC_READY = re.compile(r"Running gRPC ModelServer at 0\.0\.0\.0:(\d+) \.\.\.")


def local_config(folder: Path, models: Path) -> Path:
    """Copies the config folder, with `models` in place of the container's /models."""
    folder.mkdir()
    for file in CONFIG.glob("*.config"):
        (folder / file.name).write_text(file.read_text().replace('"/models/', f'"{models}/'))
    return folder


def local_flags(flags: Sequence[str], config: Path) -> list[str]:
    """Rewrites a container's flags for this machine: free ports, its config folder, no Edge TPU."""
    replaced = [flag.replace("=/config/", f"={config}/") for flag in flags]
    replaced = ["--device=cpu" if flag.startswith("--device=") else flag for flag in replaced]
    ports = ("--port=", "--rest_api_port=")
    return [flag for flag in replaced if not flag.startswith(ports)] + ["--port=0", "--rest_api_port=-1"]


@contextlib.contextmanager
def in_this_process(flags: Sequence[str]) -> Iterator[Clients]:
    """Starts a server with the options that the flags stand for; quicker than a process of its own."""
    quick = {"max_num_load_retries": 0, "drain_seconds": 2}
    started = server.ModelServer(dataclasses.replace(options(flags), **quick))
    try:
        started.start()
        clients = Clients(started.grpc_port, started.rest_api_port)
        yield clients
        clients.channel.close()
    finally:
        started.stop()


def options(flags: Sequence[str]) -> server_config.Options:
    """Reads `--name=value` flags into options, without absl's flags, of which a process has one set."""
    kinds = {field.name: field.type for field in dataclasses.fields(server_config.Options)}
    values = {}
    for flag in flags:
        name, equals, text = flag.removeprefix("--").partition("=")
        name = {"port": "grpc_port"}.get(name, name)
        assert equals and name in kinds, f"{flag} is no flag that the embedded server honours"
        values[name] = {"true": True, "false": False}[text] if kinds[name] is bool else kinds[name](text)
    return server_config.Options(**values)


@contextlib.contextmanager
def running(flags: Sequence[str]) -> Iterator[Clients]:
    """Starts the program, waits until it answers, and ends it."""
    command = [sys.executable, "-m", "serving.server", *flags, "--max_num_load_retries=0", "--drain_seconds=2"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(iter(process.stderr.readline, "")))
    reader.start()
    try:
        rest_port = _wait_for(_READY, lines, process)
        clients = Clients(_wait_for(_GRPC_READY, lines, process), rest_port)
        yield clients
        clients.channel.close()
    finally:
        process.terminate()
        process.wait(SECONDS)
        reader.join()


def _wait_for(pattern: re.Pattern, lines: list[str], process: subprocess.Popen) -> str:
    deadline = time.monotonic() + SECONDS
    while True:
        ended = process.poll() is not None
        if match := pattern.search("".join(lines)):
            return match[1]
        assert not ended and time.monotonic() < deadline, "".join(lines)
        time.sleep(0.05)
