"""The compose files: their schema, what protects the containers, and their flags and health check run for real."""

import re
import subprocess
import sys
from importlib import util

import numpy as np
import pytest

from serving.server import batching_parameters
from tests.serving.docker import embedded
from tests.serving.server.calls import predict, spec

yaml = pytest.importorskip("yaml", reason="PyYAML, which reads compose files, is not installed")

FILES = {path.name: yaml.safe_load(path.read_text()) for path in sorted(embedded.DOCKER.glob("compose*.yaml"))}
SERVERS = {name: content["services"]["serving"] for name, content in FILES.items() if "serving" in content["services"]}
SERVICES = {
    f"{name}:{service}": settings
    for name, content in FILES.items()
    for service, settings in content["services"].items()
}
each_service = pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)
each_server = pytest.mark.parametrize("server", SERVERS.values(), ids=SERVERS)


def test_there_is_a_file_for_each_machine():
    assert set(SERVERS) == {"compose.yaml", "compose.gpu.yaml", "compose.embedded.yaml", "compose.coral.yaml"}


@pytest.mark.parametrize("name", FILES)
def test_keeps_the_compose_specification(name):
    if util.find_spec("check_jsonschema") is None:
        pytest.skip("check-jsonschema, which has the schema of the Compose Specification, is not installed")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    checked = subprocess.run([*command, str(embedded.DOCKER / name)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_tensorflow_serving_is_pinned():
    assert SERVERS["compose.yaml"]["image"] == "tensorflow/serving:2.21.0"
    assert SERVERS["compose.gpu.yaml"]["image"] == "tensorflow/serving:2.21.0-gpu"


@each_service
def test_images_are_pinned_or_built_here(service):
    assert "build" in service or re.search(r":v?\d+\.\d+\.\d+", service["image"])


@each_service
def test_runs_as_nobody_in_particular_on_a_read_only_file_system(service):
    assert int(service["user"].split(":")[0]) > 0
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert not service.get("privileged", False)


@each_service
def test_has_limits_and_a_health_check(service):
    assert {"cpus", "memory", "pids"} <= service["deploy"]["resources"]["limits"].keys()
    assert service["healthcheck"]["test"][0] == "CMD"
    assert service["healthcheck"]["retries"] > 0


@each_service
def test_ports_are_this_machine_s_unless_asked_otherwise(service):
    assert all(port.startswith("${BIND_ADDRESS:-127.0.0.1}:") for port in service["ports"])


def test_the_gpu_is_reserved():
    (device,) = SERVERS["compose.gpu.yaml"]["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}


@each_service
def test_mounted_files_exist(service):
    for volume in service["volumes"]:
        source = re.sub(r"\$\{\w+:-(.*?)\}", r"\1", volume).partition(":")[0]
        assert not source.startswith(".") or (embedded.DOCKER / source).exists(), volume


@each_server
def test_files_in_flags_are_mounted(server):
    assert "./config:/config:ro" in server["volumes"]
    for path in re.findall(r"=/config/(\S+)", " ".join(server["command"])):
        assert (embedded.CONFIG / path).is_file()


def test_batch_threads_and_op_threads_go_with_the_cpus():
    server = SERVERS["compose.yaml"]
    cpus = int(server["deploy"]["resources"]["limits"]["cpus"])
    assert batching_parameters.read(str(embedded.CONFIG / "batching_cpu.config")).num_batch_threads == cpus
    assert f"--tensorflow_session_parallelism={cpus}" in server["command"]


def health_check(server, url):
    command = [part.replace("/8501", f"/{url.rpartition(':')[2]}") for part in server["healthcheck"]["test"][1:]]
    return subprocess.run(command, timeout=30, capture_output=True).returncode


@pytest.mark.slow
class TestRun:
    """With the embedded server in the container's place."""

    @each_server
    def test_the_health_check(self, serving, server):
        assert health_check(server, serving.url) == 0
        assert health_check(server, "http://localhost:9") != 0

    @each_server
    def test_the_health_check_of_a_model_that_is_not_there(self, serving, server):
        test = [part.replace("models/mobilenet", "models/other") for part in server["healthcheck"]["test"]]
        assert health_check({"healthcheck": {"test": test}}, serving.url) != 0

    @pytest.mark.parametrize("name", ["compose.gpu.yaml", "compose.embedded.yaml", "compose.coral.yaml"])
    def test_the_flags(self, name, config):
        with embedded.in_this_process(embedded.local_flags(SERVERS[name]["command"], config)) as clients:
            answer = predict(clients, spec("mobilenet", label="stable"), x=np.zeros(1, np.float32))
            assert answer.outputs["y"].float_val[0] == 2.0
            assert health_check(SERVERS[name], clients.url) == 0
