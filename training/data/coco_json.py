"""Pictures with boxes from COCO-style JSON files, one file a split.

Two layouts are read: COCO's own `instances_*.json` (`images`, `annotations` with `bbox` in pixels, `categories`), and
the short form with the boxes inside the images: `{"classes": [...], "images": [{"file": "1.jpg", "boxes": [[ymin, xmin,
ymax, xmax], ...], "labels": [0, ...]}]}`, as shares of the picture's sides.
"""

import json
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from training.data.boxes import Boxes
from training.data.pictures import Source, whole
from training.data.records import file_stamp

DEFAULT_FILES = {
    "train": ("train.json", "annotations/instances_train2017.json"),
    "validation": ("val.json", "validation.json", "annotations/instances_val2017.json"),
    "test": ("test.json",),
}


@dataclass(frozen=True)
class AnnotatedFiles:
    """Picture files with the boxes on them."""

    paths: tuple[str, ...] = field(repr=False)
    boxes: tuple[Boxes, ...] = field(repr=False)
    source: str

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, number: int) -> tuple[bytes, Boxes]:
        """The encoded picture and its boxes."""
        with open(self.paths[number], "rb") as stream:
            return stream.read(), self.boxes[number]

    def where(self, number: int) -> str:
        """The file's path."""
        return self.paths[number]

    def fingerprint(self) -> str:
        """Names, sizes and times of the files."""
        return "\n".join(file_stamp(path) for path in (self.source, *self.paths))


def load_coco_json(data_dir: str | os.PathLike, files: Mapping[str, str] | None = None) -> Source:
    """Pictures with boxes from COCO-style JSON.

    Args:
        data_dir: folder of the files.
        files: JSON file of each split, relative to `data_dir`; by default `train.json` and `val.json`, or COCO 2017's
            `annotations/instances_train2017.json` and `annotations/instances_val2017.json`, whichever are there.

    Returns:
        The source. Pictures are looked for beside the JSON file, in the folders `images`, SPLIT/images and that of the
        file's name (`train2017` of `instances_train2017.json`), in this order.

    Raises:
        FileNotFoundError: the folder, a JSON file or a picture's folder does not exist.
        ValueError: a file is no such JSON, or the splits have different classes.
    """
    root = Path(data_dir).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"The folder {str(root)!r} does not exist; it holds the JSON files and the pictures.")
    chosen = {split: root / name for split, name in files.items()} if files else _default_files(root)
    parts = {split: _read(path, split, root) for split, path in chosen.items()}
    (first, (names, _)), *others = parts.items()
    for split, (other_names, _) in others:
        if other_names != names:
            raise ValueError(f"{chosen[split]} has other classes than {chosen[first]}: give files of one data set.")
    return Source(root.name, names, {split: whole(split, names, pictures) for split, (_, pictures) in parts.items()})


def _default_files(root: Path) -> dict[str, Path]:
    found = {
        split: next((root / name for name in names if (root / name).is_file()), None)
        for split, names in DEFAULT_FILES.items()
    }
    there = {split: path for split, path in found.items() if path}
    if not there:
        raise FileNotFoundError(
            f"{root} has none of {', '.join(name for names in DEFAULT_FILES.values() for name in names)}: name the "
            "files with --train_files and --validation_files."
        )
    return there


def _read(path: Path, split: str, root: Path) -> tuple[tuple[str, ...], AnnotatedFiles]:
    if not path.is_file():
        raise FileNotFoundError(f"The JSON file {str(path)!r} of {split!r} does not exist.")
    try:
        content = json.loads(path.read_text("utf-8"))
        names, rows = _coco(content) if "annotations" in content else _short(content)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise ValueError(
            f"{path} is neither COCO's instances JSON nor the short form with `classes` and `images`: "
            f"{type(error).__name__}: {error}."
        ) from error
    if not rows:
        raise ValueError(f"{path} names no pictures.")
    folder = _folder(path, split, root, rows[0][0])
    paths = tuple(str(folder / name) for name, _ in rows)
    return names, AnnotatedFiles(paths, tuple(boxes for _, boxes in rows), str(path))


def _short(content: Mapping[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, Boxes]]]:
    names, rows = tuple(content["classes"]), []
    for image in content["images"]:
        _check_numbers(image["labels"], len(names), image["file"])
        size = (image["height"], image["width"]) if "height" in image else None
        rows.append((image["file"], Boxes.of(image["boxes"], image["labels"], image.get("crowd"), size)))
    return names, rows


def _check_numbers(labels: Sequence[int], classes: int, name: str) -> None:
    wrong = [label for label in labels if not 0 <= label < classes]
    if wrong:
        raise ValueError(f"{name} has the label {wrong[0]}, and there are {classes} classes")


def _coco(content: Mapping[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, Boxes]]]:
    """COCO's category numbers have gaps; here the classes are numbered from 0 in their order."""
    categories = sorted(content["categories"], key=lambda category: category["id"])
    number = {category["id"]: index for index, category in enumerate(categories)}
    of_image = defaultdict(list)
    for annotation in content["annotations"]:
        of_image[annotation["image_id"]].append(annotation)
    rows = []
    for image in content["images"]:
        height, width = image["height"], image["width"]
        found = of_image[image["id"]]
        corners = [
            (y / height, x / width, (y + h) / height, (x + w) / width) for x, y, w, h in (a["bbox"] for a in found)
        ]
        classes = [number[annotation["category_id"]] for annotation in found]
        crowd = [bool(annotation.get("iscrowd", 0)) for annotation in found]
        rows.append((image["file_name"], Boxes.of(corners, classes, crowd, (height, width))))
    return tuple(category["name"] for category in categories), rows


def _folder(path: Path, split: str, root: Path, first: str) -> Path:
    """The folder that the first picture is found in."""
    own = path.stem.removeprefix("instances_")
    beside = path.parent
    tried = [beside, beside / "images", root / own / "images", root / split / "images", root / own, root, beside / own]
    for folder in tried:
        if (folder / first).is_file():
            return folder
    places = ", ".join(str(folder) for folder in dict.fromkeys(tried))
    raise FileNotFoundError(f"{path} names the picture {first}, which is in none of {places}.")
