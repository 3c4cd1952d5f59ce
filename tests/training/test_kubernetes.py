"""The manifest of serving/kubernetes/training: what it says fits together, and its script writes a cluster."""

import json
import os
import subprocess
from pathlib import Path

import pytest

yaml = pytest.importorskip("yaml")

FOLDER = Path(__file__).parents[2] / "serving" / "kubernetes" / "training"


@pytest.fixture(scope="module")
def manifests():
    documents = yaml.safe_load_all((FOLDER / "job.yaml").read_text())
    return {document["kind"]: document for document in documents}


@pytest.fixture(scope="module")
def container(manifests):
    (only,) = manifests["Job"]["spec"]["template"]["spec"]["containers"]
    return only


def test_every_worker_gets_the_same_cluster_and_its_own_number(manifests, container):
    job, service = manifests["Job"], manifests["Service"]
    count = job["spec"]["completions"]
    assert job["spec"]["parallelism"] == count  # a collective needs all of them at once
    assert job["spec"]["completionMode"] == "Indexed"
    environment = {item["name"]: item["value"] for item in container["env"]}
    for index in range(count):
        process = subprocess.run(
            ["/bin/sh", FOLDER / "tf_config.sh", "sh", "-c", 'printf %s "$TF_CONFIG"'],
            env=os.environ | environment | {"JOB_COMPLETION_INDEX": str(index)},
            capture_output=True,
            text=True,
            check=True,
        )
        config = json.loads(process.stdout)
        # The name of a pod of an indexed Job, in the subdomain of its headless Service.
        domain = job["spec"]["template"]["spec"]["subdomain"]
        names = [f"{job['metadata']['name']}-{number}.{domain}:2222" for number in range(count)]
        assert config == {"cluster": {"worker": names}, "task": {"type": "worker", "index": index}}
    assert service["spec"]["clusterIP"] == "None"
    assert service["metadata"]["name"] == domain
    assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}
    assert [port["containerPort"] for port in container["ports"]] == [service["spec"]["ports"][0]["port"]]


def test_a_missing_number_is_named():
    environment = {name: value for name, value in os.environ.items() if name != "JOB_COMPLETION_INDEX"}
    process = subprocess.run(
        ["/bin/sh", FOLDER / "tf_config.sh", "true"],
        env=environment | {"WORKERS": "2", "SERVICE": "s", "PORT": "1"},
        capture_output=True,
        text=True,
    )
    assert process.returncode != 0
    assert "JOB_COMPLETION_INDEX" in process.stderr


def test_mounts_have_volumes_and_the_command_runs_the_mounted_script(manifests, container):
    volumes = {volume["name"] for volume in manifests["Job"]["spec"]["template"]["spec"]["volumes"]}
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts.keys() == volumes
    assert container["command"] == ["/bin/sh", f"{mounts['train']}/tf_config.sh"]
    assert "--strategy=multi_worker" in container["args"]
    assert manifests["Job"]["spec"]["template"]["spec"]["restartPolicy"] == "OnFailure"
