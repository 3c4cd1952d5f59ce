"""The figures of each epoch, as CSV and for TensorBoard."""

import csv
import os
from pathlib import Path

import tensorflow as tf


class History:
    """Rows of figures, one an epoch.

    Args:
        folder: `history.csv` and TensorBoard's files go there.
        write: Whether this process writes them; in a cluster only the chief does.
    """

    def __init__(self, folder: Path, write: bool = True) -> None:
        self._file = folder / "history.csv"
        self._writer = tf.summary.create_file_writer(str(folder / "tensorboard")) if write else None
        self.rows: list[dict[str, float]] = []
        if self._file.exists():
            with self._file.open(newline="") as file:
                self.rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]

    def cut(self, epochs: int) -> None:
        """Forgets the rows after the first `epochs`, which a run that goes on from a checkpoint writes again."""
        self.rows = self.rows[:epochs]

    def add(self, row: dict[str, float]) -> None:
        """Adds an epoch."""
        self.rows.append(row)
        if self._writer is None:
            return
        unfinished = self._file.with_suffix(".unfinished")
        with unfinished.open("w", newline="") as file:
            table = csv.DictWriter(file, list(row))
            table.writeheader()
            table.writerows(self.rows)
        os.replace(unfinished, self._file)
        with self._writer.as_default():
            for name in row.keys() - {"epoch", "step"}:
                tf.summary.scalar(name, row[name], step=int(row["epoch"]))
        self._writer.flush()

    def epochs_without_gain(self, name: str) -> int:
        """Epochs since the highest value of a figure; 0 where it was never taken."""
        values = [row[name] for row in self.rows if name in row]
        return len(values) - 1 - values.index(max(values)) if values else 0
