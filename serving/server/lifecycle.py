"""States of a model's versions, and the decisions about them: what to load, retry and unload. No threads, no files."""

import dataclasses
import enum
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path

from serving.server import config, servable, signatures, status


class State(enum.Enum):
    """TF Serving's states of a version; the values are those of GetModelStatusResponse."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclasses.dataclass(frozen=True)
class LoadedModel:
    """A version that requests can run on.

    Args:
        name: The model's name.
        version: Its version.
        servable: Runs it.
        check_method_name: Whether Classify and Regress insist on a signature of their own method, which TF 2 can't
            write (--enable_signature_method_name_check).
    """

    name: str
    version: int
    servable: servable.Servable
    check_method_name: bool = False

    @functools.cached_property
    def signatures(self) -> Mapping[str, signatures.Signature]:
        """The servable's signatures by key, ready to hold requests against."""
        return {key: signatures.Signature(definition) for key, definition in self.servable.signatures.items()}


@dataclasses.dataclass(eq=False)
class Version:
    """One version of a model from the moment it was wanted.

    Args:
        number: The version.
        path: Its directory.
        state: Where it is in its life.
        error: Why it failed to load, None otherwise.
        loaded: What requests run on, while it is there.
        in_use: Requests that hold it.
        attempts: Failed attempts to load it.
        retry_at: When to try again (monotonic seconds), None while nothing is due.
        closing: Whether its servable is being freed.
        dropped: Whether it was no longer wanted since; such a version is loaded afresh when it is wanted again.
    """

    number: int
    path: Path
    state: State = State.START
    error: status.ServingError | None = None
    loaded: LoadedModel | None = None
    in_use: int = 0
    attempts: int = 0
    retry_at: float | None = None
    closing: bool = False
    dropped: bool = False


class Model:
    """A configured model with all of its versions.

    Args:
        configured: Its entry in the configuration.
    """

    def __init__(self, configured: config.ModelConfig) -> None:
        self.config = configured
        self.removed = False
        self.complaint = ""  # The last trouble with the base path, so that polling reports it once.
        self.wanted: dict[int, Path] | None = None  # None until the base path has been read.
        self.versions: dict[int, Version] = {}
        self.available: dict[int, Version] = {}

    def want(self, wanted: dict[int, Path]) -> None:
        """Sets the versions to serve; the others are dropped once one of these is available."""
        self.wanted = wanted
        for number, version in self.versions.items():
            if number not in wanted:
                version.dropped = True
            elif version.state is not State.END:
                version.dropped = False

    def to_load(self, now: float) -> Iterator[Version]:
        """Yields versions to start loading, in state LOADING: new ones, and those whose retry is due."""
        for number, path in (self.wanted or {}).items():
            version = self.versions.get(number)
            if version is None or (version.state is State.END and version.dropped):
                version = self.versions[number] = Version(number, path, State.LOADING)
                yield version
            elif version.retry_at is not None and version.retry_at <= now:
                version.retry_at = None
                yield version

    def to_unload(self) -> Iterator[Version]:
        """Yields available versions that are no longer wanted, as soon as a wanted one can take their place."""
        if self.wanted is None:
            return
        if self.wanted and not any(number in self.available for number in self.wanted):
            return
        for number, version in list(self.available.items()):
            if number not in self.wanted:
                yield version

    def give_up_dropped(self) -> None:
        """Ends versions that wait for a retry and are no longer wanted."""
        for version in self.versions.values():
            if version.dropped and version.retry_at is not None:
                version.retry_at = None
                version.state = State.END

    def next_retry(self) -> float | None:
        """Returns when the next retry is due, None if none is."""
        return min((v.retry_at for v in self.versions.values() if v.retry_at is not None), default=None)

    def settled(self) -> bool:
        """Says whether a version is available, and each other wanted one is as well or has failed at least once."""
        tried = (self.versions.get(number) for number in self.wanted or {})
        return bool(self.available) and all(
            version and (version.state is State.AVAILABLE or version.error) for version in tried
        )

    def failure(self) -> status.ServingError | None:
        """Returns the error once every wanted version has failed for good, else None."""
        if not self.wanted or self.available:
            return None
        states = [self.versions.get(number) for number in self.wanted]
        if all(version and version.state is State.END and version.error for version in states):
            return max(states, key=lambda version: version.number).error
        return None
