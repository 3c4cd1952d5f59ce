"""Names of classes, from a text file or from the archive attached to a .tflite file."""

import os
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

_NUMBERED = re.compile(r"(\d+)\s*[:\s]\s*(\S.*)")


def read(path: str | os.PathLike[str]) -> dict[int, str]:
    """Reads a file with one name a line, or with `number name` or `number: name` a line.

    Raises:
        ValueError: If it isn't UTF-8 text or has no line.
    """
    try:
        return parse(Path(path).read_text(encoding="utf-8"), os.fspath(path))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} isn't a text file with one label a line: {error}") from error


def parse(text: str, name: str) -> dict[int, str]:
    """Reads the text of such a file; `name` is for the message."""
    lines = [line.strip() for line in text.strip().splitlines()]
    if not lines:
        raise ValueError(f"{name} is empty; it should have one label a line")
    numbered = [_NUMBERED.fullmatch(line) for line in lines]
    if all(numbered):
        return {int(match[1]): match[2] for match in numbered if match}
    return dict(enumerate(lines))


def attached(path: str | os.PathLike[str]) -> dict[int, str]:
    """Reads the labels that are attached to a .tflite file; empty where there are none."""
    if not zipfile.is_zipfile(path):
        return {}
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if "label" in name.lower() and name.endswith(".txt")]
        return parse(archive.read(names[0]).decode("utf-8"), names[0]) if names else {}


def name(labels: Mapping[int, str], index: int) -> str:
    """The class's name, or its number."""
    return labels.get(index, str(index))
