"""Metrics by Istio's names: which proxies keep them, what rules change, and what a real Envoy serves after a request and a connection."""

from __future__ import annotations

import copy
import http.client
import http.server
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from free_ports import free_port
from running_envoy import running_envoy

from isthmus.assurance.rendering import node_of, render
from isthmus.assurance.scenario import scenario_of
from isthmus.cli.envoy_judgement import verdict
from isthmus.envoy.bootstrap import BootstrapSettings, bootstrap
from isthmus.envoy.static import static_bootstrap

SHOP = yaml.safe_load((Path(__file__).parent / "explaining" / "shop.yaml").read_text())
LOOPBACK = "127.0.0.1"
DEFAULT = {"defaultProviders": {"metrics": ["prometheus"]}}
REQUESTS = {"requests_total", "request_duration_milliseconds", "request_bytes", "response_bytes"}
CONNECTIONS = {
    "tcp_connections_opened_total",
    "tcp_connections_closed_total",
    "tcp_sent_bytes_total",
    "tcp_received_bytes_total",
}


def rule(name: str, namespace: str, labels: dict[str, str] | None = None, *metrics: dict[str, Any]) -> dict[str, Any]:
    selector = {"selector": {"matchLabels": labels}} if labels else {}
    return {
        "apiVersion": "telemetry.istio.io/v1",
        "kind": "Telemetry",
        "metadata": {"name": name, "namespace": namespace},
        "spec": selector | {"metrics": list(metrics)},
    }


def on(*overrides: dict[str, Any]) -> dict[str, Any]:
    return {"providers": [{"name": "prometheus"}], "overrides": list(overrides)}


def rendered(*rules: dict[str, Any], mesh: dict[str, Any] | None = None) -> dict[str, Any]:
    changed = copy.deepcopy(SHOP)
    changed["meshConfig"] = mesh or {}
    changed["clusters"][0]["objects"] += rules
    scenario = scenario_of(changed)
    document = render(scenario, node_of(scenario, "sidecar/cart-1.shop", "east"))
    assert verdict(document) == "", "the real Envoy takes it"
    return document


def loggers(document: dict[str, Any], direction: str, kind: str) -> list[dict[str, Any]]:
    """What counts, of one of the direction's filters; all of these have the same."""
    found = [
        [log for log in each["typedConfig"].get("accessLog", []) if log["name"] == "envoy.access_loggers.stats"]
        for listener in document["listeners"]
        if listener["trafficDirection"] == direction
        for chain in [*listener.get("filterChains", []), listener.get("defaultFilterChain", {})]
        for each in chain.get("filters", [])
        if each["name"].endswith(kind)
    ]
    assert all(each == found[0] for each in found)
    return found[0]


def metrics(document: dict[str, Any], direction: str, kind: str) -> dict[str, dict[str, str]]:
    """Labels of each metric."""
    return {
        each["stat"]["name"]: {tag["name"]: tag["valueFormat"] for tag in each["stat"]["tags"]}
        for log in loggers(document, direction, kind)
        for part in ("counters", "histograms")
        for each in log["typedConfig"].get(part, [])
    }


def requests(document: dict[str, Any], direction: str) -> dict[str, dict[str, str]]:
    return metrics(document, direction, "http_connection_manager")


def test_nothing_is_counted_by_istios_names_unless_somebody_says_so():
    found = rendered()

    assert requests(found, "INBOUND") == requests(found, "OUTBOUND") == {}
    assert metrics(found, "OUTBOUND", "tcp_proxy") == {}


@pytest.mark.parametrize(
    "said",
    [
        {"mesh": DEFAULT},
        {"mesh": {"extensionProviders": [{"name": "p", "prometheus": {}}], "defaultProviders": {"metrics": ["p"]}}},
    ],
)
def test_the_mesh_has_requests_and_connections_counted(said):
    found = rendered(**said)

    for direction, reporter in (("INBOUND", "destination"), ("OUTBOUND", "source")):
        of_requests, of_connections = requests(found, direction), metrics(found, direction, "tcp_proxy")
        assert set(of_requests) == REQUESTS
        assert set(of_connections) == CONNECTIONS
        for labels in (*of_requests.values(), *of_connections.values()):
            assert labels["istio_reporter"] == reporter
            assert not [each for each in labels.values() if "CEL" in each], "an expression costs every request"


@pytest.mark.parametrize(
    ("rules", "inbound", "outbound"),
    [
        ([rule("m", "istio-system", None, on())], REQUESTS, REQUESTS),
        ([rule("o", "bank", None, on())], set(), set()),
        (
            [rule("m", "shop", None, on({"match": {"metric": "REQUEST_SIZE"}, "disabled": True}))],
            REQUESTS - {"request_bytes"},
            REQUESTS - {"request_bytes"},
        ),
        ([rule("m", "shop", None, on({"match": {"mode": "CLIENT"}, "disabled": True}))], REQUESTS, set()),
        (
            [
                rule("m", "istio-system", None, on({"match": {"metric": "ALL_METRICS"}, "disabled": True})),
                rule(
                    "w",
                    "shop",
                    {"app": "cart"},
                    {"overrides": [{"match": {"metric": "REQUEST_COUNT"}, "disabled": False}]},
                ),
            ],
            {"requests_total"},
            {"requests_total"},
        ),
        (
            [rule("m", "istio-system", None, on()), rule("w", "shop", None, {"providers": [{"name": "elsewhere"}]})],
            set(),
            set(),
        ),
    ],
)
def test_the_narrowest_rule_counts(rules, inbound, outbound):
    found = rendered(*rules)

    assert set(requests(found, "INBOUND")) == inbound
    assert set(requests(found, "OUTBOUND")) == outbound


def test_labels_are_changed_and_removed():
    tags = {
        "request_host": {"value": "request.host"},
        "mesh": {"operation": "UPSERT", "value": "'ours'"},
        "response_flags": {"operation": "REMOVE"},
        "destination_version": {"operation": "REMOVE"},
    }

    found = requests(
        rendered(rule("m", "shop", None, on({"match": {"metric": "REQUEST_COUNT"}, "tagOverrides": tags}))), "OUTBOUND"
    )

    changed, other = found["requests_total"], found["request_bytes"]
    assert changed["request_host"] == "%CEL(request.host)%"
    assert changed["mesh"] == "%CEL('ours')%"
    assert not {"response_flags", "destination_version"} & set(changed)
    assert {"reporter", "destination_workload", "source_canonical_service"} <= set(changed)
    assert "response_flags" in other
    assert "reporter" not in other, "what no rule is about is written in short"


def test_what_cannot_be_done_is_told_and_the_rest_counts():
    broken = {
        "bad": {"value": "request.host +"},
        "good": {"value": "request.method"},
    }
    found = rendered(
        rule(
            "m",
            "shop",
            None,
            on({"tagOverrides": broken}, {"match": {"metric": "GRPC_REQUEST_MESSAGES"}, "disabled": True})
            | {"reportingInterval": "5s"},
        )
    )

    labels = requests(found, "INBOUND")["requests_total"]
    assert "good" in labels
    assert "bad" not in labels
    told = " ".join(each for each in found["warnings"] if each.startswith("Telemetry shop/m in east"))
    for part in ("the label 'bad' stays", "no metric 'GRPC_REQUEST_MESSAGES'", "not in between"):
        assert part in told


def test_other_logs_have_one_line_for_each_connection():
    found = rendered(mesh=DEFAULT | {"accessLogFile": "/dev/stdout"})

    for listener in found["listeners"]:
        for chain in [*listener.get("filterChains", []), listener.get("defaultFilterChain", {})]:
            for each in chain.get("filters", []):
                if each["name"].endswith("tcp_proxy"):
                    [line] = [log for log in each["typedConfig"]["accessLog"] if log["name"].endswith("file")]
                    assert line["filter"] == {"logTypeFilter": {"types": ["TcpUpstreamConnected"], "exclude": True}}


class _Answering(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "5")
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *_: Any) -> None:
        """Nobody reads it."""


@dataclass
class Proxy:
    """A real Envoy with the sidecar's own listener for `reviews`, and the statistics port of its bootstrap."""

    requests: int
    connections: int
    statistics: int

    def served(self, metric: str) -> list[tuple[dict[str, str], float]]:
        """Labels and value of each line of a metric."""
        connection = http.client.HTTPConnection(LOOPBACK, self.statistics, timeout=60)
        connection.request("GET", "/stats/prometheus")
        text = connection.getresponse().read().decode()
        connection.close()
        assert "envoy_istio" not in text
        assert "envoy_server_live" in text, "Envoy's own keep their names"
        return [
            (dict(re.findall(r'(\w+)="([^"]*)"', line)), float(line.rsplit(" ", 1)[1]))
            for line in text.splitlines()
            if line.startswith(f"istio_{metric}{{")
        ]


@pytest.fixture
def proxy(tmp_path) -> Iterator[Proxy]:
    with running(tmp_path) as made:
        yield made


@contextmanager
def running(tmp_path: Path, *rules: dict[str, Any]) -> Iterator[Proxy]:
    server = http.server.ThreadingHTTPServer((LOOPBACK, 0), _Answering)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    document = rendered(*rules, mesh=DEFAULT)
    for table in document["routes"]:
        for host in table["virtualHosts"]:
            for route in host["routes"]:
                route.pop("typedPerFilterConfig", None)  # of a rule that fails some requests
    made = Proxy(free_port(), free_port(), free_port())
    bound = []
    for name, port in (("0.0.0.0_80", made.requests), ("10.97.0.2_9000", made.connections)):
        [listener] = [each for each in document["listeners"] if each["name"] == name]
        place = {"socketAddress": {"address": LOOPBACK, "portValue": port}}
        bound.append({key: value for key, value in listener.items() if key != "bindToPort"} | {"address": place})
    for each in document["endpoints"]:
        for group in each.get("endpoints", []):
            for one in group["lbEndpoints"]:
                one["endpoint"]["address"]["socketAddress"] = {"address": LOOPBACK, "portValue": server.server_port}
                one["metadata"]["filterMetadata"].pop("envoy.transport_socket_match", None)
    # Certificates would have to come from an agent, and Envoy waits for them.
    clusters = [
        {key: value for key, value in each.items() if key != "transportSocketMatches"} for each in document["clusters"]
    ]
    config = static_bootstrap(document | {"listeners": bound, "clusters": clusters})
    config |= _as_an_agent_starts_it(config, made.statistics, tmp_path)
    try:
        with running_envoy(config, tmp_path):
            yield made
    finally:
        server.shutdown()
        server.server_close()


def _as_an_agent_starts_it(config: dict[str, Any], port: int, directory: Path) -> dict[str, Any]:
    """Administration, statistics and identity as in the bootstrap that proxies get."""
    labels = {"app": "cart", "version": "v7"}
    labels |= {"service.istio.io/canonical-name": "cart", "service.istio.io/canonical-revision": "v7"}
    metadata = {"WORKLOAD_NAME": "cart", "NAMESPACE": "shop", "CLUSTER_ID": "east", "LABELS": labels}
    settings = BootstrapSettings(
        node={"id": "cart", "cluster": "cart.shop", "metadata": metadata},
        control_planes=((LOOPBACK, 1),),
        control_plane_name="istiod",
        proof_socket=str(directory / "proof.sock"),
        sds_socket=str(directory / "sds.sock"),
        admin_socket=str(directory / "admin.sock"),
        health_socket=str(directory / "health.sock"),
        marks_sockets=False,
    )
    started = json.loads(bootstrap(settings))
    [statistics] = [each for each in started["static_resources"]["listeners"] if each["name"] == "statistics"]
    statistics["address"]["socket_address"] = {"address": LOOPBACK, "port_value": port}
    [administration] = [each for each in started["static_resources"]["clusters"] if each["name"] == "prometheus_stats"]
    resources = config["staticResources"]
    return {
        "node": started["node"],
        "admin": started["admin"],
        "stats_config": started["stats_config"],
        "staticResources": {
            "listeners": [*resources["listeners"], statistics],
            "clusters": [*resources["clusters"], administration],
        },
    }


def ask(proxy: Proxy, **headers: str) -> None:
    connection = http.client.HTTPConnection(LOOPBACK, proxy.requests, timeout=60)
    connection.request("GET", "/", headers={"Host": "reviews.shop"} | headers)
    assert connection.getresponse().read() == b"hello"
    connection.close()


def expected(found: dict[str, str]) -> dict[str, str]:
    """Which of the endpoints it was, and so of which version, is Envoy's choice."""
    return {
        "reporter": "source",
        "source_workload": "cart",
        "source_workload_namespace": "shop",
        "source_app": "cart",
        "source_version": "v7",
        "source_canonical_service": "cart",
        "source_canonical_revision": "v7",
        "source_cluster": "east",
        "source_principal": "unknown",
        "destination_workload": found["destination_workload"],
        "destination_workload_namespace": "shop",
        "destination_app": "reviews",
        "destination_version": found["destination_version"],
        "destination_canonical_service": "reviews",
        "destination_canonical_revision": found["destination_version"],
        "destination_cluster": "east",
        "destination_principal": "unknown",
        "destination_service": "reviews.shop.svc.cluster.local",
        "destination_service_name": "reviews",
        "destination_service_namespace": "shop",
        "request_protocol": "http",
        "response_code": "200",
        "grpc_response_status": "",
        "response_flags": "-",
        "connection_security_policy": "unknown",
    }


def test_a_request_of_grpc_is_told_from_others(proxy):
    ask(proxy, **{"Content-Type": "application/grpc"})

    [(labels, _)] = proxy.served("requests_total")
    assert labels["request_protocol"] == "grpc"
    assert labels["grpc_response_status"]


def test_a_request_is_counted_with_the_labels_of_both_ends(proxy):
    ask(proxy)

    [(labels, value)] = proxy.served("requests_total")
    assert value == 1
    assert labels == expected(labels)
    assert labels["destination_workload"].startswith("reviews-v")


def test_labels_that_a_rule_changes_are_written_out_with_the_same_words(tmp_path):
    """Two ways lead to a line: whichever is taken, dashboards see one thing."""
    change = {"destination_cluster": {"value": "'elsewhere'"}, "request_protocol": {"operation": "REMOVE"}}
    with running(
        tmp_path, rule("m", "shop", None, on({"match": {"metric": "REQUEST_COUNT"}, "tagOverrides": change}))
    ) as proxy:
        ask(proxy)
        [(labels, _)] = proxy.served("requests_total")

    usual = expected(labels) | {"destination_cluster": "elsewhere"}
    assert labels == {key: value for key, value in usual.items() if key != "request_protocol"}


def test_a_connection_is_counted_when_it_opens_and_when_it_ends(proxy):
    with socket.create_connection((LOOPBACK, proxy.connections), timeout=60) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        received = connection.makefile("rb").read()
    assert received.endswith(b"hello")

    deadline = time.monotonic() + 60
    while not (closed := proxy.served("tcp_connections_closed_total")):
        assert time.monotonic() < deadline, "the proxy notices the end"
    [(labels, opened)] = proxy.served("tcp_connections_opened_total")
    assert (opened, closed[0][1]) == (1, 1)
    assert labels["destination_service_name"] == "reviews"
    assert labels["destination_app"] == "reviews"
    assert labels["request_protocol"] == "tcp"
    assert proxy.served("tcp_received_bytes_total")[0][1] == len(b"GET / HTTP/1.0\r\n\r\n")
    assert proxy.served("tcp_sent_bytes_total")[0][1] == len(received)
