"""The figures of each epoch, as CSV and for TensorBoard."""

import csv
import os
from pathlib import Path

import tensorflow as tf

FILE = "history.csv"


class History:
    """Rows of figures, one an epoch.

    Args:
        folder: `history.csv` and TensorBoard's files go there.
        write: Whether this process writes them; in a cluster only the chief does.
    """

    def __init__(self, folder: Path, write: bool = True) -> None:
        self._file = folder / FILE
        self._tensorboard = str(folder / "tensorboard")
        self._writer: tf.summary.SummaryWriter | None = None
        self._write = write
        self.rows = read(folder)

    def cut(self, epochs: int) -> None:
        """Forgets the rows after the first `epochs`, which a run that goes on from a checkpoint writes again."""
        self.rows = [row for row in self.rows if row["epoch"] <= epochs]

    def add(self, row: dict[str, float]) -> None:
        """Adds an epoch."""
        self.rows.append(row)
        if not self._write:
            return
        unfinished = self._file.with_suffix(".unfinished")
        with unfinished.open("w", newline="") as file:
            names = dict.fromkeys(name for each in self.rows for name in each)  # not every epoch has all figures
            table = csv.DictWriter(file, list(names))
            table.writeheader()
            table.writerows(self.rows)
        os.replace(unfinished, self._file)
        if self._writer is None:
            self._writer = tf.summary.create_file_writer(self._tensorboard)
        with self._writer.as_default():
            for name in row.keys() - {"epoch", "step"}:
                tf.summary.scalar(name, row[name], step=int(row["epoch"]))
        self._writer.flush()

    def epochs_without_gain(self, name: str) -> int:
        """Epochs since the highest value of a figure; 0 where it was never taken."""
        taken = [row for row in self.rows if name in row]
        return int(taken[-1]["epoch"] - max(taken, key=lambda row: row[name])["epoch"]) if taken else 0


def read(folder: Path) -> list[dict[str, float]]:
    """The rows that `folder` holds; none where nothing was written yet."""
    file = folder / FILE
    if not file.exists():
        return []
    with file.open(newline="") as lines:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(lines)]
