"""The folder that a job writes: begun, finished, or left by a run that was killed.

Beam's sinks give files their names only when all of them are whole, but one after the other: a kill in between leaves
some. So a run first writes down what it is about to do, and last of all that it is done. A run that finds the first
without the last, and of the same job, takes away what the other left and begins anew; nothing else is ever deleted.
"""

import contextlib
import dataclasses
import fcntl
import itertools
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from apache_beam.io.filesystem import BeamIOError, CompressionTypes
from apache_beam.io.filesystems import FileSystems

BEGUN, FINISHED = "_begun.json", "_finished.json"
ROWS, BAD = "rows", "bad"
_SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.\w+")
_TEMPORARY = re.compile(r"beam-temp-(rows|bad)-[0-9a-f]{32}/")


@dataclasses.dataclass(frozen=True)
class Folder:
    """A job's output folder.

    Args:
        path: Local, or of any Beam filesystem; without a slash at its end.
    """

    path: str

    def join(self, name: str) -> str:
        """Path of a file in the folder."""
        return FileSystems.join(self.path, name)

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Makes the folder ready, and writes down what is about to be done.

        Args:
            settings: What decides the rows.

        Raises:
            ValueError: There is a finished output, an unfinished one of another job, or something else.
        """
        text = json.dumps(settings, indent=2, sort_keys=True) + "\n"
        names = self._names()
        if FINISHED in names:
            raise ValueError(f"--output={self.path} holds a finished job: name another folder, or delete this one")
        if BEGUN not in names and names - {f"{BEGUN}.part"}:
            raise ValueError(f"--output={self.path} isn't empty ({', '.join(sorted(names)[:5])}): name a new folder")
        if BEGUN in names and self._read(BEGUN) != text:
            raise ValueError(
                f"--output={self.path} holds an unfinished job with other settings (see {BEGUN} in it): start it again "
                "with the same flags, name another folder, or delete this one"
            )
        self._clear()
        if BEGUN not in names:
            self._write(BEGUN, text)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps a second run on this machine out; the lock ends with the process, however it ends.

        Raises:
            ValueError: Another run has it.
        """
        if "://" in self.path:  # an object store has no locks
            yield
            return
        Path(self.path).mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError as error:
            raise ValueError(f"another run is writing to --output={self.path}; wait for it or stop it") from error
        finally:
            os.close(descriptor)

    def finish(self, facts: Mapping[str, Any]) -> None:
        """Writes down that the job is done, after a look at whether all its files are there and no others.

        Raises:
            RuntimeError: They are not.
        """
        names = self._names()
        for kind in (ROWS, BAD):
            shards = [match for name in names if (match := _SHARD.fullmatch(name)) and match[1] == kind]
            numbers, totals = {int(match[2]) for match in shards}, {int(match[3]) for match in shards}
            if len(totals) != 1 or numbers != set(range(totals.pop())) or len(numbers) != len(shards):
                there = ", ".join(sorted(match[0] for match in shards)) or "none"
                raise RuntimeError(f"the files {kind}-* in {self.path} are not those of one run: {there}")
        self._write(FINISHED, json.dumps(facts, indent=2) + "\n")

    def facts(self) -> dict[str, Any] | None:
        """What was written down when the job was done; None where it isn't."""
        return json.loads(self._read(FINISHED)) if FINISHED in self._names() else None

    def files(self, kind: str) -> list[str]:
        """Paths of the files with rows (`ROWS`) or bad pictures (`BAD`)."""
        names = sorted(name for name in self._names() if (match := _SHARD.fullmatch(name)) and match[1] == kind)
        return [self.join(name) for name in names]

    def bad(self, most: int) -> list[dict[str, str]]:
        """The first bad pictures, up to `most`: `path` and `reason`."""
        found: list[dict[str, str]] = []
        for file in self.files(BAD):
            with FileSystems.open(file) as stream:
                lines = itertools.islice(stream, most - len(found))
                found += [json.loads(line) for line in lines]
        return found

    def _names(self) -> set[str]:
        """What is in the folder: files, and folders that have files in them."""
        return {name.partition("/")[0] for name in self._below()}

    def _below(self) -> list[str]:
        """Every file in the folder and below, seen from it."""
        if "://" not in self.path:
            return [str(file.relative_to(self.path)) for file in Path(self.path).rglob("*") if file.is_file()]
        try:
            (found,) = FileSystems.match([self.join("**")])
        except BeamIOError:
            return []
        return [metadata.path[len(self.path) :].lstrip("/") for metadata in found.metadata_list]

    def _clear(self) -> None:
        """Deletes what a killed run left: shards that have their name already, and the sinks' folders."""
        left = [name for name in self._below() if _is_ours(name)]
        if left:
            FileSystems.delete([self.join(name) for name in left])
        if "://" not in self.path:
            for folder in Path(self.path).glob("beam-temp-*"):
                shutil.rmtree(folder)

    def _read(self, name: str) -> str:
        with FileSystems.open(self.join(name), compression_type=CompressionTypes.UNCOMPRESSED) as file:
            return file.read().decode()

    def _write(self, name: str, text: str) -> None:
        """In one step: a reader sees all of the file or none."""
        temporary = self.join(f"{name}.part")
        with FileSystems.create(temporary, compression_type=CompressionTypes.UNCOMPRESSED) as file:
            file.write(text.encode())
        if FileSystems.exists(self.join(name)):
            FileSystems.delete([self.join(name)])
        FileSystems.rename([temporary], [self.join(name)])


def _is_ours(name: str) -> bool:
    match = _SHARD.fullmatch(name)
    shard = match and match[1] in (ROWS, BAD)
    return bool(shard or _TEMPORARY.match(name)) or name in (f"{BEGUN}.part", f"{FINISHED}.part")
