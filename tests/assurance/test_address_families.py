"""Sidecars of Pods with IPv6 addresses alone, and with both: what their Envoys listen at, whom they call, and from where."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from isthmus.assurance.rendering import node_of, render
from isthmus.assurance.scenario import scenario_of
from isthmus.cli.envoy_judgement import verdict

MESH = """
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec:
  clusterIP: 10.96.0.1
  clusterIPs: [10.96.0.1, "fd00:96::1"]
  ipFamilies: [IPv4, IPv6]
  selector: {app: cart}
  ports: [{name: http, port: 80, targetPort: 8080}, {name: tcp, port: 6379}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: cart-4, namespace: shop, labels: {kubernetes.io/service-name: cart}}
addressType: IPv4
ports: [{name: http, port: 8080}, {name: tcp, port: 6379}]
endpoints: [{addresses: [10.0.0.1], targetRef: {kind: Pod, name: both}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: cart-6, namespace: shop, labels: {kubernetes.io/service-name: cart}}
addressType: IPv6
ports: [{name: http, port: 8080}, {name: tcp, port: 6379}]
endpoints:
- {addresses: ["fd00::1"], targetRef: {kind: Pod, name: both}}
- {addresses: ["fd00::2"], targetRef: {kind: Pod, name: six}}
---
apiVersion: v1
kind: Pod
metadata: {name: both, namespace: shop, labels: {app: cart, security.istio.io/tlsMode: istio}}
status: {podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.1}, {ip: "fd00::1"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: six, namespace: shop, labels: {app: cart, security.istio.io/tlsMode: istio}}
status: {podIP: "fd00::2", podIPs: [{ip: "fd00::2"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: four, namespace: shop}
status: {podIP: 10.0.0.4, podIPs: [{ip: 10.0.0.4}]}
"""


def rendered(name: str) -> dict[str, Any]:
    """What the Pod's sidecar is given. Envoy has taken it."""
    scenario = scenario_of({"clusters": [{"id": "east", "objects": list(yaml.safe_load_all(MESH))}]})
    document = render(scenario, node_of(scenario, f"sidecar/{name}.shop", "east"))
    assert verdict(document) == ""
    return document


def places(document: dict[str, Any]) -> dict[str, list[str]]:
    """The addresses at which each listener is."""
    return {
        each["name"]: [
            at["address"]["socketAddress"]["address"]
            for at in ({"address": each["address"]}, *each.get("additionalAddresses", ()))
        ]
        for each in document["listeners"]
    }


@pytest.mark.parametrize(
    ("name", "everywhere", "own"),
    [
        ("four", ["0.0.0.0"], ["10.96.0.1_6379"]),
        ("six", ["::"], ["fd00:96::1_6379"]),
        ("both", ["0.0.0.0", "::"], ["10.96.0.1_6379", "fd00:96::1_6379"]),
    ],
)
def test_a_sidecar_listens_at_addresses_of_its_own_families(name, everywhere, own):
    found = places(rendered(name))

    of_services = {f"{everywhere[0]}_80": everywhere, **{each: [each.rpartition("_")[0]] for each in own}}
    assert found == {"virtualInbound": everywhere, "virtualOutbound": everywhere, **of_services}


@pytest.mark.parametrize(
    ("name", "sources"),
    [("four", ["127.0.0.6"]), ("six", ["::6"]), ("both", ["127.0.0.6", "::6"])],
)
def test_its_own_workload_is_called_from_addresses_that_capture_leaves_alone(name, sources):
    document = rendered(name)

    inward = [each for each in document["clusters"] if each["name"].startswith(("inbound", "Inbound"))]
    assert len(inward) == (1 if name == "four" else 3)
    for each in inward:
        bind = each["upstreamBindConfig"]
        others = [other["address"]["address"] for other in bind.get("extraSourceAddresses", ())]
        assert [bind["sourceAddress"]["address"], *others] == sources


@pytest.mark.parametrize(
    ("name", "called"),
    [("four", ["10.0.0.1"]), ("six", ["fd00::1", "fd00::2"]), ("both", ["10.0.0.1", "fd00::1", "fd00::2"])],
)
def test_endpoints_are_called_at_addresses_that_it_has_itself(name, called):
    document = rendered(name)

    [found] = [
        each for each in document["endpoints"] if each["clusterName"] == "outbound|80||cart.shop.svc.cluster.local"
    ]
    told = [
        to["endpoint"]["address"]["socketAddress"]["address"]
        for group in found["endpoints"]
        for to in group["lbEndpoints"]
    ]
    assert sorted(told) == called


@pytest.mark.parametrize(
    ("name", "addresses"), [("four", {"10.96.0.1"}), ("six", {"[fd00:96::1]"}), ("both", {"10.96.0.1", "[fd00:96::1]"})]
)
def test_requests_may_name_a_service_by_its_address(name, addresses):
    document = rendered(name)

    [table] = [each for each in document["routes"] if each["name"] == "80"]
    [host] = [each for each in table["virtualHosts"] if each["name"] == "cart.shop.svc.cluster.local:80"]
    assert addresses == {each for each in host["domains"] if each[0] in "1["}


@pytest.mark.parametrize(
    ("name", "ips"), [("four", ["10.96.0.1"]), ("six", ["fd00:96::1"]), ("both", ["10.96.0.1", "fd00:96::1"])]
)
def test_names_lead_to_addresses_of_its_families(name, ips):
    table = rendered(name)["nameTable"]["table"]

    assert table["cart.shop.svc.cluster.local"]["ips"] == ips
