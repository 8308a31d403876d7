"""Connections of which only bytes are seen: what the rule of their destination has done with them, from objects to what Envoy takes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from isthmus.assurance.rendering import node_of, render
from isthmus.assurance.scenario import scenario_of
from isthmus.cli.envoy_judgement import verdict

MESH = """
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {clusterIP: 10.96.0.1, ports: [{name: tcp, port: 5432}]}
---
apiVersion: v1
kind: Service
metadata: {name: spare, namespace: shop}
spec: {clusterIP: 10.96.0.2, ports: [{name: tcp, port: 5432}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: forward-proxy, namespace: shop}
spec:
  hosts: [proxy.example.com]
  ports: [{number: 3128, name: tcp, protocol: TCP}]
  resolution: STATIC
  endpoints: [{address: 192.0.2.7}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: far, namespace: shop}
spec: {hosts: [far.example.com], ports: [{number: 443, name: tls, protocol: TLS}], resolution: NONE}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: forward-proxy, namespace: shop}
spec:
  host: proxy.example.com
  subsets: [{name: to-far, trafficPolicy: {tunnel: {protocol: CONNECT, targetHost: far.example.com, targetPort: 443}}}]
"""
BY_SOURCE = {"loadBalancer": {"consistentHash": {"useSourceIp": True}}}


def rule(host: str, **policy: Any) -> dict[str, Any]:
    name = host.split(".")[0]
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"host": host, "trafficPolicy": policy},
    }


def through(*gateways: str) -> dict[str, Any]:
    match = [{"port": 443, "sniHosts": ["far.example.com"]}]
    route = [{"destination": {"host": "proxy.example.com", "subset": "to-far", "port": {"number": 3128}}}]
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "far", "namespace": "shop"},
        "spec": {
            "hosts": ["far.example.com"],
            "gateways": list(gateways) or ["mesh"],
            "tls": [{"match": match, "route": route}],
        },
    }


def proxies_of(who: str, *more: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The filters for bytes that a proxy has, by the upstreams that they lead to. Envoy has taken them."""
    name, _, namespace = who.partition("/")[2].partition(".")
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
           "status": {"podIP": "10.0.0.9"}}  # fmt: skip
    objects = [*yaml.safe_load_all(MESH), pod, *more]
    scenario = scenario_of({"clusters": [{"id": "east", "objects": objects}]})
    document = render(scenario, node_of(scenario, who, "east"))
    assert verdict(document) == ""
    return {leads_to: proxy for listener in document["listeners"] for leads_to, proxy in _proxies(listener)}


def _proxies(listener: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for chain in (*listener.get("filterChains", ()), listener.get("defaultFilterChain", {})):
        for each in chain.get("filters", ()):
            proxy = each["typedConfig"]
            if each["name"] == "envoy.filters.network.tcp_proxy":
                several = proxy.get("weightedClusters", {}).get("clusters", ())
                yield " ".join(to["name"] for to in several) or proxy["cluster"], proxy


def test_connections_of_one_caller_go_to_one_endpoint_where_the_rule_says_so():
    found = proxies_of("sidecar/client.shop", rule("db.shop.svc.cluster.local", **BY_SOURCE))

    assert found["outbound|5432||db.shop.svc.cluster.local"]["hashPolicy"] == [{"sourceIp": {}}]
    assert "hashPolicy" not in found["outbound|5432||spare.shop.svc.cluster.local"]


def test_the_rule_of_where_connections_are_led_to_counts_not_of_what_was_called():
    idle = {"connectionPool": {"tcp": {"idleTimeout": "7s"}}}
    elsewhere = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "db", "namespace": "shop"},
        "spec": {"hosts": ["db"], "tcp": [{"route": [{"destination": {"host": "spare"}}]}]},
    }

    found = proxies_of(
        "sidecar/client.shop",
        rule("db.shop.svc.cluster.local", **BY_SOURCE),
        rule("spare.shop.svc.cluster.local", **idle),
        elsewhere,
    )

    led = found["outbound|5432||spare.shop.svc.cluster.local"]
    assert (led["idleTimeout"], "hashPolicy" in led) == ("7s", False)


def test_several_destinations_share_what_one_filter_can_do():
    both = [{"destination": {"host": "db"}, "weight": 1}, {"destination": {"host": "spare"}, "weight": 3}]
    split = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "db", "namespace": "shop"},
        "spec": {"hosts": ["db"], "tcp": [{"route": both}]},
    }

    found = proxies_of("sidecar/client.shop", split, rule("spare.shop.svc.cluster.local", **BY_SOURCE))

    led = found["outbound|5432||db.shop.svc.cluster.local outbound|5432||spare.shop.svc.cluster.local"]
    assert led["hashPolicy"] == [{"sourceIp": {}}]


@pytest.mark.parametrize("who", ["sidecar/client.shop", "router/egress.shop"])
def test_a_subset_of_a_forward_proxy_may_be_a_tunnel_to_somewhere_else(who):
    gateway = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "out", "namespace": "shop"},
        "spec": {
            "selector": {"app": "egress"},
            "servers": [
                {"port": {"number": 443, "name": "tls", "protocol": "TLS"}, "hosts": ["far.example.com"], "tls": {"mode": "PASSTHROUGH"}}
            ],
        },
    }  # fmt: skip

    found = proxies_of(who, gateway, through("mesh", "shop/out"))

    tunnel = found["outbound|3128|to-far|proxy.example.com"]["tunnelingConfig"]
    assert tunnel["hostname"] == "far.example.com:443"


def test_an_entry_may_have_single_addresses_and_ranges():
    entry = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": "old", "namespace": "shop"},
        "spec": {
            "hosts": ["old.example.com"],
            "addresses": ["192.0.2.128/25", "198.51.100.5"],
            "ports": [{"number": 3306, "name": "tcp", "protocol": "TCP"}],
            "resolution": "NONE",
        },
    }
    scenario = scenario_of({"clusters": [{"id": "east", "objects": [
        entry, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "client", "namespace": "shop"}, "status": {"podIP": "10.0.0.9"}},
    ]}]})  # fmt: skip

    document = render(scenario, node_of(scenario, "sidecar/client.shop", "east"))

    assert verdict(document) == ""
    listeners = {each["name"]: each for each in document["listeners"]}
    [chain] = listeners["0.0.0.0_3306"]["filterChains"]
    assert chain["filterChainMatch"]["prefixRanges"] == [{"addressPrefix": "192.0.2.128", "prefixLen": 25}]
    assert "198.51.100.5_3306" in listeners
