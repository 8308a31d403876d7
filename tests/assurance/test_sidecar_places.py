"""A Sidecar that says where applications find services, and what is let in: rendered, judged and served by Envoy."""

from __future__ import annotations

import http.client
import http.server
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from free_ports import free_port
from running_envoy import running_envoy

from isthmus.assurance.rendering import node_of, render
from isthmus.assurance.scenario import scenario_of
from isthmus.cli.envoy_judgement import verdict
from isthmus.envoy.static import static_bootstrap

MESH = """
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {clusterIP: 10.96.0.1, ports: [{name: http, port: 80}, {name: tcp, port: 6379}]}
---
apiVersion: v1
kind: Service
metadata: {name: mail, namespace: shop}
spec: {clusterIP: 10.96.0.2, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: way-out, namespace: edge}
spec: {clusterIP: 10.96.0.3, ports: [{name: tcp, port: 3128}]}
---
apiVersion: v1
kind: Service
metadata: {name: worker, namespace: shop}
spec: {clusterIP: 10.96.0.4, ports: [{name: http, port: 80, targetPort: 8080}, {name: tcp, port: 81, targetPort: 8081}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: worker-1, namespace: shop, labels: {kubernetes.io/service-name: worker}}
addressType: IPv4
ports: [{name: http, port: 8080}, {name: tcp, port: 8081}]
endpoints: [{addresses: [127.0.0.1], targetRef: {kind: Pod, name: worker}}]
---
apiVersion: v1
kind: Pod
metadata: {name: worker, namespace: shop, labels: {app: worker}}
status: {podIP: 127.0.0.1}
"""


def rendered(*more: dict[str, Any], sidecar: dict[str, Any] | None = None) -> dict[str, Any]:
    objects = [*yaml.safe_load_all(MESH), *more]
    if sidecar is not None:
        meta = {"name": "default", "namespace": "shop"}
        objects.append({"apiVersion": "networking.istio.io/v1", "kind": "Sidecar", "metadata": meta, "spec": sidecar})
    scenario = scenario_of({"clusters": [{"id": "east", "objects": objects}]})
    return render(scenario, node_of(scenario, "sidecar/worker.shop", "east"))


def named(document: dict[str, Any], part: str, name: str) -> dict[str, Any]:
    return next(each for each in document[part] if each["name"] == name)


def listeners(document: dict[str, Any]) -> dict[str, str]:
    """Each outbound listener: whether it is bound, and what serves there."""
    found = {}
    for each in document["listeners"]:
        if each["trafficDirection"] == "OUTBOUND" and each["name"] != "virtualOutbound":
            tables = [
                filter_["typedConfig"]["rds"]["routeConfigName"]
                for chain in each.get("filterChains", ())
                for filter_ in chain["filters"]
                if "rds" in filter_["typedConfig"]
            ]
            rest = each["defaultFilterChain"]["filters"][-1]["typedConfig"]["cluster"]
            found[each["name"]] = f"{'captured' if 'bindToPort' in each else 'bound'} {','.join(tables) or '-'} {rest}"
    return found


def hosts(document: dict[str, Any], table: str) -> list[str]:
    return [each["name"] for each in named(document, "routes", table)["virtualHosts"]]


def test_a_bound_port_takes_the_place_of_the_services_own_addresses():
    document = rendered(sidecar={"egress": [{"port": {"number": 80}, "captureMode": "NONE", "hosts": ["./*"]}]})

    assert listeners(document) == {"127.0.0.1_80": "bound 127.0.0.1_80 BlackHoleCluster"}
    assert hosts(document, "127.0.0.1_80") == [
        *(f"{name}.shop.svc.cluster.local:80" for name in ("cart", "mail", "worker")),
        "block_all",
    ]
    assert verdict(document) == ""


def test_an_address_without_a_port_is_bound_at_each_port_of_the_services():
    egress = [{"bind": "127.0.0.5", "captureMode": "NONE", "hosts": ["./cart.shop.svc.cluster.local"]}]

    document = rendered(sidecar={"egress": egress})

    assert listeners(document) == {
        "127.0.0.5_80": "bound 127.0.0.5_80 BlackHoleCluster",
        "127.0.0.5_6379": "bound - outbound|6379||cart.shop.svc.cluster.local",
    }
    assert verdict(document) == ""


def test_a_captured_address_is_met_on_its_way_and_others_keep_their_own():
    captured = {"port": {"number": 6379}, "bind": "198.51.100.7", "hosts": ["./*"]}

    document = rendered(sidecar={"egress": [captured, {"hosts": ["./mail.shop.svc.cluster.local"]}]})

    assert listeners(document) == {
        "198.51.100.7_6379": "captured - outbound|6379||cart.shop.svc.cluster.local",
        "0.0.0.0_80": "captured 80 PassthroughCluster",
    }
    assert hosts(document, "80") == ["mail.shop.svc.cluster.local:80", "allow_any"]
    assert verdict(document) == ""


def test_a_socket_has_every_host_at_its_first_port():
    egress = [{"bind": "unix:///var/run/mesh.sock", "port": {"number": 0, "protocol": "HTTP"}, "hosts": ["./*"]}]

    document = rendered(sidecar={"egress": egress})

    [name] = listeners(document)
    assert named(document, "listeners", name)["address"] == {"pipe": {"path": "/var/run/mesh.sock"}}
    assert hosts(document, name)[:2] == ["cart.shop.svc.cluster.local:80", "mail.shop.svc.cluster.local:80"]
    assert verdict(document) == ""


def test_strangers_are_called_by_way_of_the_egress_proxy():
    proxy = {"host": "way-out.edge.svc.cluster.local", "port": {"number": 3128}}
    sidecar = {"egress": [{"hosts": ["./*"]}], "outboundTrafficPolicy": {"egressProxy": proxy}}

    document = rendered(sidecar=sidecar)

    way = "outbound|3128||way-out.edge.svc.cluster.local"
    other = named(document, "listeners", "virtualOutbound")["defaultFilterChain"]["filters"][0]["typedConfig"]
    rest = named(document, "routes", "80")["virtualHosts"][-1]
    assert other["cluster"] == way
    assert (rest["domains"], rest["routes"][0]["route"]["cluster"]) == (["*"], way)
    assert named(document, "clusters", way)
    assert verdict(document) == ""


def test_an_egress_proxy_that_nobody_declares_lets_nobody_around_it():
    proxy = {"host": "nobody.edge.svc.cluster.local", "port": {"number": 3128}}

    document = rendered(sidecar={"outboundTrafficPolicy": {"egressProxy": proxy}})

    other = named(document, "listeners", "virtualOutbound")["defaultFilterChain"]["filters"][0]["typedConfig"]
    assert other["cluster"] == "BlackHoleCluster"


def beside(said: dict[str, Any], spec: dict[str, Any]) -> tuple[bool, str]:
    """Whether the Sidecar renders as one that does not say so, and what is told of it."""
    [(part, listener)] = spec.items()
    wrong, unsaid = rendered(sidecar={part: [listener | said]}), rendered(sidecar={part: [listener]})
    [warning], _ = wrong.pop("warnings"), unsaid.pop("warnings")
    return wrong == unsaid, warning


NO_SOCKETS = ["unix://run/mesh.sock", "unix:///run/", f"unix:///{'x' * 107}"]


@pytest.mark.parametrize("bind", ["localhost", "127.0.0.1:80", *NO_SOCKETS])
@pytest.mark.parametrize("mode", ["NONE", "DEFAULT"])
def test_an_egress_listener_at_no_address_is_told_and_as_if_none_was_said(bind, mode):
    same, told = beside({"bind": bind}, {"egress": {"port": {"number": 80}, "captureMode": mode, "hosts": ["./*"]}})

    assert same
    assert f"egress[0].bind is {bind!r}, neither an IP address nor unix:// and a path" in told


@pytest.mark.parametrize("mode", ["NONE", "DEFAULT"])
def test_an_ingress_listener_at_no_address_is_told_and_as_if_none_was_said(mode):
    port = {"number": 8080, "protocol": "HTTP", "name": "http"}

    same, told = beside({"bind": "localhost"}, {"ingress": {"port": port, "captureMode": mode}})

    assert same
    assert "ingress[0].bind is 'localhost', not an IP address" in told


@pytest.mark.parametrize("end", ["localhost:80", "127.0.0.1", f"127.0.0.1:{'9' * 5000}", "127.0.0.1:0", *NO_SOCKETS])
def test_an_ingress_listener_that_leads_nowhere_is_told_and_leads_where_it_was_sent(end):
    port = {"number": 8080, "protocol": "HTTP", "name": "http"}

    same, told = beside({"defaultEndpoint": end}, {"ingress": {"port": port}})

    assert same
    assert f"ingress[0].defaultEndpoint is {end!r}, neither IP:PORT" in told


def test_an_egress_proxy_without_a_port_is_told():
    document = rendered(sidecar={"outboundTrafficPolicy": {"egressProxy": {"host": "way-out.edge.svc.cluster.local"}}})

    assert "outboundTrafficPolicy.egressProxy has no port" in document["warnings"][0]


def limit(document: dict[str, Any], port: int) -> Any:
    thresholds = named(document, "clusters", f"inbound|{port}||")["circuitBreakers"]["thresholds"]
    return thresholds[0]["maxConnections"]


def test_limits_of_what_is_let_in_are_the_listeners_then_the_sidecars_then_the_rules():
    rule = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": {"name": "worker", "namespace": "shop"},
        "spec": {"host": "worker", "trafficPolicy": {"connectionPool": {"tcp": {"maxConnections": 3}}}},
    }
    ingress = [
        {
            "port": {"number": 8080, "protocol": "HTTP", "name": "http"},
            "connectionPool": {"tcp": {"maxConnections": 1}},
        },
        {"port": {"number": 8081, "protocol": "TCP", "name": "tcp"}},
    ]
    whole = {"inboundConnectionPool": {"tcp": {"maxConnections": 2}}}

    of_rule = rendered(rule)
    of_listener = rendered(rule, sidecar={"ingress": ingress})
    of_sidecar = rendered(rule, sidecar={"ingress": ingress} | whole)

    assert (limit(of_rule, 8080), limit(of_rule, 8081)) == (3, 3)
    assert (limit(of_listener, 8080), limit(of_listener, 8081)) == (1, 3)
    assert (limit(of_sidecar, 8080), limit(of_sidecar, 8081)) == (1, 2)
    assert verdict(of_sidecar) == ""


class Application(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        said = f"{self.headers['Host']}{self.path}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *said: object) -> None:
        del said


@pytest.fixture
def application() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Application) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


class OverSocket(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(str(self._path))


def answered(connection: http.client.HTTPConnection, host: str) -> tuple[int, str]:
    connection.request("GET", "/found", headers={"Host": host})
    answer = connection.getresponse()
    said = answer.status, answer.read().decode()
    connection.close()
    return said


def test_an_application_finds_services_at_a_bound_port_and_a_socket_and_callers_find_it_behind_a_bound_port(
    tmp_path, application
):
    port, own, path = free_port(), free_port(), tmp_path / "mesh.sock"
    store = [
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "ServiceEntry",
            "metadata": {"name": "store", "namespace": "shop"},
            "spec": {
                "hosts": ["store.example"],
                "resolution": "STATIC",
                "location": "MESH_INTERNAL",
                "ports": [{"number": port, "name": "http", "protocol": "HTTP"}],
                "endpoints": [{"address": "127.0.0.1", "ports": {"http": application}}],
            },
        }
    ]
    sidecar = {
        "egress": [
            {"port": {"number": port, "protocol": "HTTP"}, "captureMode": "NONE", "hosts": ["./store.example"]},
            {"bind": f"unix://{path}", "hosts": ["./store.example"]},
        ],
        "ingress": [
            {
                "port": {"number": own, "protocol": "HTTP", "name": "http"},
                "captureMode": "NONE",
                "bind": "127.0.0.1",
                "defaultEndpoint": f"127.0.0.1:{application}",
            }
        ],
    }
    plain = {
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": {"name": "default", "namespace": "shop"},
        "spec": {"mtls": {"mode": "DISABLE"}},
    }
    document = rendered(*store, plain, sidecar=sidecar)
    document["listeners"] = [each for each in document["listeners"] if not each["name"].startswith("virtual")]
    for cluster in document["clusters"]:
        # Nobody is there to give certificates, and nobody here asks for one.
        cluster.pop("transportSocketMatches", None)

    with running_envoy(static_bootstrap(document), tmp_path):
        at_port = answered(http.client.HTTPConnection("127.0.0.1", port, timeout=60), "store.example")
        at_socket = answered(OverSocket(path), "store.example")
        stranger = answered(OverSocket(path), "else.example")
        inbound = answered(http.client.HTTPConnection("127.0.0.1", own, timeout=60), "worker")

    assert at_port == at_socket == (200, "store.example/found")
    assert stranger[0] == 502
    assert inbound == (200, "worker/found")
