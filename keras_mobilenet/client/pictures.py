"""Pictures as users hand them in: paths and bytes, sent as they are for the server to decode."""

import os
from pathlib import Path
from typing import Any

_KINDS = (str, os.PathLike, bytes, bytearray, memoryview)


class Pictures(list[bytes]):
    """Encoded pictures that were read."""


def are_pictures(inputs: Any) -> bool:
    """Whether this is a path, bytes, or a list of these."""
    if isinstance(inputs, list | tuple):
        return bool(inputs) and all(isinstance(item, _KINDS) for item in inputs)
    return isinstance(inputs, _KINDS)


def read(inputs: Any) -> Pictures:
    """Read pictures from where they are.

    Args:
        inputs: a path, bytes, or a list of these.

    Returns:
        The encoded pictures.

    Raises:
        ValueError: a file cannot be read or a picture is empty; the message names it.
    """
    several = inputs if isinstance(inputs, list | tuple) else [inputs]
    return Pictures(_read_one(item, position) for position, item in enumerate(several))


def _read_one(item: Any, position: int) -> bytes:
    if isinstance(item, bytes | bytearray | memoryview):
        name, data = f"picture {position}", bytes(item)
    else:
        name = f"picture {os.fspath(item)!r}"
        try:
            data = Path(item).read_bytes()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ValueError(f"{name} cannot be read: {reason}") from error
    if not data:
        raise ValueError(f"{name} is empty")
    return data
