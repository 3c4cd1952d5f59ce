"""Keras's files: `.keras`, `.weights.h5` and the older `.h5`, whole models or weights alone.

What a file is, its content says; the name counts for nothing. Only arrays are read: no layer, function or other object
that a file describes is ever made, so a file from a stranger runs no code.
"""

import io
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import keras
import ml_dtypes
import numpy as np

from keras_mobilenet.weights import plan

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
ZIP_MAGIC = b"PK\x03\x04"
MAX_WEIGHTS_BYTES = 1 << 30  # of the weights in a .keras file; the largest network here, with its optimizer, has 360 MB

_WEIGHTS_IN_ARCHIVE = "model.weights.h5"
_WORDS = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=.)(?=[A-Z][a-z])")
_LAYERS = ("layers", "_layer_checkpoint_dependencies")  # Keras 3, and the same format before 2.14
# What h5py and zipfile raise where bytes are missing or not as they should be.
_DAMAGE = (
    OSError,
    KeyError,
    RuntimeError,
    TypeError,
    AttributeError,
    zipfile.BadZipFile,
    EOFError,
    NotImplementedError,
)

Stored = dict[str, list[h5py.Dataset]]


def read(path: Path, model: keras.Model) -> plan.Plan:
    """Reads a Keras file against a model, by layer name.

    Args:
        path: An HDF5 file or a `.keras` archive.
        model: The model to be given weights; unchanged.

    Returns:
        What to assign.

    Raises:
        ValueError: The file is damaged, holds no layers, or does not fit.
    """
    try:
        with _hdf5(path) as file:
            stored = _stored_layers(file, path, model)
            shapes = {name: [tuple(array.shape) for array in arrays] for name, arrays in stored.items()}
            layers, left = plan.match(model, shapes, str(path))
            values = [
                (variable, _array(array))
                for layer in layers
                for variable, array in zip(layer.weights, stored[layer.name], strict=True)
            ]
    except _DAMAGE as error:
        raise ValueError(
            f"{path} ({path.stat().st_size:,} bytes) begins as a Keras file but is truncated or damaged: {error}. "
            "Copy, download or save it again. The model is unchanged."
        ) from error
    return plan.Plan(values, left)


@contextmanager
def _hdf5(path: Path) -> Iterator[h5py.File]:
    with path.open("rb") as stream:
        archived = stream.read(len(ZIP_MAGIC)) == ZIP_MAGIC
        stream.seek(0)
        with h5py.File(_from_archive(stream, path) if archived else stream, "r") as file:
            yield file


def _from_archive(stream: BinaryIO, path: Path) -> io.BytesIO:
    with zipfile.ZipFile(stream) as archive:
        names = archive.namelist()
        if _WEIGHTS_IN_ARCHIVE not in names:
            raise ValueError(
                f"{path} is a zip archive but no `.keras` file: it has no {_WEIGHTS_IN_ARCHIVE}, only "
                f"{', '.join(names[:3]) or 'nothing'}. Save a model with `model.save('name.keras')`."
            )
        size = archive.getinfo(_WEIGHTS_IN_ARCHIVE).file_size
        if size > MAX_WEIGHTS_BYTES:
            raise ValueError(
                f"{path} declares {size:,} bytes of weights; up to {MAX_WEIGHTS_BYTES:,} are read here. Check that it "
                "is the file you mean."
            )
        return io.BytesIO(archive.read(_WEIGHTS_IN_ARCHIVE))


def _stored_layers(file: h5py.File, path: Path, model: keras.Model) -> Stored:
    if any(name in file for name in _LAYERS):
        stored = _by_path(file, model)
    else:
        stored = _by_layer_names(_group(file, "model_weights") if "model_weights" in file else file)
    if not stored:
        raise ValueError(
            f"{path} is an HDF5 file without a Keras model's layers: it holds "
            f"{', '.join(f'`{name}`' for name in list(file)[:3]) or 'nothing'}. Pass a file written by `model.save` or "
            "`model.save_weights`. The model is unchanged."
        )
    return stored


def _by_path(file: h5py.File, model: keras.Model) -> Stored:
    """Keras 3's layout: `layers/<class>_<number>/vars/<index>`, with the layer's name as an attribute of `vars`."""
    paths = {path: layer.name for path, layer in _paths(model)}
    stored: Stored = {}

    def visit(path: str, item: Any) -> None:  # h5py calls it for hard links only, once for each object
        head, _, last = path.rpartition("/")
        if last != "vars" or not head.startswith(_LAYERS) or not isinstance(item, h5py.Group):
            return
        for dependencies in _LAYERS[1:]:
            head = head.replace(dependencies, _LAYERS[0])
        name = item.attrs.get("name", paths.get(head))  # older Keras 3 wrote no names
        if name and len(item):
            stored[str(name)] = [_dataset(item, str(index)) for index in range(len(item))]

    file.visititems(visit)
    return stored


def _paths(model: keras.Model, parent: str = "layers") -> Iterator[tuple[str, keras.layers.Layer]]:
    """Where Keras 3 keeps each layer: numbered within its class, in the model's order."""
    seen: dict[str, int] = {}
    for layer in model.layers:
        kind = _WORDS.sub("_", type(layer).__name__).lower()
        number = seen[kind] = seen.get(kind, -1) + 1
        path = f"{parent}/{kind}_{number}" if number else f"{parent}/{kind}"
        yield path, layer
        if isinstance(layer, keras.Model):
            yield from _paths(layer, f"{path}/layers")


def _by_layer_names(group: h5py.Group) -> Stored:
    """The older layout: a list of layer names, and in each layer's group a list of its weights' names."""
    stored: Stored = {}
    for layer in _texts(group, "layer_names"):
        layer_group = _group(group, layer)
        weights = {name: _dataset(layer_group, name) for name in _texts(layer_group, "weight_names")}
        owners = {name.rpartition("/")[0].rpartition("/")[2] for name in weights}
        for name, array in weights.items():
            # A nested model's group holds the weights of all its layers, whose names stand before the weight's.
            owner = name.rpartition("/")[0].rpartition("/")[2] if len(owners) > 1 else layer
            stored.setdefault(owner, []).append(array)
    return stored


def _texts(group: h5py.Group, name: str) -> list[str]:
    """A list of strings in an attribute, which Keras splits over several (`name0`, `name1`) where it is long."""
    keys = [name] if name in group.attrs else [f"{name}{part}" for part in range(len(group.attrs))]
    values = [value for key in keys if key in group.attrs for value in group.attrs[key]]
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values]


def _item(group: h5py.Group, path: str) -> Any:
    item: Any = group
    for name in path.split("/"):
        # A soft or external link could lead to any file on this machine.
        if not isinstance(item.get(name, getlink=True), h5py.HardLink):
            raise KeyError(f"{path!r} is missing or a link")
        item = item[name]
    return item


def _group(group: h5py.Group, path: str) -> h5py.Group:
    item = _item(group, path)
    if not isinstance(item, h5py.Group):
        raise TypeError(f"{path!r} is not a group")
    return item


def _dataset(group: h5py.Group, path: str) -> h5py.Dataset:
    item = _item(group, path)
    if not isinstance(item, h5py.Dataset) or item.external or item.is_virtual:
        raise TypeError(f"{path!r} is not an array kept in this file")
    return item


def _array(dataset: h5py.Dataset) -> np.ndarray:
    if dataset.attrs.get("dtype") == "bfloat16":  # HDF5 has no such type; Keras keeps the bytes and says so
        return np.asarray(dataset[()]).view(ml_dtypes.bfloat16).astype(np.float32)
    return np.asarray(dataset[()])
