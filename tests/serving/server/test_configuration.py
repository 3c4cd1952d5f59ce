"""Reload requests, configuration polling, TLS, warm-up, metrics and the request log, on running servers."""

import json
import subprocess
import time
import urllib.request

import grpc
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_management_pb2,
    predict_pb2,
    prediction_log_pb2,
    prediction_service_pb2_grpc,
)

from serving.server import metrics, status, text_protos, tls, warmup
from tests.serving.server import tiny_models
from tests.serving.server.calls import Clients, config_text, get, post, predict, spec

X = np.array([1.0, 2.0], np.float32)


def eventually(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)


def reload(clients, text):
    request = text_format.Parse(f"config {{ {text} }}", model_management_pb2.ReloadConfigRequest())
    return clients.models.HandleReloadConfigRequest(request, timeout=20)


def test_reload_request(start, tmp_path):
    for name in ("a", "b"):
        tiny_models.half_plus_two(tmp_path / name / "1", offset={"a": 1.0, "b": 2.0}[name])
    clients = start(model_base_path=str(tmp_path / "a"), model_name="a")
    response = reload(clients, config_text(tmp_path, b=""))
    assert (response.status.error_code, response.status.error_message) == (0, "")
    assert predict(clients, spec("b"), x=X).outputs["y"].float_val == [2.5, 3.0]
    with pytest.raises(grpc.RpcError, match=r"Latest\(a\)"):
        predict(clients, spec("a"), x=X)
    twice = config_text(tmp_path, b="").replace("}\n}", "} " + config_text(tmp_path, b="").split("{", 1)[1])
    for text, code, message in (
        (twice, "INVALID_ARGUMENT", "Illegal to list model b multiple times"),
        (config_text(tmp_path, b="").replace(str(tmp_path), "."), "INVALID_ARGUMENT", "absolute path"),
        ("", "INVALID_ARGUMENT", "Only ModelConfigList is currently supported"),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            reload(clients, text)
        assert caught.value.code().name == code
        assert message in caught.value.details()
        assert predict(clients, spec("b"), x=X).outputs["y"].float_val == [2.5, 3.0]


def test_reload_says_why_a_model_fails(start, tmp_path):
    tiny_models.half_plus_two(tmp_path / "good" / "1")
    (tmp_path / "empty" / "1").mkdir(parents=True)
    clients = start(model_base_path=str(tmp_path / "good"), model_name="good")
    with pytest.raises(grpc.RpcError) as caught:
        reload(clients, config_text(tmp_path, good="", empty=""))
    assert caught.value.code() is grpc.StatusCode.UNKNOWN
    assert "1 model(s) did not become available" in caught.value.details()
    assert str(tmp_path / "empty" / "1") in caught.value.details()
    assert predict(clients, spec("good"), x=X).model_spec.version.value == 1
    answer = clients.models.GetModelStatus(get_model_status_pb2.GetModelStatusRequest(model_spec=spec("empty")))
    (version,) = answer.model_version_status
    assert version.state == 50
    assert version.status.error_code == grpc.StatusCode.NOT_FOUND.value[0]
    assert "Could not find SavedModel" in version.status.error_message


def test_the_configuration_file_is_polled(start, tmp_path):
    for version in ("1", "2"):
        tiny_models.half_plus_two(tmp_path / "m" / version, offset=float(version))
    file = tmp_path / "models.config"
    specific = "model_version_policy {{ specific {{ versions: {} }} }}".format
    file.write_text(config_text(tmp_path, m=specific(1)))
    clients = start(model_config_file=str(file), model_config_file_poll_wait_seconds=0.05)
    assert predict(clients, spec("m"), x=X).model_spec.version.value == 1
    file.write_text("no proto")
    time.sleep(0.2)
    assert predict(clients, spec("m"), x=X).model_spec.version.value == 1
    file.write_text(config_text(tmp_path, m=specific(2)))
    eventually(lambda: predict(clients, spec("m"), x=X).model_spec.version.value == 2)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """An authority and what it signed, as PEM text by name."""
    root = tmp_path_factory.mktemp("certificates")

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=root, check=True, capture_output=True)

    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=ca")
    (root / "names").write_text("subjectAltName=DNS:localhost")
    for name in ("server", "client"):
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", "csr", "-subj", f"/CN={name}")
        openssl(
            *["x509", "-req", "-in", "csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial"],
            *["-extfile", "names", "-out", f"{name}.crt"],
        )
    return {path.name: path.read_text() for path in root.iterdir()}


@pytest.mark.parametrize("mutual", [False, True])
def test_tls(start, tmp_path, certificates, mutual):
    tiny_models.half_plus_two(tmp_path / "m" / "1")
    ssl_config = text_protos.SSLConfig(
        server_key=certificates["server.key"],
        server_cert=certificates["server.crt"],
        custom_ca=certificates["ca.crt"],
        client_verify=mutual,
    )
    file = tmp_path / "ssl.config"
    file.write_text(text_format.MessageToString(ssl_config))
    clients = start(model_base_path=str(tmp_path / "m"), model_name="m", ssl_config_file=str(file))
    port = clients.server.grpc_port
    request = predict_pb2.PredictRequest(model_spec=spec("m"), inputs={"x": tf.make_tensor_proto(X)})

    def ask(credentials):
        with grpc.secure_channel(f"localhost:{port}", credentials) as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            return stub.Predict(request, timeout=10).outputs["y"].float_val

    authority = certificates["ca.crt"].encode()
    pair = {
        "private_key": certificates["client.key"].encode(),
        "certificate_chain": certificates["client.crt"].encode(),
    }
    assert ask(grpc.ssl_channel_credentials(authority, **pair)) == [2.5, 3.0]
    if mutual:
        with pytest.raises(grpc.RpcError):
            ask(grpc.ssl_channel_credentials(authority))
    else:
        assert ask(grpc.ssl_channel_credentials(authority)) == [2.5, 3.0]
    with pytest.raises(grpc.RpcError):
        Clients(port, 0).prediction.Predict(request, timeout=3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("server_key: '/etc/key.pem' server_cert: '/etc/cert.pem'", "server_key holds no PEM text"),
        ("server_key: '-----BEGIN' server_cert: '-----BEGIN' client_verify: true", "custom_ca must hold"),
        ("key: ''", "is not a SSLConfig"),
    ],
)
def test_faulty_ssl_files(tmp_path, text, message):
    file = tmp_path / "ssl.config"
    file.write_text(text)
    with pytest.raises(status.ServingError, match=message):
        tls.credentials(str(file))


def write_records(version, *logs):
    """Writes a version's warm-up records."""
    path = version / warmup.RECORDS
    path.parent.mkdir(parents=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for log in logs:
            writer.write(log if isinstance(log, bytes) else log.SerializeToString())


def counting(step):
    """A record that adds `step` to the counter model's variable."""
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.model_spec.name = "counter"
    log.predict_log.request.inputs["step"].CopyFrom(tf.make_tensor_proto(np.int32(step)))
    return log


def test_warm_up_runs_the_records(start, tmp_path):
    tiny_models.counter(tmp_path / "1")
    write_records(tmp_path / "1", counting(1), counting(10))
    clients = start(model_base_path=str(tmp_path), model_name="counter", num_request_iterations_for_warmup=3)
    assert predict(clients, spec("counter"), step=np.int32(0)).outputs["count"].int_val == [33]
    clients = start(model_base_path=str(tmp_path), model_name="counter", enable_model_warmup=False)
    assert predict(clients, spec("counter"), step=np.int32(0)).outputs["count"].int_val == [0]


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([counting(0)] * 1001, "Number of warmup records exceeds the maximum (1000)"),
        ([b"no record"], "Failed to parse warmup record"),
        ([prediction_log_pb2.PredictionLog()], "Unsupported log_type for warmup"),
        (None, "Please verify your warmup data is in TFRecord format"),
    ],
)
def test_faulty_warm_up_fails_the_load(start, tmp_path, records, message):
    tiny_models.counter(tmp_path / "1")
    if records is None:
        (tmp_path / "1" / "assets.extra").mkdir()
        (tmp_path / "1" / warmup.RECORDS).write_bytes(b"no TFRecord at all")
    else:
        write_records(tmp_path / "1", *records)
    with pytest.raises(status.ServingError) as caught:
        start(model_base_path=str(tmp_path), model_name="counter")
    assert message in str(caught.value)


def test_metrics(start, tmp_path):
    tiny_models.half_plus_two(tmp_path / "m" / "1")
    file = tmp_path / "monitoring.config"
    file.write_text("prometheus_config { enable: true path: '/own/path' }")
    clients = start(model_base_path=str(tmp_path / "m"), model_name="measured", monitoring_config_file=str(file))
    for _ in range(3):
        predict(clients, spec("measured"), x=X)
    post(f"{clients.url}/v1/models/measured:predict", {"instances": [1.0]})
    for name in ("x", "y"):
        with pytest.raises(grpc.RpcError):
            predict(clients, spec("measured", signature=name), x=X)
    with pytest.raises(grpc.RpcError):
        predict(clients, spec("made up by a client"), x=X)
    page = metrics_lines(f"{clients.url}/own/path")
    prefix = ":tensorflow:serving:"
    assert f"# TYPE {prefix}request_count counter" in page
    assert f"# TYPE {prefix}request_latency histogram" in page
    assert f'{prefix}request_count{{model_name="measured",status="OK"}} 4' in page
    assert f'{prefix}request_count{{model_name="measured",status="FAILED_PRECONDITION"}} 2' in page
    assert f'{prefix}request_latency_count{{model_name="measured",API="Predict",entrypoint="REST"}} 1' in page
    assert f'{prefix}request_latency_count{{model_name="measured",API="Predict",entrypoint="GRPC"}} 5' in page
    assert f'{prefix}runtime_latency_count{{model_name="measured",API="Predict",runtime="TF1"}} 4' in page
    assert not any("made up" in line for line in page)
    buckets = [line for line in page if "request_latency_bucket" in line and '"measured"' in line and "REST" in line]
    bounds = [line.split('le="')[1].split('"')[0] for line in buckets]
    assert bounds[:4] == ["10", "18", "32.4", "58.32"]
    assert bounds[33:] == ["+Inf"]
    assert get(clients.url + metrics.PATH)[0] == 404


def metrics_lines(url):
    """Reads a metrics page."""
    with urllib.request.urlopen(url) as response:
        assert response.headers["Content-Type"].startswith("text/plain")
        return response.read().decode().splitlines()


def test_request_log(start, tmp_path):
    tiny_models.half_plus_two(tmp_path / "m" / "1")
    log = tmp_path / "requests.jsonl"
    clients = start(model_base_path=str(tmp_path / "m"), model_name="m", request_log=str(log))
    predict(clients, spec("m"), x=X)
    post(f"{clients.url}/v1/models/m/versions/7:predict", {"instances": [1.0]})
    eventually(lambda: len(log.read_text().splitlines()) == 2)
    first, second = map(json.loads, log.read_text().splitlines())
    assert {key: first[key] for key in ("entrypoint", "api", "model", "version", "signature", "code")} == {
        "entrypoint": "GRPC",
        "api": "Predict",
        "model": "m",
        "version": 1,
        "signature": "serving_default",
        "code": "OK",
    }
    assert first["latency_microseconds"] > 0
    assert first["peer"].startswith("ipv")
    assert (second["entrypoint"], second["code"], second["version"]) == ("REST", "NOT_FOUND", 7)
    assert "Specific(m, 7)" in second["message"]


def test_classify_insists_on_the_method_name_where_told_to(start, tmp_path):
    from tensorflow_serving.apis import classification_pb2

    tiny_models.examples_tf1(tmp_path / "m" / "1")
    request = classification_pb2.ClassificationRequest(model_spec=spec("m", signature="regress"))
    request.input.example_list.examples.add()
    for check, message in ((True, "method_name to be tensorflow/serving/classify"), (False, "at least one of")):
        clients = start(model_base_path=str(tmp_path / "m"), model_name="m", enable_signature_method_name_check=check)
        with pytest.raises(grpc.RpcError) as caught:
            clients.prediction.Classify(request)
        assert message in caught.value.details()


def test_start_failures_say_why(start, tmp_path):
    labelled = tmp_path / "labelled.config"
    labelled.write_text(config_text(tmp_path, m="version_labels { key: 'stable' value: 1 }"))
    cases = {
        "server_options.model_base_path and server_options.model_config_file are empty": {},
        "Request to assign label to version 1 of model m, which is not currently available": {
            "model_config_file": str(labelled)
        },
        "Cannot read /no/such/file": {"model_config_file": "/no/such/file"},
        "--grpc_channel_arguments has 'x'": {
            "model_config_file": str(empty_config(tmp_path)),
            "grpc_channel_arguments": "x",
        },
    }
    for message, options in cases.items():
        with pytest.raises(status.ServingError) as caught:
            start(**options)
        assert message in str(caught.value)


def empty_config(root):
    """Writes a configuration without models, with which the server starts and waits for a reload request."""
    (root / "empty.config").write_text("model_config_list {}")
    return root / "empty.config"


def test_a_server_without_models_takes_a_reload_request(start, tmp_path):
    tiny_models.half_plus_two(tmp_path / "m" / "1")
    clients = start(model_config_file=str(empty_config(tmp_path)))
    with pytest.raises(grpc.RpcError, match=r"Latest\(m\)"):
        predict(clients, spec("m"), x=X)
    reload(clients, config_text(tmp_path, m=""))
    assert predict(clients, spec("m"), x=X).model_spec.version.value == 1
