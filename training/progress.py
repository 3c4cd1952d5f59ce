"""A progress bar with images per second and time left."""

from types import TracebackType

import tqdm


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
        self._bar = tqdm.tqdm(
            desc=label,
            total=steps * batch_size,
            initial=first * batch_size,
            unit=" images",
            unit_scale=True,
            disable=quiet,
            mininterval=0.5,
            dynamic_ncols=True,
        )

    def step(self, **figures: float) -> None:
        """Counts a step and shows the figures beside the bar."""
        self._bar.set_postfix({name: f"{value:.3f}" for name, value in figures.items()}, refresh=False)
        self._bar.update(self._batch_size)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()
