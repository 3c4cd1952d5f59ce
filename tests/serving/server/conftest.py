"""A server in this process, for the quick tests; its models are loaded once."""

from collections.abc import Iterator

import pytest
import tensorflow as tf

from serving.server import config, server
from tests.serving.server import tiny_models as models
from tests.serving.server.calls import Clients, config_text


@pytest.fixture(scope="session")
def start():
    """Starts servers on free ports; they stop at the end of the session."""
    running: list[Clients] = []

    def start_one(**options) -> Clients:
        defaults = {
            "grpc_port": 0,
            "rest_api_port": -1,
            "file_system_poll_wait_seconds": 0.05,
            "max_num_load_retries": 0,
            "drain_seconds": 5,
        }
        started = server.ModelServer(config.Options(**{**defaults, **options}))
        try:
            started.start()
        except BaseException:
            started.stop()
            raise
        clients = Clients(started.grpc_port, started.rest_api_port)
        clients.server = started
        running.append(clients)
        return clients

    yield start_one
    for clients in running:
        clients.channel.close()
        clients.server.stop()


@pytest.fixture(scope="session")
def served(start, tmp_path_factory) -> Iterator[Clients]:
    """A server with one model of each kind."""
    root = tmp_path_factory.mktemp("models")
    models.half_plus_two(root / "half" / "00000123")
    models.half_plus_two(root / "half" / "124", offset=3.0)
    models.examples_tf1(root / "examples" / "1")
    models.decoder(root / "decoder" / "1")
    models.echo(root / "text" / "1", tf.string)
    models.counter(root / "counter" / "1")
    half = "model_version_policy { all {} } version_labels { key: 'stable' value: 123 }"
    file = root / "models.config"
    file.write_text(config_text(root, half=half, examples="", decoder="", text="", counter=""))
    yield start(
        model_config_file=str(file),
        allow_version_labels_for_unavailable_models=True,
        enable_grpc_healthcheck_service=True,
    )


@pytest.fixture(scope="session")
def echoes(start, tmp_path_factory) -> Iterator[Clients]:
    """A server with an echo model for each dtype."""
    root = tmp_path_factory.mktemp("echoes")
    for name, (dtype, _) in models.DTYPES.items():
        models.echo(root / name / "1", dtype)
    file = root / "models.config"
    file.write_text(config_text(root, **dict.fromkeys(models.DTYPES, "")))
    yield start(model_config_file=str(file))
