import csv
import os
from pathlib import Path

# Before anything imports Keras: what is in the caller's environment or ~/.keras/keras.json is not what the tests test.
os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pytest

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real pictures and weights; a test that needs it is skipped where it is missing."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"the shared pictures and weights are not at {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture(scope="session")
def imagenet_photos(shared_data: Path) -> tuple[list[bytes], np.ndarray]:
    """The 400 photos of `imagenet/ccby400`, as files have them, and their classes."""
    with (shared_data / "imagenet" / "ccby400.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    encoded = [(shared_data / "imagenet" / "ccby400" / row["file"]).read_bytes() for row in rows]
    return encoded, np.array([int(row["class_index"]) for row in rows])
