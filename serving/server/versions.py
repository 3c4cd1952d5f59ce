"""Which versions of a model there are on disk, and which of them its policy wants."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from absl import logging
from tensorflow_serving.config import file_system_storage_path_source_pb2

VersionPolicy = file_system_storage_path_source_pb2.FileSystemStoragePathSourceConfig.ServableVersionPolicy
_MAX_VERSION = 2**63 - 1


def find(base_path: Path) -> dict[int, Path]:
    """Lists the version directories: those whose name is an integer (`00000123` is 123), others are skipped.

    Args:
        base_path: The model's directory.

    Returns:
        Path by version number.

    Raises:
        OSError: Where the directory is missing or cannot be read.
    """
    found: dict[int, Path] = {}
    for name in sorted(_directories(base_path)):
        if not re.fullmatch(r"[0-9]+", name) or int(name) > _MAX_VERSION:
            continue
        version, child = int(name), base_path / name
        if version in found:
            logging.log_first_n(
                logging.WARNING, "%s and %s are the same version; %s is served", 1, found[version], child, child
            )
        found[version] = child
    return found


def _directories(path: Path) -> list[str]:
    """Names of the directories in one, which may be renamed meanwhile: by its path all of them would then be gone."""
    opened = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with os.scandir(opened) as entries:
            return [entry.name for entry in entries if entry.is_dir()]
    finally:
        os.close(opened)


def wanted(found: Mapping[int, Path], policy: VersionPolicy) -> dict[int, Path]:
    """Applies a version policy.

    Args:
        found: What `find` returned.
        policy: `latest {num_versions}` (the default, with 1), `all`, or `specific {versions}`.

    Returns:
        The versions to serve, with their paths.
    """
    choice = policy.WhichOneof("policy_choice") or "latest"
    if choice == "all":
        return dict(found)
    if choice == "specific":
        return {version: path for version, path in found.items() if version in policy.specific.versions}
    count = max(policy.latest.num_versions, 1)
    return {version: found[version] for version in sorted(found, reverse=True)[:count]}
