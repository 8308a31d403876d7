"""What is seen of traffic on a running mesh: access logs, metrics, the effect of a patch, how a proxy is run; and `why` agreeing with all of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import kubernetes
import pytest

pytestmark = pytest.mark.live

Object = dict[str, Any]

CONFIG = """
extensionProviders:
- name: lines
  envoyFileAccessLog: {path: /dev/stdout, logFormat: {labels: {code: "%RESPONSE_CODE%", path: "%REQ(:PATH)%", to: "%UPSTREAM_CLUSTER_RAW%"}}}
"""
METRICS = """
import sys, urllib.request
print(urllib.request.urlopen("http://" + sys.argv[1] + ":15090/stats/prometheus", timeout=5).read().decode())
"""
STAMPED = """
function envoy_on_response(handle) handle:headers():add("x-stamp", "seen") end
"""
HEADER = """
import urllib.request
print(urllib.request.urlopen("http://helloworld.sample:5000/hello", timeout=5).headers.get("x-stamp"))
"""


def obj(group: str, kind: str, name: str, **spec: Any) -> Object:
    version = {"networking.istio.io": "v1", "security.istio.io": "v1", "telemetry.istio.io": "v1"}[group]
    version = {"EnvoyFilter": "v1alpha3", "ProxyConfig": "v1beta1"}.get(kind, version)
    metadata = {"name": name, "namespace": "sample"}
    return {"apiVersion": f"{group}/{version}", "kind": kind, "metadata": metadata, "spec": spec}


@pytest.fixture
def apply(mesh) -> Iterator[Callable[[Object], None]]:
    """An object in east, where the client's control plane takes its configuration from."""
    api = kubernetes.client.CustomObjectsApi(mesh.core("east").api_client)
    plurals = {"AuthorizationPolicy": "authorizationpolicies", "Telemetry": "telemetries"}
    made = []

    def create(body: Object) -> None:
        group, _, version = body["apiVersion"].partition("/")
        plural = plurals.get(body["kind"], f"{body['kind'].lower()}s")
        where = (group, version, "sample", plural)
        api.create_namespaced_custom_object(*where, body)
        made.append((*where, body["metadata"]["name"]))

    yield create
    for where in reversed(made):
        api.delete_namespaced_custom_object(*where)


@pytest.fixture(scope="module")
def configured(mesh) -> Iterator[None]:
    """MeshConfig names a log; nothing is logged by it yet."""
    core = mesh.core("east")
    core.create_namespaced_config_map("istio-system", {"metadata": {"name": "istio"}, "data": {"mesh": CONFIG}})
    yield
    core.delete_namespaced_config_map("istio", "istio-system")


def lines_of(mesh) -> list[str]:
    done = mesh.isthmus("logs", "client", "--cluster", "east", "-c", "istio-proxy")
    return str(done.stdout).splitlines()


def test_requests_are_logged_as_text_and_as_json_and_only_those_that_are_asked_for(mesh, until, configured, apply):
    every, failures = {"providers": [{"name": "envoy"}]}, {"providers": [{"name": "lines"}]}
    failures["filter"] = {"expression": "response.code >= 400"}  # type: ignore[assignment]
    apply(obj("telemetry.istio.io", "Telemetry", "logs", accessLogging=[every, failures]))

    def as_text(lines: list[str]) -> list[str]:
        return [line for line in lines if re.match(r'\[.+\] "GET /hello HTTP/1.1" 200 - via_upstream ', line)]

    def logged() -> bool:
        mesh.ask("east", 1, path="/hello")
        mesh.ask("east", 1, path="/missing")
        lines = lines_of(mesh)
        return any('"path":"/missing"' in line for line in lines) and bool(as_text(lines))

    until("every request is logged as text, and a failure as JSON", logged)
    lines = lines_of(mesh)
    text = as_text(lines)
    assert "outbound|5000||helloworld.sample.svc.cluster.local" in text[0]
    found = [json.loads(line) for line in lines if line.startswith("{")]
    assert {each["code"] for each in found} == {404}, "the filter lets through failures alone"
    assert {each["to"] for each in found} == {"outbound|5000||helloworld.sample.svc.cluster.local"}


def counted(mesh, address: str, metric: str, **wanted: str) -> Object:
    """Labels of the first line of a metric with these labels; empty if there is none."""
    for line in mesh.python("east", METRICS, address).splitlines():
        labels = dict(re.findall(r'(\w+)="([^"]*)"', line))
        if line.startswith(f"{metric}{{") and labels.items() >= wanted.items():
            return labels
    return {}


def test_both_ends_count_a_request_with_the_labels_that_dashboards_ask_for(mesh, until, apply):
    tag = {"match": {"metric": "REQUEST_COUNT"}, "tagOverrides": {"request_host": {"value": "request.host"}}}
    off = {"match": {"metric": "REQUEST_SIZE"}, "disabled": True}
    rule = {"providers": [{"name": "prometheus"}], "overrides": [tag, off]}
    apply(obj("telemetry.istio.io", "Telemetry", "metrics", metrics=[rule]))
    server = mesh.pods("east", "helloworld")[0]["ip"]
    both = {"source_principal": "spiffe://cluster.local/ns/sample/sa/client", "response_code": "200"}

    def seen(address: str, reporter: str) -> Object:
        mesh.ask("east", 10, path="/hello")
        near = {"destination_cluster": "east"} if reporter == "source" else {}
        return counted(mesh, address, "istio_requests_total", reporter=reporter, **both, **near)

    client = until("the client counts", lambda: seen("127.0.0.1", "source"))
    there = until("the server counts", lambda: seen(server, "destination"))

    service = {
        "destination_service": "helloworld.sample.svc.cluster.local",
        "destination_service_name": "helloworld",
        "destination_service_namespace": "sample",
        "destination_workload": "helloworld-v1",
        "destination_workload_namespace": "sample",
        "destination_canonical_service": "helloworld",
        "destination_canonical_revision": "v1",
        "destination_version": "v1",
        "request_protocol": "http",
        "response_flags": "-",
        "request_host": "helloworld.sample:5000",
    }
    assert client.items() >= service.items()
    assert client.items() >= {"source_workload": "client", "source_cluster": "east", "source_app": "client"}.items()
    assert there.items() >= service.items()
    assert there["connection_security_policy"] == "mutual_tls"
    assert there["source_workload_namespace"] == "sample"
    until("sizes are told", lambda: counted(mesh, "127.0.0.1", "istio_response_bytes_count"))
    assert not counted(mesh, "127.0.0.1", "istio_request_bytes_count")


def test_a_patch_of_an_envoy_filter_is_seen_on_traffic(mesh, until, apply):
    assert mesh.python("east", HEADER).strip() == "None"
    lua = "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua"
    value = {"name": "stamp", "typed_config": {"@type": lua, "default_source_code": {"inline_string": STAMPED}}}
    place = {"filterChain": {"filter": {"name": "envoy.filters.network.http_connection_manager"}}}
    patch = {
        "applyTo": "HTTP_FILTER",
        "match": {"context": "SIDECAR_OUTBOUND", "listener": place},
        "patch": {"operation": "INSERT_BEFORE", "value": value},
    }

    apply(obj("networking.istio.io", "EnvoyFilter", "stamp", configPatches=[patch]))

    until("the patch holds", lambda: mesh.python("east", HEADER).strip() == "seen")


def why(mesh, *arguments: str) -> Object:
    done = mesh.isthmus(*arguments, "--in-cluster", "east", "-o", "json")
    assert done.stdout, done.stderr
    found: Object = json.loads(done.stdout)
    return found


def answering(mesh) -> set[str]:
    """Clusters that answer the client in east, or what goes wrong."""
    return {answer.get("cluster") or answer["error"].partition(":")[0] for answer in mesh.ask("east", 40)}


def reached(found: Object) -> set[str]:
    """Clusters whose workloads get a share."""
    shares = [share for share in found["way"]["upstreams"] if share["percent"]]
    return {one["cluster"] for share in shares for place in share["destinations"] for one in place["standsFor"]}


def test_why_and_why_not_say_what_traffic_does(mesh, until, apply):
    """Without a rule, with one that sends all to one cluster, and with one that lets nobody in."""
    far = mesh.pods("west", "helloworld")[0]["name"]
    near = mesh.pods("east", "helloworld")[0]["name"]
    before = why(mesh, "why", "client.sample", "helloworld")
    until("both answer", lambda: answering(mesh) == {"east", "west"})
    assert before["verdict"] == "allowed"
    assert reached(before) == {"east", "west"}
    [given] = why(mesh, "why-not", near, "--from", "client.sample")["answers"]
    assert given["verdict"] == "given"

    subsets = [{"name": "near", "labels": {"version": "v1"}}]
    apply(obj("networking.istio.io", "DestinationRule", "one", host="helloworld", subsets=subsets))
    route = [{"destination": {"host": "helloworld", "subset": "near"}}]
    apply(obj("networking.istio.io", "VirtualService", "one", hosts=["helloworld"], http=[{"route": route}]))
    until("one answers", lambda: answering(mesh) == {"east"})
    narrowed = why(mesh, "why", "client.sample", "helloworld")
    assert narrowed["verdict"] == "allowed"
    assert reached(narrowed) == {"east"}
    [missing] = why(mesh, "why-not", far, "--from", "client.sample")["answers"]
    assert missing["verdict"] != "given"
    assert "sample/one" in json.dumps(missing), "it names the rule"

    rule = {"from": [{"source": {"principals": ["cluster.local/ns/sample/sa/client"]}}]}
    apply(obj("security.istio.io", "AuthorizationPolicy", "nobody", action="DENY", rules=[rule]))
    until("nobody is let in", lambda: answering(mesh) == {"HTTP 403"})
    assert why(mesh, "why", "client.sample", "helloworld")["verdict"] == "denied"


def test_a_new_pods_proxy_is_run_as_a_proxy_config_says(mesh, until, apply):
    selector = {"matchLabels": {"app": "tcp-echo"}}
    said = {"ISTIO_META_TEAM": "a"}
    apply(obj("networking.istio.io", "ProxyConfig", "run", selector=selector, concurrency=2, environmentVariables=said))
    old = {pod["name"] for pod in mesh.pods("east", "tcp-echo")}

    apps = mesh.apps("east")

    def ready() -> int:
        return apps.read_namespaced_deployment("tcp-echo-v1", "sample").status.ready_replicas

    with mesh.scaled("east", "tcp-echo-v1", 2):
        [new] = until(
            "a second one", lambda: [pod["name"] for pod in mesh.pods("east", "tcp-echo") if pod["name"] not in old]
        )
        until("both are ready", lambda: ready() == 2)
        page = json.loads(mesh.envoy("east", "sample", new, "server_info"))
        assert page["command_line_options"]["concurrency"] == 2
        assert page["node"]["metadata"]["TEAM"] == "a"
