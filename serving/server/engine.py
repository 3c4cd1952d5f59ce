"""The engine: watches base paths, loads and swaps versions, and hands loaded models to requests."""

import concurrent.futures
import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from absl import logging
from tensorflow_serving.apis import model_pb2
from tensorflow_serving.config import model_server_config_pb2

from serving.server import config, memory, servable, status, versions
from serving.server.lifecycle import LoadedModel, Model, State, Version

_IDLE_SECONDS = 3600.0


class Engine:
    """Keeps the configured models loaded.

    Args:
        backends: In order of preference; the first that accepts a version's directory loads it.
        options: Polling, retries and labels.
        prepare: Called with each freshly loaded model and its directory before it becomes available: it warms the
            model up, and returns the servable to use (wrapped for batching, say). Its failure fails the version.
    """

    def __init__(
        self,
        backends: Sequence[servable.Backend],
        options: config.Options,
        prepare: Callable[[LoadedModel, Path], servable.Servable] = lambda loaded, path: loaded.servable,
    ) -> None:
        self._backends = backends
        self._options = options
        self._prepare = prepare
        self._changed = threading.Condition()
        self._models: dict[str, Model] = {}
        self._labels: dict[str, dict[str, int]] = {}
        self._configuring = threading.Lock()
        self._poll_due = 0.0
        self._stopping = False
        self._thread = threading.Thread(target=self._manage, name="engine", daemon=True)
        self._loaders = concurrent.futures.ThreadPoolExecutor(max(2, options.num_load_threads), "load")
        self._unloader = concurrent.futures.ThreadPoolExecutor(1, "unload")

    def start(self) -> None:
        """Starts to watch and load."""
        self._thread.start()

    def stop(self) -> None:
        """Stops watching and frees every model. The faces must have been stopped before."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()
        self._loaders.shutdown(cancel_futures=True)
        for model in self._models.values():
            for version in list(model.available.values()):
                self._unload(model, version)
        self._unloader.shutdown()

    def configure(self, new: model_server_config_pb2.ModelServerConfig) -> list[str]:
        """Replaces the whole configuration; when it is refused, nothing changes.

        Args:
            new: The models with their policies and labels.

        Returns:
            The names of the models that were not configured before, to wait for.

        Raises:
            ServingError: INVALID_ARGUMENT for a faulty list, FAILED_PRECONDITION for a label on a version that is not
                available.
        """
        models = config.parse_models(new)
        with self._configuring, self._changed:
            labels = self._check_labels(models)
            added = [model.name for model in models if model.name not in self._configured()]
            self._labels = labels
            names = {model.name for model in models}
            for name, model in self._models.items():
                if name not in names:
                    model.removed = True
                    model.want({})
            for configured in models:
                model = self._models.setdefault(configured.name, Model(configured))
                model.config, model.removed = configured, False
            self._poll_due = 0.0
            self._changed.notify_all()
        return added

    def wait_until_available(self, names: Sequence[str], stop: Callable[[], bool] = lambda: False) -> None:
        """Waits until each of these models has an available version, and its other versions have been tried.

        Args:
            names: The models.
            stop: Asked ten times a second; True ends the wait.

        Raises:
            ServingError: UNKNOWN with the reasons once a model has failed for good.
        """
        with self._changed:
            while not (stop() or self._stopping):
                models = [self._models[name] for name in names if not self._models[name].removed]
                failures = {model.config.name: model.failure() for model in models if model.failure()}
                if failures:
                    raise _unavailable_models(failures)
                if all(model.settled() for model in models):
                    return
                self._changed.wait(0.1)

    def acquire(self, spec: model_pb2.ModelSpec) -> contextlib.AbstractContextManager[LoadedModel]:
        """Finds the model that a request asks for, and keeps it loaded while the context lasts.

        Raises:
            ServingError: NOT_FOUND for an unknown model or version, INVALID_ARGUMENT for an empty name or an unknown
                label.
        """
        with self._changed:
            version = self._find(spec)
            version.in_use += 1
        return _Hold(version, self._changed)

    def version_for(self, spec: model_pb2.ModelSpec) -> int | None:
        """Returns the version that a request names by number or label, None if it names none.

        Raises:
            ServingError: INVALID_ARGUMENT for an empty name or an unknown label.
        """
        if not spec.name:
            raise status.invalid_argument("ModelSpec has no name specified.")
        choice = spec.WhichOneof("version_choice")
        if choice == "version":
            return spec.version.value
        if choice == "version_label":
            number = self._labels.get(spec.name, {}).get(spec.version_label)
            if number is None:
                raise status.invalid_argument(f"Unrecognized servable version label: {spec.version_label}")
            return number
        return None

    def knows(self, name: str) -> bool:
        """Says whether a model of this name is, or was, configured."""
        return name in self._models

    def names(self) -> list[str]:
        """Returns the names of the configured models, those that were configured first in front."""
        with self._changed:
            return [name for name, model in self._models.items() if not model.removed]

    def labels(self, name: str) -> dict[str, int]:
        """Returns the version that each label of a model points at."""
        with self._changed:
            return dict(self._labels.get(name, {}))

    def states(self, name: str) -> list[tuple[int, State, status.ServingError | None]]:
        """Returns version, state and load error of every version known of a model, latest version first."""
        with self._changed:
            model = self._models.get(name)
            known = model.versions.values() if model else ()
            return sorted(((v.number, v.state, v.error) for v in known), key=lambda entry: -entry[0])

    def _configured(self) -> set[str]:
        return {name for name, model in self._models.items() if not model.removed}

    def _find(self, spec: model_pb2.ModelSpec) -> Version:
        number = self.version_for(spec)
        model = self._models.get(spec.name)
        available = model.available if model else {}
        if number is None and available:
            return available[max(available)]
        if number in available:
            return available[number]
        wanted = f"Latest({spec.name})" if number is None else f"Specific({spec.name}, {number})"
        raise status.not_found(f"Servable not found for request: {wanted}")

    def _check_labels(self, models: Sequence[config.ModelConfig]) -> dict[str, dict[str, int]]:
        for model in models:
            known = self._models.get(model.name)
            for label, number in model.labels.items():
                if (known and number in known.available) or self._may_be_unavailable(model.name, label, number):
                    continue
                raise status.failed_precondition(
                    f"Request to assign label to version {number} of model {model.name}, which is not currently "
                    f"available for inference"
                )
        return {model.name: dict(model.labels) for model in models}

    def _may_be_unavailable(self, name: str, label: str, number: int) -> bool:
        if self._options.force_allow_any_version_labels_for_unavailable_models:
            return True
        current = self._labels.get(name, {}).get(label, number)
        return self._options.allow_version_labels_for_unavailable_models and current == number

    def _manage(self) -> None:
        while True:
            with self._changed:
                if self._stopping:
                    return
                poll = time.monotonic() >= self._poll_due
                models = [model for model in self._models.values() if not model.removed]
                if poll:
                    self._poll_due = self._next_poll()
            for model in models if poll else ():
                self._poll(model)
            with self._changed:
                self._reconcile()
                if not self._stopping:
                    self._changed.wait(self._seconds_to_wait())

    def _next_poll(self) -> float:
        seconds = self._options.file_system_poll_wait_seconds
        return time.monotonic() + seconds if seconds > 0 else float("inf")

    def _seconds_to_wait(self) -> float:
        due = [self._poll_due] + [retry for model in self._models.values() if (retry := model.next_retry())]
        return min(max(0.0, min(due) - time.monotonic()), _IDLE_SECONDS)

    def _poll(self, model: Model) -> None:
        if self._options.file_system_poll_wait_seconds < 0:
            return
        configured, complaint = model.config, ""
        try:
            found = versions.find(configured.base_path)
        except OSError as error:
            complaint = (
                f"FileSystemStoragePathSource encountered a filesystem access error: Could not find base path "
                f"{configured.base_path} for servable {configured.name} with error {error}"
            )
        else:
            wanted = versions.wanted(found, configured.policy)
            if not wanted:
                complaint = (
                    f"No versions of servable {configured.name} found under base path {configured.base_path}. Did you "
                    f"forget to name your leaf directory as a number (eg. '/1/')?"
                )
            with self._changed:
                if model.config is configured and not model.removed:
                    model.want(wanted)
        if complaint and complaint != model.complaint:
            logging.warning("%s Looking again every %g s.", complaint, self._options.file_system_poll_wait_seconds)
        model.complaint = complaint

    def _reconcile(self) -> None:
        now = time.monotonic()
        for model in self._models.values():
            model.give_up_dropped()
            for version in model.to_load(now):
                self._loaders.submit(self._load, model, version)
            for version in model.to_unload():
                version.state = State.UNLOADING
                del model.available[version.number]
            for version in model.versions.values():
                if version.state is State.UNLOADING and not version.in_use and not version.closing:
                    version.closing = True
                    self._unloader.submit(self._unload, model, version)

    def _load(self, model: Model, version: Version) -> None:
        label = f"{{name: {model.config.name} version: {version.number}}}"
        try:
            with memory.loading():
                loaded, error = self._open(model.config.name, version), None
        except Exception as failure:
            loaded, error = None, _load_error(failure)
            logging.error("Loading servable: %s failed: %s", label, error)
        # Otherwise memory is released when the version that this one takes the place of has gone.
        if error or not model.available:
            memory.release()
        with self._changed:
            if loaded:
                version.loaded, version.state, version.error = loaded, State.AVAILABLE, None
                model.available[version.number] = version
                logging.info("Successfully loaded servable version %s", label)
            else:
                self._note_failure(version, error)
            self._changed.notify_all()

    def _open(self, name: str, version: Version) -> LoadedModel:
        backend = next(backend for backend in self._backends if backend.accepts(version.path))
        opened = backend.load(version.path)
        try:
            loaded = LoadedModel(name, version.number, opened, self._options.enable_signature_method_name_check)
            return dataclasses.replace(loaded, servable=self._prepare(loaded, version.path))
        except BaseException:
            opened.close()
            raise

    def _note_failure(self, version: Version, error: status.ServingError) -> None:
        version.attempts += 1
        version.error = error
        if version.attempts > self._options.max_num_load_retries or version.dropped:
            version.state = State.END
        else:
            version.retry_at = time.monotonic() + max(0, self._options.load_retry_interval_micros) / 1e6

    def _unload(self, model: Model, version: Version) -> None:
        try:
            version.loaded.servable.close()
        except Exception as error:
            logging.error("Unloading %s version %d failed: %s", model.config.name, version.number, error)
        version.loaded = None
        if not self._stopping:
            memory.release()
        with self._changed:
            version.state, version.closing, version.dropped = State.END, False, True
            self._changed.notify_all()
        logging.info("Successfully unloaded servable version {name: %s version: %d}", model.config.name, version.number)


class _Hold:
    """A version in use. A class, as each request has one: contextlib's generators take half as much Python again."""

    def __init__(self, version: Version, changed: threading.Condition) -> None:
        self._version = version
        self._changed = changed

    def __enter__(self) -> LoadedModel:
        return self._version.loaded

    def __exit__(self, *unused: object) -> None:
        version = self._version
        with self._changed:
            version.in_use -= 1
            if version.state is State.UNLOADING and not version.in_use:
                self._changed.notify_all()


def _load_error(failure: Exception) -> status.ServingError:
    if isinstance(failure, (status.ServingError, MemoryError)) or hasattr(failure, "error_code"):
        return status.from_exception(failure)
    return status.ServingError(status.grpc.StatusCode.UNKNOWN, f"{type(failure).__name__}: {failure}")


def _unavailable_models(failures: dict[str, status.ServingError]) -> status.ServingError:
    reasons = ", ".join(f"{{{name} due to error: {error}}}" for name, error in failures.items())
    return status.ServingError(
        status.grpc.StatusCode.UNKNOWN, f"{len(failures)} model(s) did not become available: {{{reasons}}}"
    )
