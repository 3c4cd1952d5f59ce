"""Jobs for tests: small folders of pictures, and the program run to its end."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq

ROOT = Path(__file__).parents[3]


def command(*arguments):
    return [sys.executable, "-m", "serving.batch", *map(str, arguments)]


def run(*arguments):
    return subprocess.run(command(*arguments), cwd=ROOT, capture_output=True, text=True)


def link(pictures, folder, repeats=1):
    """A folder with links to pictures, each so many times; returns the paths."""
    made = []
    for repeat in range(repeats):
        for picture in pictures:
            path = folder / f"{repeat:03d}" / picture.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(picture)
            made.append(str(path))
    return made


def read_rows(folder):
    """All rows of a finished job, by path."""
    rows = [row for file in sorted(Path(folder).glob("rows-*.parquet")) for row in pq.read_table(file).to_pylist()]
    rows += [json.loads(line) for file in Path(folder).glob("rows-*.jsonl") for line in file.read_text().splitlines()]
    assert len({row["path"] for row in rows}) == len(rows), "a picture has two rows"
    return {row["path"]: row for row in rows}


def read_bad(folder):
    lines = [line for file in Path(folder).glob("bad-*.jsonl") for line in file.read_text().splitlines()]
    return {bad["path"]: bad["reason"] for bad in map(json.loads, lines)}
