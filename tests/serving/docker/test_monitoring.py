"""Prometheus's files and Grafana's dashboard: every query against the metrics that the embedded server writes."""

import json
import re
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request

import numpy as np
import pytest

from tests.serving.docker import embedded
from tests.serving.server.calls import get, predict, spec

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")

DASHBOARD = json.loads((embedded.DOCKER / "grafana/dashboards/serving.json").read_text())
PROVISIONING = embedded.DOCKER / "grafana/provisioning"
ALERTS = yaml.safe_load((embedded.DOCKER / "prometheus/alerts.yml").read_text())
ADAPTER = yaml.safe_load((embedded.ROOT / "serving/kubernetes/prometheus_adapter.yaml").read_text())
# What TensorFlow Serving itself writes, as far as these files use it; read in its sources.
_HISTOGRAMS = ("request_latency", "runtime_latency", "batching_session:queuing_latency")
TENSORFLOW_SERVING = {":tensorflow:serving:request_count"} | {
    f":tensorflow:serving:{name}_{part}" for name in _HISTOGRAMS for part in ("bucket", "sum", "count")
}
EMBEDDED_ROW = "Batches (embedded server only)"
VARIABLES = {"$__rate_interval": "10s", "$model": ".*", "$instance": ".*"}


def panels():
    """Each panel's row, title and queries."""
    row = ""
    for panel in DASHBOARD["panels"]:
        if panel["type"] == "row":
            row = panel["title"]
            continue
        yield row, panel["title"], [target["expr"] for target in panel["targets"]]


def dashboard_queries():
    return [(f"{title}: {query}", query) for _, title, queries in panels() for query in queries]


def adapter_query():
    """The adapter's query as it sends it, for the label `instance` in place of a pod's."""
    (rule,) = ADAPTER["rules"]["custom"]
    series = re.search(r'__name__="([^"]+)"', rule["seriesQuery"])[1]
    query = rule["metricsQuery"].replace("<<.Series>>", series).replace("<<.GroupBy>>", "instance")
    return query.replace("<<.LabelMatchers>>", 'job="tensorflow_serving"').replace("[2m]", "[10s]")


def alert_queries():
    return [rule["expr"] for group in ALERTS["groups"] for rule in group["rules"]]


def series_names(query):
    return set(re.findall(r":tensorflow:[a-z:_]+", query))


def ready(query):
    for name, value in VARIABLES.items():
        query = query.replace(name, value)
    return query


def test_the_main_part_uses_tensorflow_serving_s_own_names():
    queries = [query for row, _, queries in panels() if row != EMBEDDED_ROW for query in queries]
    for query in [*queries, *alert_queries(), adapter_query()]:
        assert series_names(query) <= TENSORFLOW_SERVING, query


def test_the_queue_is_asked_for_without_a_model():
    # Both servers label it with the name of their pool of batch threads, which all models share.
    for label, query in dashboard_queries():
        if "queuing_latency" in query:
            assert "model_name" not in query, label


def test_dashboard_is_well_formed():
    identifiers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(identifiers)) == len(identifiers)
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        references = [target["refId"] for target in panel.get("targets", [])]
        assert len(set(references)) == len(references)


def test_panels_do_not_overlap():
    taken = {}
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert taken.setdefault((x, y), panel["title"]) == panel["title"]


def test_dashboard_and_data_source_are_provisioned():
    (source,) = yaml.safe_load((PROVISIONING / "datasources/prometheus.yaml").read_text())["datasources"]
    used = {target["datasource"]["uid"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])}
    assert used == {source["uid"]}
    (provider,) = yaml.safe_load((PROVISIONING / "dashboards/dashboards.yaml").read_text())["providers"]
    grafana = yaml.safe_load((embedded.DOCKER / "compose.monitoring.yaml").read_text())["services"]["grafana"]
    mounts = dict(volume.split(":")[:2] for volume in grafana["volumes"])
    assert provider["options"]["path"] == mounts["./grafana/dashboards"]
    assert mounts["./grafana/provisioning"] == "/etc/grafana/provisioning"


def test_promtool_reads_the_configuration_and_every_query(tmp_path):
    if not shutil.which("promtool"):
        pytest.skip("promtool is not installed (Debian: apt-get install prometheus)")
    rules = [{"record": f"query_{index}", "expr": ready(query)} for index, (_, query) in enumerate(dashboard_queries())]
    rules.append({"record": "adapter", "expr": adapter_query()})
    (tmp_path / "queries.yml").write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    run_promtool("check", "config", embedded.DOCKER / "prometheus/prometheus.yml")
    run_promtool("check", "rules", tmp_path / "queries.yml")


def run_promtool(*arguments):
    checked = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.slow
def test_every_metric_of_every_query_is_written_by_the_embedded_server(serving):
    with urllib.request.urlopen(f"{serving.url}/monitoring/prometheus/metrics") as response:
        page = response.read().decode()
    written = set(re.findall(r"^(:tensorflow:[a-z:_]+)", page, re.MULTILINE))
    queries = [query for _, query in dashboard_queries()] + [*alert_queries(), adapter_query()]
    assert set().union(*map(series_names, queries)) <= written


@pytest.fixture(scope="module")
def prometheus(serving, tmp_path_factory):
    """Prometheus itself, with the configuration of this folder, scraping the embedded server."""
    if not shutil.which("prometheus"):
        pytest.skip("Prometheus is not installed (Debian: apt-get install prometheus)")
    folder = tmp_path_factory.mktemp("prometheus")
    text = (embedded.DOCKER / "prometheus/prometheus.yml").read_text()
    text = text.replace("serving:8501", serving.url.removeprefix("http://")).replace(": 10s", ": 1s")
    (folder / "prometheus.yml").write_text(text)
    shutil.copy(embedded.DOCKER / "prometheus/alerts.yml", folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    files = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(["prometheus", *files, f"--web.listen-address={address}"], stdout=log, stderr=log)
    yield f"http://{address}", folder / "log"
    process.terminate()
    process.wait(30)


def ask(address, query):
    try:
        answer = get(f"{address}/api/v1/query?{urllib.parse.urlencode({'query': query})}")[1]
    except OSError:
        return None
    return answer.get("data", {}).get("result")


@pytest.mark.slow
def test_prometheus_answers_every_query(serving, prometheus):
    address, log = prometheus
    queries = [*dict(dashboard_queries()).items(), ("adapter", adapter_query())]
    deadline = time.monotonic() + 60
    waiting = dict(queries)
    while waiting:
        assert time.monotonic() < deadline, f"{waiting}\n{log.read_text()}"
        for _ in range(5):
            predict(serving, spec("mobilenet"), x=np.ones(3, np.float32))
        get(f"{serving.url}/v1/models/mobilenet:unknown")
        waiting = {label: query for label, query in waiting.items() if not ask(address, ready(query))}
        time.sleep(0.5)
    (mean,) = ask(address, adapter_query())
    assert 0 <= float(mean["value"][1]) < 1e7
    assert ask(address, "up")[0]["value"][1] == "1"
    assert ask(address, "ALERTS") == []
