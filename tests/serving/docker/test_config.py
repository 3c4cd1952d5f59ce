"""The text protos in serving/docker/config, and the embedded server started from them."""

import time

import numpy as np
import pytest
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from serving.server import batching_parameters, config, text_protos
from tests.serving.docker import embedded
from tests.serving.server.calls import get, predict, spec

BATCHING = sorted(embedded.CONFIG.glob("batching_*.config"))


def test_models_config_is_a_model_server_config():
    text = (embedded.CONFIG / "models.config").read_text()
    (model,) = config.parse_models(text_format.Parse(text, model_server_config_pb2.ModelServerConfig()))
    assert str(model.base_path).startswith("/models/")
    assert model.labels == {"stable": 1, "canary": 2}


def test_labelled_versions_are_served():
    text = (embedded.CONFIG / "models.config").read_text()
    parsed = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    for model in parsed.model_config_list.config:
        assert set(model.version_labels.values()) <= set(model.model_version_policy.specific.versions)


@pytest.mark.parametrize("path", BATCHING, ids=lambda path: path.name)
def test_batching_files_are_batching_parameters(path):
    parameters = batching_parameters.read(str(path))
    assert parameters.allowed_batch_sizes[-1] == parameters.max_batch_size
    # For online traffic: what waits longer than the threads can take is better sent elsewhere.
    assert parameters.max_enqueued_batches == parameters.num_batch_threads


def test_monitoring_config_turns_metrics_on():
    parsed = text_protos.read(str(embedded.CONFIG / "monitoring.config"), text_protos.MonitoringConfig)
    assert parsed.prometheus_config.enable
    assert parsed.prometheus_config.path == "/monitoring/prometheus/metrics"


def test_every_config_file_is_of_a_known_kind():
    assert {path.name for path in embedded.CONFIG.glob("*.config")} == {
        "models.config",
        "monitoring.config",
        *(path.name for path in BATCHING),
    }
    assert {path.name for path in BATCHING} == {"batching_cpu.config", "batching_gpu.config"}


@pytest.mark.slow
class TestServedFromTheseFiles:
    @pytest.mark.parametrize(("label", "version", "offset"), [("stable", 1, 2.0), ("canary", 2, 3.0)])
    def test_labels(self, serving, label, version, offset):
        answer = predict(serving, spec("mobilenet", label=label), x=np.zeros(1, np.float32))
        assert answer.model_spec.version.value == version
        assert answer.outputs["y"].float_val[0] == offset
        status, answer = get(f"{serving.url}/v1/models/mobilenet/labels/{label}")
        assert status == 200
        assert [(each["version"], each["state"]) for each in answer["model_version_status"]] == [
            (str(version), "AVAILABLE")
        ]

    def test_a_label_without_its_version_does_not_keep_the_server_from_starting(self, models, tmp_path):
        only_stable = tmp_path / "savedmodels"
        (only_stable / "mobilenet").mkdir(parents=True)
        (only_stable / "mobilenet" / "1").symlink_to(models / "mobilenet" / "1")
        folder = embedded.local_config(tmp_path / "config", only_stable)
        flags = ["--model_config_file=/config/models.config", "--allow_version_labels_for_unavailable_models=true"]
        polled = [*flags, "--model_config_file_poll_wait_seconds=0.1", "--file_system_poll_wait_seconds=0.1"]
        with embedded.in_this_process(embedded.local_flags(polled, folder)) as clients:
            assert get(f"{clients.url}/v1/models/mobilenet/labels/stable")[0] == 200
            assert get(f"{clients.url}/v1/models/mobilenet/labels/canary")[0] == 404
            # An edit moves the label, as the comment in the file says.
            (only_stable / "mobilenet" / "2").symlink_to(models / "mobilenet" / "2")
            wait_for_version(clients, 2)
            file = folder / "models.config"
            file.write_text(file.read_text().replace('key: "stable" value: 1', 'key: "stable" value: 2'))
            wait_for_stable(clients, 3.0)


def wait_for_version(clients, version):
    until(lambda: get(f"{clients.url}/v1/models/mobilenet/versions/{version}")[0] == 200)


def wait_for_stable(clients, value):
    question = spec("mobilenet", label="stable")
    until(lambda: predict(clients, question, x=np.zeros(1, np.float32)).outputs["y"].float_val[0] == value)


def until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)
