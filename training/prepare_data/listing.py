"""Which pictures there are, and into which split each goes."""

import dataclasses
import json
from pathlib import Path

from training.data.folder import Files
from training.data.pictures import Source

SPLITS = ("train", "validation", "test")
_DIGITS = 13  # hexadecimal ones of a digest, which a float holds exactly


@dataclasses.dataclass(frozen=True)
class Shares:
    """How pictures are divided where the folder does not do it.

    Args:
        validation: Share of the pictures, 0 to 1.
        test: Share of the pictures, 0 to 1.
    """

    validation: float
    test: float

    def __post_init__(self) -> None:
        if self.validation + self.test >= 1:
            raise ValueError(
                f"--validation_share={self.validation:g} and --test_share={self.test:g} leave nothing to train on"
            )

    def split(self, digest: str) -> str:
        """The split of a picture: told by its content alone, so that it stays there when pictures are added.

        Args:
            digest: The content's SHA-256, hexadecimal.
        """
        place = int(digest[:_DIGITS], 16) / 16**_DIGITS
        if place < self.test:
            return "test"
        return "validation" if place < self.test + self.validation else "train"


@dataclasses.dataclass(frozen=True)
class Entry:
    """A picture of the folder.

    Args:
        path: Its file.
        label: Number of its class.
        split: Where the folder puts it; "" where it doesn't say.
    """

    path: str
    label: int
    split: str


def write(source: Source, file: Path) -> int:
    """Writes a line for each picture, for the workers.

    Args:
        source: As `training.data.folder.load_folder` gives it.
        file: To write.

    Returns:
        The number of pictures.
    """
    divided = len(source.splits) > 1
    count = 0
    with file.open("w", encoding="utf-8") as stream:
        for split in source.splits.values():
            files = split.pictures
            assert isinstance(files, Files)
            for path, label in zip(files.paths, files.labels.tolist(), strict=True):
                entry = Entry(str(Path(path).absolute()), label, split.name if divided else "")
                stream.write(json.dumps(dataclasses.astuple(entry)) + "\n")
                count += 1
    return count


def read(line: str) -> Entry:
    """Reads a line of `write`."""
    return Entry(*json.loads(line))
