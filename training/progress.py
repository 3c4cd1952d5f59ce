"""A progress bar with images per second and time left."""

import time
from collections.abc import Callable
from types import TracebackType

import tqdm

REFRESH = 0.5  # seconds


class Progress:
    """Progress of one epoch on standard error.

    Args:
        label: What is running.
        steps: Steps of the epoch.
        batch_size: Images in a step.
        first: Steps that were done before.
        quiet: Shows nothing.
    """

    def __init__(self, label: str, steps: int, batch_size: int, first: int = 0, quiet: bool = False) -> None:
        self._batch_size = batch_size
        self._quiet = quiet
        self._shown = 0.0
        self._bar = tqdm.tqdm(
            desc=label,
            total=steps * batch_size,
            initial=first * batch_size,
            unit=" images",
            unit_scale=True,
            disable=quiet,
            mininterval=REFRESH,
            dynamic_ncols=True,
        )

    def step(self, figures: Callable[[], dict[str, float]]) -> None:
        """Counts a step.

        Args:
            figures: Gives what stands beside the bar. It is called only when the bar is drawn, since to read a figure
                is to wait for the device that computes it.
        """
        if not self._quiet and time.monotonic() - self._shown > REFRESH:
            self._bar.set_postfix({name: f"{value:.3f}" for name, value in figures().items()}, refresh=False)
            self._shown = time.monotonic()
        self._bar.update(self._batch_size)

    def close(self, figures: dict[str, float]) -> None:
        """Draws the bar for the last time."""
        self._bar.set_postfix({name: f"{value:.3f}" for name, value in figures.items()}, refresh=False)
        self._bar.close()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()
