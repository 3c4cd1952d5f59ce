"""A folder of class folders, in the layout of tensorflow-datasets' ImageFolder.

ImageFolder itself reads every picture before it gives away a file's name, so the folders are listed here; a test holds
its classes, splits and files against ImageFolder's.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from training.data.pictures import Source, whole
from training.data.records import file_stamp

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif")
SPLIT_NAMES = {"train": "train", "training": "train", "val": "validation", "valid": "validation"} | {
    "validation": "validation",
    "test": "test",
    "testing": "test",
}

LAYOUTS = """Expected is one of
  {0}/train/CLASS/*.jpg and {0}/validation/CLASS/*.jpg (or val, test), or
  {0}/CLASS/*.jpg, of which a part is then held out for validation,
with pictures named """ + " ".join(SUFFIXES)


@dataclass(frozen=True)
class Files:
    """Pictures that are files, each with its label."""

    paths: tuple[str, ...] = field(repr=False)
    labels: np.ndarray = field(repr=False)

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, number: int) -> tuple[bytes, int]:
        """The encoded picture and its label."""
        with open(self.paths[number], "rb") as stream:
            return stream.read(), int(self.labels[number])

    def where(self, number: int) -> str:
        """The file's path."""
        return self.paths[number]

    def fingerprint(self) -> str:
        """Names, sizes and times of the files."""
        return "\n".join(file_stamp(path) for path in self.paths)


def load_folder(data_dir: str | os.PathLike) -> Source:
    """A folder of class folders.

    Two layouts are read: `data_dir/SPLIT/CLASS/*.jpg` with the splits `train`, `validation` (or `val`) and `test`, and
    `data_dir/CLASS/*.jpg`, all of which become the split `train`. Class names are the folders' names, sorted; hidden
    folders are passed over.

    Args:
        data_dir: the folder.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: neither layout fits, or a split has a class that the training pictures lack.
    """
    root = Path(data_dir).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"The folder {str(root)!r} does not exist. " + LAYOUTS.format(root))
    folders = _folders(root)
    by_split = {SPLIT_NAMES.get(folder.name.lower()): folder for folder in folders}
    if folders and None not in by_split and len(by_split) == len(folders):
        listed = {split: _pictures_by_class(folder) for split, folder in by_split.items()}
    else:
        listed = {"train": _pictures_by_class(root)}
    names = _class_names(listed, root)
    splits = {split: whole(split, names, _files(classes, names)) for split, classes in listed.items()}
    return Source(root.name, names, splits)


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def _pictures_by_class(folder: Path) -> dict[str, list[str]]:
    return {
        child.name: sorted(entry.path for entry in os.scandir(child) if entry.name.lower().endswith(SUFFIXES))
        for child in _folders(folder)
    }


def _class_names(listed: dict[str, dict[str, list[str]]], root: Path) -> tuple[str, ...]:
    """The classes of the training pictures, after a check that the folders are what they should be."""
    train = listed.get("train") or next(iter(listed.values()))
    empty = sorted(
        f"{split}/{name}" for split, classes in listed.items() for name, files in classes.items() if not files
    )
    if not train or len(empty) == sum(len(classes) for classes in listed.values()):
        raise ValueError(f"There are no pictures in class folders under {str(root)!r}. " + LAYOUTS.format(root))
    if empty:
        raise ValueError(
            f"These class folders under {str(root)!r} hold no pictures: {_some(empty)}. Fill them or delete them. "
            + LAYOUTS.format(root)
        )
    for split, classes in listed.items():
        if strangers := sorted(set(classes) - set(train)):
            raise ValueError(
                f"{str(root)!r}: {split} has classes that the training pictures lack: {_some(strangers)}. "
                "Every split takes its classes from the same list."
            )
    return tuple(sorted(train))


def _files(classes: dict[str, list[str]], names: Iterable[str]) -> Files:
    pairs = [(path, label) for label, name in enumerate(names) for path in classes.get(name, ())]
    return Files(tuple(path for path, _ in pairs), np.array([label for _, label in pairs], np.int64))


def _some(names: list[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
