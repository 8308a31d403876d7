"""At which addresses gateways listen: those of the families that their Pods have."""

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
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.1, ports: [{name: http, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: front, namespace: edge}
spec:
  selector: {app: front}
  servers:
  - {port: {number: 8080, name: http, protocol: HTTP}, hosts: ["*"]}
  - {port: {number: 8081, name: bound, protocol: HTTP}, bind: 127.0.0.1, hosts: ["*"]}
  - {port: {number: 15443, name: tls, protocol: TLS}, tls: {mode: AUTO_PASSTHROUGH}, hosts: ["*.local"]}
"""


def listening(*ips: str) -> dict[str, list[str]]:
    """Each listener's addresses, of a gateway whose Pod has these."""
    pod: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "front", "namespace": "edge", "labels": {"app": "front"}},
        "status": {"podIP": ips[0], "podIPs": [{"ip": ip} for ip in ips]},
    }
    scenario = scenario_of({"clusters": [{"id": "east", "objects": [pod, *yaml.safe_load_all(MESH)]}]})
    document = render(scenario, node_of(scenario, "router/front.edge", "east"))
    assert verdict(document) == ""
    return {
        each["name"]: [
            place["address"]["socketAddress"]["address"] for place in (each, *each.get("additionalAddresses", ()))
        ]
        for each in document["listeners"]
    }


@pytest.mark.parametrize(
    ("ips", "everywhere"),
    [
        (["10.0.0.1"], ["0.0.0.0"]),
        (["fd00::1"], ["::"]),
        (["10.0.0.1", "fd00::1"], ["0.0.0.0", "::"]),
        (["fd00::1", "10.0.0.1"], ["0.0.0.0", "::"]),
    ],
)
def test_a_gateway_listens_at_every_address_of_its_own_families_and_where_a_server_says_so(ips, everywhere):
    name = everywhere[0]

    assert listening(*ips) == {
        f"{name}_8080": everywhere,
        "127.0.0.1_8081": ["127.0.0.1"],
        f"{name}_15443": everywhere,
    }
