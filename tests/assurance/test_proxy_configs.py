"""What stands before a gateway: said for all of them by MeshConfig, or by a gateway of itself; judged by the real Envoy."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from isthmus.assurance.rendering import node_of, render
from isthmus.assurance.scenario import scenario_of
from isthmus.cli.envoy_judgement import verdict

SHOP = yaml.safe_load((Path(__file__).parent / "explaining" / "shop.yaml").read_text())
GATEWAY = {
    "apiVersion": "networking.istio.io/v1",
    "kind": "Gateway",
    "metadata": {"name": "entrance", "namespace": "shop"},
    "spec": {
        "selector": {"app": "entrance"},
        "servers": [
            {"port": {"number": 8080, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]},
            {"port": {"number": 5432, "name": "tcp", "protocol": "TCP"}, "hosts": ["*"]},
        ],
    },
}
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "entrance-1", "namespace": "shop", "labels": {"app": "entrance"}},
    "spec": {"serviceAccountName": "entrance", "nodeName": "node-a"},
    "status": {"podIP": "10.1.0.20"},
}


def listeners(topology: dict[str, Any], own: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    changed = copy.deepcopy(SHOP)
    changed["meshConfig"] = {"defaultConfig": {"gatewayTopology": topology}}
    pod = copy.deepcopy(POD)
    if own is not None:
        config = {"gatewayTopology": own}
        pod["metadata"]["annotations"] = {"proxy.istio.io/config": yaml.safe_dump(config)}
    changed["clusters"][0]["objects"] += [GATEWAY, pod]
    scenario = scenario_of(changed)
    document = render(scenario, node_of(scenario, "router/entrance-1.shop", "east"))
    assert verdict(document) == "", "the real Envoy takes it"
    found: list[dict[str, Any]] = document["listeners"]
    return found


@pytest.mark.parametrize(("own", "hops"), [(None, 1), ({"numTrustedProxies": 3}, 3), ({}, 0)])
def test_a_gateway_knows_itself_what_is_before_it_else_the_mesh_says_it(own, hops):
    [http] = [each for each in listeners({"numTrustedProxies": 1}, own) if each["name"].endswith("_8080")]
    [manager] = [each["typedConfig"] for each in http["filterChains"][0]["filters"]]

    assert manager.get("xffNumTrustedHops", 0) == hops
    assert manager["useRemoteAddress"]


def test_proxy_protocol_is_read_on_every_port_first():
    for listener in listeners({"proxyProtocol": {}}):
        assert listener["listenerFilters"][0]["name"] == "envoy.filters.listener.proxy_protocol"
