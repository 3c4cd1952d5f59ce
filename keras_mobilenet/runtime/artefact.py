"""Finds out what a path holds."""

import dataclasses
import enum
import os
from pathlib import Path

TFLITE_NAME = "model.tflite"
SAVED_MODEL_NAME = "saved_model.pb"


class Kind(enum.Enum):
    """How a model is stored."""

    KERAS = "Keras"
    SAVED_MODEL = "SavedModel"
    TFLITE = "LiteRT"


@dataclasses.dataclass(frozen=True)
class Artefact:
    """A stored model: what it is, and the file or directory that is loaded."""

    kind: Kind
    path: Path


def find(path: str | os.PathLike[str], prefer_tflite: bool = False) -> Artefact:
    """Finds the model at a path.

    Args:
        path: A `.keras` or `.tflite` file, a SavedModel directory, or a directory of numbered versions, of which the
            highest is taken.
        prefer_tflite: Take `model.tflite` of a SavedModel directory where there is one.

    Returns:
        What it is, and the file or directory to load.

    Raises:
        FileNotFoundError: If there is nothing at the path.
        ValueError: If what is there isn't a model.
    """
    place = Path(path)
    if not place.exists():
        raise FileNotFoundError(f"there is no model at {place}")
    if place.is_file():
        kinds = {".keras": Kind.KERAS, ".tflite": Kind.TFLITE}
        if place.suffix not in kinds:
            raise ValueError(f"{place} ends in {place.suffix!r}; a model file ends in .keras or .tflite")
        return Artefact(kinds[place.suffix], place)
    versions = [entry for entry in place.iterdir() if entry.name.isdigit() and entry.is_dir()]
    if not (place / SAVED_MODEL_NAME).exists() and not (place / TFLITE_NAME).exists() and versions:
        place = max(versions, key=lambda entry: int(entry.name))
    has_saved_model, has_tflite = (place / SAVED_MODEL_NAME).exists(), (place / TFLITE_NAME).exists()
    if has_tflite and (prefer_tflite or not has_saved_model):
        return Artefact(Kind.TFLITE, place / TFLITE_NAME)
    if has_saved_model:
        return Artefact(Kind.SAVED_MODEL, place)
    raise ValueError(f"{place} holds neither {SAVED_MODEL_NAME} nor {TFLITE_NAME}, nor numbered versions with them")
