"""Pictures with masks from folders: for each split one of masks, and beside it one of pictures."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from training.data.pictures import Source, whole
from training.data.records import file_stamp, read_class_names

IMAGES = "images"  # the folder of the pictures, beside that of the masks
DEFAULT_FOLDERS = {"train": ("train/masks",), "validation": ("validation/masks", "val/masks"), "test": ("test/masks",)}
_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp")


@dataclass(frozen=True)
class MaskedFiles:
    """Picture files and the files of their masks."""

    pictures: tuple[Path, ...] = field(repr=False)
    masks: tuple[Path, ...] = field(repr=False)

    def __len__(self) -> int:
        return len(self.masks)

    def read(self, number: int) -> tuple[bytes, bytes]:
        """The encoded picture and the encoded mask."""
        return self.pictures[number].read_bytes(), self.masks[number].read_bytes()

    def where(self, number: int) -> str:
        """The picture's path."""
        return str(self.pictures[number])

    def fingerprint(self) -> str:
        """Names, sizes and times of the files."""
        return "\n".join(file_stamp(str(path)) for path in (*self.pictures, *self.masks))


def load_mask_folder(
    data_dir: str | os.PathLike, folders: Mapping[str, str] | None, labels_file: str | os.PathLike
) -> Source:
    """Pictures with masks from folders; pictures without a mask are left out.

    Args:
        data_dir: folder of all of it.
        folders: folder of masks of each split, relative to `data_dir`, such as `train/masks_voc21`; by default
            `train/masks`, `validation/masks` or `val/masks`, and `test/masks`, those of them that are there. The
            pictures lie in `images` beside it, under the same names but for the ending.
        labels_file: text file of class names, one a line, the background among them; relative to `data_dir` too.

    Returns:
        The source; labels are encoded masks: PNG, grey or with a palette, 255 for what counts for no class.

    Raises:
        FileNotFoundError: a folder, the labels or a picture does not exist.
        ValueError: there are no masks, or one has another size than its picture.
    """
    root = Path(data_dir).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"The folder {str(root)!r} does not exist; it holds pictures and masks.")
    labels = next((path for path in (root / labels_file, Path(labels_file)) if path.is_file()), None)
    if labels is None:
        raise FileNotFoundError(f"There is no file {str(labels_file)!r} of class names, also not in {root}.")
    names = read_class_names(labels)
    chosen = {split: root / name for split, name in folders.items()} if folders else _default_folders(root)
    return Source(root.name, names, {split: whole(split, names, _read(path)) for split, path in chosen.items()})


def _default_folders(root: Path) -> dict[str, Path]:
    found = {
        split: next((root / name for name in names if (root / name).is_dir()), None)
        for split, names in DEFAULT_FOLDERS.items()
    }
    there = {split: path for split, path in found.items() if path}
    if not there:
        raise FileNotFoundError(
            f"{root} has no folder {', '.join(name for names in DEFAULT_FOLDERS.values() for name in names)}: name the "
            "folders of masks with --train_files and --validation_files."
        )
    return there


def _read(folder: Path) -> MaskedFiles:
    if not folder.is_dir():
        raise FileNotFoundError(f"The folder of masks {str(folder)!r} does not exist.")
    masks = tuple(sorted(folder.glob("*.png")))
    if not masks:
        raise ValueError(f"{folder} holds no masks, files that end in .png.")
    return MaskedFiles(tuple(_picture(mask) for mask in masks), masks)


def _picture(mask: Path) -> Path:
    folder = mask.parent.parent / IMAGES
    picture = next((p for p in (folder / f"{mask.stem}{ending}" for ending in _ENDINGS) if p.is_file()), None)
    if picture is None:
        raise FileNotFoundError(f"{mask} is the mask of no picture: {folder} has no {mask.stem}.jpg or .png.")
    with Image.open(mask) as one, Image.open(picture) as other:
        if one.size != other.size:
            raise ValueError(
                f"{mask} has {one.size[0]} x {one.size[1]} pixels, its picture {picture} has {other.size}."
            )
    return picture
