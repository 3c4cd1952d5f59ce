"""The manifests as kustomize renders them: their schemas, how they fit together, and their flags run for real."""

import functools
import re
import shutil
import subprocess

import numpy as np
import pytest

from serving.server import batching_parameters
from tests.serving.docker import embedded
from tests.serving.server import tiny_models
from tests.serving.server.calls import get, predict, spec

yaml = pytest.importorskip("yaml", reason="PyYAML, which reads manifests, is not installed")

KUBERNETES = embedded.ROOT / "serving/kubernetes"
OVERLAYS = ("cpu", "gpu")
IMAGES = {"cpu": "tensorflow/serving:2.21.0", "gpu": "tensorflow/serving:2.21.0-gpu"}
each_overlay = pytest.mark.parametrize("overlay", OVERLAYS)


@functools.cache
def rendered(folder):
    """The objects of one kustomization."""
    if not shutil.which("kubectl"):
        pytest.skip("kubectl, which has kustomize built in, is not installed")
    built = subprocess.run(["kubectl", "kustomize", KUBERNETES / folder], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return list(yaml.safe_load_all(built.stdout))


def objects(overlay, kind):
    return [each for each in rendered(f"overlays/{overlay}") if each["kind"] == kind]


def pod(overlay):
    (deployment,) = objects(overlay, "Deployment")
    return deployment["spec"]["template"]


def container(overlay):
    (only,) = pod(overlay)["spec"]["containers"]
    return only


def inference_service():
    (service,) = [each for each in rendered("kserve") if each["kind"] == "InferenceService"]
    return service


@each_overlay
def test_keeps_kubernetes_schemas(overlay):
    kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    for each in rendered(f"overlays/{overlay}"):
        kubernetes_validate.validate(each, "1.32", strict=True)


@each_overlay
def test_has_all_its_parts(overlay):
    kinds = sorted(each["kind"] for each in rendered(f"overlays/{overlay}"))
    services = ["Service", "Service"]
    others = ["ConfigMap", "Deployment", "HorizontalPodAutoscaler", "PersistentVolumeClaim", "PodDisruptionBudget"]
    assert kinds == sorted([*others, *services])


@each_overlay
def test_the_image_is_pinned(overlay):
    assert container(overlay)["image"] == IMAGES[overlay]


@each_overlay
def test_the_config_map_holds_docker_s_files(overlay):
    (config_map,) = objects(overlay, "ConfigMap")
    assert config_map["data"] == {path.name: path.read_text() for path in embedded.CONFIG.glob("*.config")}
    named = {volume["configMap"]["name"] for volume in pod(overlay)["spec"]["volumes"] if "configMap" in volume}
    assert named == {config_map["metadata"]["name"]}
    for file in re.findall(r"=/config/(\S+)", " ".join(container(overlay)["args"])):
        assert file in config_map["data"]


@each_overlay
def test_volumes_are_there_and_read_only(overlay):
    volumes = {volume["name"]: volume for volume in pod(overlay)["spec"]["volumes"]}
    mounts = {mount["name"]: mount for mount in container(overlay)["volumeMounts"]}
    assert volumes.keys() == mounts.keys()
    writable = {name for name, mount in mounts.items() if not mount.get("readOnly")}
    assert writable == {"tmp"}
    (claim,) = objects(overlay, "PersistentVolumeClaim")
    assert volumes["models"]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]


@each_overlay
def test_runs_without_rights(overlay):
    assert pod(overlay)["spec"]["securityContext"]["runAsNonRoot"] is True
    assert pod(overlay)["spec"]["automountServiceAccountToken"] is False
    context = container(overlay)["securityContext"]
    assert context["readOnlyRootFilesystem"] is True
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}


@each_overlay
def test_probes(overlay):
    ports = {port["name"]: port["containerPort"] for port in container(overlay)["ports"]}
    assert ports == {"grpc": 8500, "http": 8501}
    for probe in ("startupProbe", "readinessProbe"):
        assert container(overlay)[probe]["httpGet"] == {"path": "/v1/models/mobilenet", "port": "http"}
    assert container(overlay)["livenessProbe"]["tcpSocket"] == {"port": "grpc"}


@each_overlay
def test_there_is_time_to_drain(overlay):
    (seconds,) = container(overlay)["lifecycle"]["preStop"]["exec"]["command"][1:]
    assert int(seconds) < pod(overlay)["spec"]["terminationGracePeriodSeconds"]


@each_overlay
def test_selectors_find_the_pods(overlay):
    labels = pod(overlay)["metadata"]["labels"].items()
    (deployment,), (budget,) = objects(overlay, "Deployment"), objects(overlay, "PodDisruptionBudget")
    selectors = [deployment["spec"]["selector"]["matchLabels"], budget["spec"]["selector"]["matchLabels"]]
    selectors += [service["spec"]["selector"] for service in objects(overlay, "Service")]
    assert all(selector.items() <= labels for selector in selectors)


@each_overlay
def test_one_service_is_headless_for_grpc(overlay):
    (headless,) = [each for each in objects(overlay, "Service") if each["spec"].get("clusterIP") == "None"]
    assert [(port["name"], port["port"]) for port in headless["spec"]["ports"]] == [("grpc", 8500)]


@each_overlay
def test_scales_on_the_queue_metric_that_the_adapter_offers(overlay):
    (autoscaler,), (deployment,) = objects(overlay, "HorizontalPodAutoscaler"), objects(overlay, "Deployment")
    assert autoscaler["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert "replicas" not in deployment["spec"]
    adapter = yaml.safe_load((KUBERNETES / "prometheus_adapter.yaml").read_text())
    (rule,) = adapter["rules"]["custom"]
    (metric,) = autoscaler["spec"]["metrics"]
    assert metric["pods"]["metric"]["name"] == rule["name"]["as"]
    assert ":tensorflow:serving:batching_session:queuing_latency_sum" in rule["seriesQuery"]
    # The wait that the batch timeout asks for is no reason to scale.
    (file,) = re.findall(r"batching_parameters_file=/config/(\S+)", " ".join(container(overlay)["args"]))
    timeout = batching_parameters.read(str(embedded.CONFIG / file)).batch_timeout
    assert float(metric["pods"]["target"]["averageValue"]) > 2 * timeout * 1e6


@each_overlay
def test_prometheus_scrapes_the_rest_port(overlay):
    annotations = pod(overlay)["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == "8501"
    assert annotations["prometheus.io/path"] in (embedded.CONFIG / "monitoring.config").read_text()


def test_the_gpu_is_asked_for():
    assert container("gpu")["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert "nvidia.com/gpu" not in container("cpu")["resources"]["limits"]


def test_batch_threads_go_with_the_cpus():
    cpus = int(container("cpu")["resources"]["limits"]["cpu"])
    assert batching_parameters.read(str(embedded.CONFIG / "batching_cpu.config")).num_batch_threads == cpus


class TestKServe:
    def test_its_container_keeps_kubernetes_schema(self):
        kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
        predictor = dict(inference_service()["spec"]["predictor"])
        model = dict(predictor.pop("model"))
        of_kserve = {"modelFormat", "runtime", "runtimeVersion", "protocolVersion", "storageUri"}
        assert of_kserve <= model.keys()
        plain = {key: value for key, value in model.items() if key not in of_kserve}
        spec = {key: value for key, value in predictor.items() if key not in {"minReplicas", "maxReplicas"}}
        spec["containers"] = [{"name": "kserve-container", **plain}]
        as_pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "mobilenet"}, "spec": spec}
        kubernetes_validate.validate(as_pod, "1.32", strict=True)

    def test_names_the_config_map_that_is_there(self):
        (config_map,) = [each for each in rendered("kserve") if each["kind"] == "ConfigMap"]
        volumes = inference_service()["spec"]["predictor"]["volumes"]
        assert config_map["metadata"]["name"] in {volume.get("configMap", {}).get("name") for volume in volumes}

    def test_serves_the_pinned_version_with_the_runtime(self):
        model = inference_service()["spec"]["predictor"]["model"]
        assert model["runtime"] == "kserve-tensorflow-serving"
        assert model["runtimeVersion"] == "2.21.0"

    def test_probes_ask_for_the_model_on_kserve_s_ports(self):
        name, model = inference_service()["metadata"]["name"], inference_service()["spec"]["predictor"]["model"]
        assert model["readinessProbe"]["httpGet"] == {"path": f"/v1/models/{name}", "port": 8080}
        assert model["livenessProbe"]["tcpSocket"] == {"port": 9000}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two versions of `mobilenet` that answer differently."""
    root = tmp_path_factory.mktemp("savedmodels")
    tiny_models.half_plus_two(root / "mobilenet" / "1", offset=2.0)
    tiny_models.half_plus_two(root / "mobilenet" / "2", offset=3.0)
    return root


@pytest.mark.slow
class TestRun:
    """With the embedded server in the container's place."""

    def flags(self, args, models, tmp_path):
        return embedded.local_flags(args, embedded.local_config(tmp_path / "config", models))

    @each_overlay
    def test_the_flags_of_the_deployment(self, overlay, models, tmp_path):
        args = [arg.replace("$(CPUS)", "4") for arg in container(overlay)["args"]]
        with embedded.in_this_process(self.flags(args, models, tmp_path)) as clients:
            for label, offset in (("stable", 2.0), ("canary", 3.0)):
                answer = predict(clients, spec("mobilenet", label=label), x=np.zeros(1, np.float32))
                assert answer.outputs["y"].float_val[0] == offset
            path = container(overlay)["readinessProbe"]["httpGet"]["path"]
            assert get(clients.url + path)[0] == 200

    def test_the_flags_of_kserve(self, models, tmp_path):
        runtime = ["--model_name=mobilenet", "--port=9000", "--rest_api_port=8080", "--rest_api_timeout_in_ms=60000"]
        args = [*runtime, f"--model_base_path={models}/mobilenet"]
        model = inference_service()["spec"]["predictor"]["model"]
        with embedded.in_this_process(self.flags([*args, *model["args"]], models, tmp_path)) as clients:
            answer = predict(clients, spec("mobilenet"), x=np.zeros(1, np.float32))
            assert answer.outputs["y"].float_val[0] == 3.0
            assert get(clients.url + model["readinessProbe"]["httpGet"]["path"])[0] == 200
