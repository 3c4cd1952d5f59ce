"""Write the file of message descriptors that `keras_mobilenet.wire` is built from: `python -m serving.wire_protos`.

The tensorflow-serving-api wheel needs all of TensorFlow to be imported. Its messages do not: this program takes the
descriptors of PredictionService, ModelService and the warm-up log, and of every file they depend on, out of the wheel
and writes them as one FileDescriptorSet. Run it after a change of the wheel's version; a test compares its answer with
the committed file.
"""

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from absl import app, flags
from google.protobuf import descriptor, descriptor_pb2

# Not taken from keras_mobilenet.wire, which cannot be imported before the file is there.
DESCRIPTOR_FILE = Path(__file__).parents[1] / "keras_mobilenet" / "wire" / "tensorflow_serving.binpb"

_OUTPUT = flags.DEFINE_string("output", None, "Where to write; by default over the file of the checkout.")


def service_files() -> list[descriptor.FileDescriptor]:
    """The wheel's files that define the two services, and the log that warm-up requests are written as."""
    from tensorflow_serving.apis import model_service_pb2, prediction_log_pb2, prediction_service_pb2

    return [prediction_service_pb2.DESCRIPTOR, model_service_pb2.DESCRIPTOR, prediction_log_pb2.DESCRIPTOR]


def descriptor_set(roots: Iterable[descriptor.FileDescriptor]) -> bytes:
    """Serialize files and all that they import, each file after its imports.

    Args:
        roots: the files to start from.

    Returns:
        A serialized FileDescriptorSet. Options of whole files (package names of other languages) are left out: they say
        nothing about the wire format.
    """
    result = descriptor_pb2.FileDescriptorSet()
    seen: set[str] = set()

    def add(file: descriptor.FileDescriptor) -> None:
        if file.name in seen:
            return
        seen.add(file.name)
        for imported in file.dependencies:
            add(imported)
        file.CopyToProto(entry := result.file.add())
        entry.ClearField("options")

    for root in roots:
        add(root)
    return result.SerializeToString(deterministic=True)


def write(path: Path, data: bytes) -> None:
    """Replace a file in one step, so that no reader sees half of it."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        file.write(data)
    os.chmod(file.name, 0o644)
    os.replace(file.name, path)


def main(arguments: list[str]) -> None:
    """Write the descriptors and say where."""
    if len(arguments) > 1:
        raise app.UsageError(f"unexpected arguments: {arguments[1:]}")
    path = Path(_OUTPUT.value) if _OUTPUT.value else DESCRIPTOR_FILE
    data = descriptor_set(service_files())
    write(path, data)
    print(f"{path}: {len(data)} bytes")


if __name__ == "__main__":
    app.run(main)
