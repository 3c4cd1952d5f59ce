"""The Dockerfile of the embedded server: what it copies is there, and what it installs comes as wheels."""

import re
from pathlib import Path

import pytest

from tests.serving.docker import embedded

TEXT = (embedded.DOCKER / "Dockerfile").read_text()
LINES = [line for line in TEXT.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]
INSTRUCTIONS = [line.strip().partition(" ")[::2] for line in LINES]


def stage(name):
    """The instructions of one stage."""
    starts = [index for index, (word, rest) in enumerate(INSTRUCTIONS) if word == "FROM"]
    (start,) = [index for index in starts if INSTRUCTIONS[index][1].endswith(f" AS {name}")]
    end = min((index for index in starts if index > start), default=len(INSTRUCTIONS))
    return INSTRUCTIONS[start:end]


def copied():
    """What is copied from the checkout."""
    sources = [rest.split()[:-1] for word, rest in INSTRUCTIONS if word == "COPY" and "--from" not in rest]
    return {source for group in sources for source in group}


def test_copies_what_is_there_and_let_through():
    let_through = set(re.findall(r"^!(\S+)", (embedded.DOCKER / "Dockerfile.dockerignore").read_text(), re.MULTILINE))
    assert copied() == let_through
    assert all((embedded.ROOT / source).exists() for source in copied())


@pytest.mark.parametrize("name", ["server", "coral"])
def test_ends_as_a_user_without_rights(name):
    users = [rest for word, rest in stage(name) if word == "USER"]
    assert users[-1] == "1000:1000"


def test_the_coral_image_is_the_server_with_coral_s_library():
    coral = stage("coral")
    assert coral[0] == ("FROM", "server AS coral")
    text = " ".join(rest for _, rest in coral)
    assert "packages.cloud.google.com/apt coral-edgetpu-stable main" in text
    assert "LIBEDGETPU=libedgetpu1-std" in text


def test_packages_come_as_pinned_wheels_alone():
    (install,) = re.findall(r"pip install ([^\n]*)", TEXT)
    assert "--only-binary=:all:" in install
    assert "--constraint=requirements.txt" in install


def test_starts_the_server():
    (entry_point,) = [rest for word, rest in INSTRUCTIONS if word == "ENTRYPOINT"]
    assert entry_point.startswith('["python", "-m", "serving.server"')
    assert Path(embedded.ROOT / "serving/server/__main__.py").exists()
