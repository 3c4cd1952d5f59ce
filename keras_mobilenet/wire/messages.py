"""Message classes of TF Serving's protocol, in a descriptor pool of their own.

The descriptors come from `tensorflow_serving.binpb`, which `python -m serving.wire_protos` takes from the
tensorflow-serving-api wheel. A private pool keeps them apart from the ones that TensorFlow registers in the default
pool, so both can live in one process, whichever is imported first.
"""

from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

DESCRIPTOR_FILE = Path(__file__).with_name("tensorflow_serving.binpb")

POOL = descriptor_pool.DescriptorPool()


def _fill_pool() -> None:
    for file in descriptor_pb2.FileDescriptorSet.FromString(DESCRIPTOR_FILE.read_bytes()).file:
        POOL.AddSerializedFile(file.SerializeToString())


_fill_pool()


def message_class(full_name: str) -> Any:
    """Return the class of a message.

    Args:
        full_name: the message's name with its package, for instance `tensorflow.TensorProto`.

    Returns:
        The class; the same one at every call.

    Raises:
        KeyError: there is no such message in the protocol.

    Example:
        >>> message_class("tensorflow.serving.ModelSpec")(name="mobilenet").name
        'mobilenet'
    """
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(full_name))
