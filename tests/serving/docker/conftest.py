"""A server that runs with compose.yaml's flags, for all tests of this folder."""

from collections.abc import Iterator

import numpy as np
import pytest

from tests.serving.docker import embedded
from tests.serving.server import tiny_models
from tests.serving.server.calls import Clients, post, predict, spec


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """A folder as savedmodels/: two versions of `mobilenet` that answer differently."""
    root = tmp_path_factory.mktemp("savedmodels")
    tiny_models.half_plus_two(root / "mobilenet" / "1", offset=2.0)
    tiny_models.half_plus_two(root / "mobilenet" / "2", offset=3.0)
    return root


@pytest.fixture(scope="session")
def config(tmp_path_factory, models):
    """The config folder for those models."""
    return embedded.local_config(tmp_path_factory.mktemp("config") / "config", models)


@pytest.fixture(scope="session")
def serving(config) -> Iterator[Clients]:
    """The server of compose.yaml, after requests over gRPC and REST, good and bad."""
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    compose = yaml.safe_load((embedded.DOCKER / "compose.yaml").read_text())
    with embedded.running(embedded.local_flags(compose["services"]["serving"]["command"], config)) as clients:
        for _ in range(3):
            predict(clients, spec("mobilenet"), x=np.ones(3, np.float32))
        assert post(f"{clients.url}/v1/models/mobilenet:predict", {"instances": [1.0]})[0] == 200
        assert post(f"{clients.url}/v1/models/mobilenet:predict", {"instances": ["one"]})[0] == 400
        yield clients
