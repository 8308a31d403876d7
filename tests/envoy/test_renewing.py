"""Requests through gateways that pass connections: how real Envoys spread them, with the upstreams that callers and gateways are given."""

from __future__ import annotations

import contextlib
import http.client
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from free_ports import free_port
from running_envoy import running_envoy

from isthmus.envoy.expand import expanded
from isthmus.envoy.resources import CLUSTER
from isthmus.model.services import Protocol
from isthmus.model.views import ProxyKind

LOOPBACK = "127.0.0.1"
NETWORK_FILTERS = "type.googleapis.com/envoy.extensions.filters.network"
ROUTER = {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}
REQUESTS = 3000


def at(port: int) -> dict[str, Any]:
    return {"socketAddress": {"address": LOOPBACK, "portValue": port}}


def listener(port: int, network_filter: str, **config: Any) -> dict[str, Any]:
    typed = {"@type": f"{NETWORK_FILTERS}.{network_filter}", "statPrefix": f"at-{port}", **config}
    return {
        "name": f"at-{port}",
        "address": at(port),
        "filterChains": [{"filters": [{"name": "only", "typedConfig": typed}]}],
    }


def requests(port: int, **action: Any) -> dict[str, Any]:
    host = {"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, **action}]}
    return listener(
        port,
        "http_connection_manager.v3.HttpConnectionManager",
        routeConfig={"virtualHosts": [host]},
        httpFilters=[{"name": "router", "typedConfig": ROUTER}],
    )


def compiled(mesh: Any, view: Any, name: str) -> dict[str, Any]:
    return next(each for each in expanded(mesh.compiled(mesh.view(view)), CLUSTER) if each["name"] == name)


def placed(told: dict[str, Any], name: str, ports: list[int]) -> dict[str, Any]:
    """The upstream as a proxy is told it, with endpoints on loopback, which take no part in mutual TLS."""
    endpoints = [{"endpoint": {"address": at(port)}, "loadBalancingWeight": 1} for port in ports]
    assignment = {"clusterName": name, "endpoints": [{"lbEndpoints": endpoints}]}
    kept = {key: said for key, said in told.items() if key not in ("edsClusterConfig", "transportSocketMatches")}
    return kept | {"name": name, "type": "STATIC", "loadAssignment": assignment}


@pytest.mark.parametrize("at_once", [1, 4])
@pytest.mark.parametrize("protocol", [Protocol.HTTP, Protocol.HTTP2, Protocol.AUTO])
def test_each_workload_behind_two_gateways_answers_its_share_and_no_request_fails(mesh, tmp_path, protocol, at_once):
    hello = mesh.service("helloworld", mesh.port(5000, protocol))
    there = [mesh.endpoint(hello, f"10.10.0.{n}", cluster=mesh.WEST, network=mesh.N2) for n in (1, 2)]
    through = [mesh.through(f"172.30.2.{n}", *there) for n in (1, 2)]
    called = mesh.upstream(hello, hello.ports[0], mesh.group(*through))
    passed = mesh.upstream(hello, hello.ports[0], mesh.group(*(mesh.direct(each, 5000) for each in there)))
    of_gateway = mesh.outbound_view(passed, seen_from=mesh.scope(ProxyKind.ROUTER), exposed=[(15443, passed)])
    told_caller = compiled(mesh, mesh.outbound_view(called), called.name)
    told_gateway = compiled(mesh, of_gateway, passed.sni)
    caller, *gateways_and_workloads = (free_port() for _ in range(5))
    gateways, workloads = gateways_and_workloads[:2], gateways_and_workloads[2:]
    behind = [placed(told_gateway, f"behind-{port}", workloads) for port in gateways]
    passing = [
        listener(port, "tcp_proxy.v3.TcpProxy", cluster=each["name"])
        for port, each in zip(gateways, behind, strict=True)
    ]
    answering = [
        requests(port, directResponse={"status": 200, "body": {"inlineString": str(port)}}) for port in workloads
    ]
    calling = requests(caller, route={"cluster": called.name})

    def ask(_: int) -> Counter[str]:
        answers: Counter[str] = Counter()
        with contextlib.closing(http.client.HTTPConnection(LOOPBACK, caller, timeout=20)) as connection:
            for _ in range(REQUESTS // at_once):
                connection.request("GET", "/")
                answer = connection.getresponse()
                answers[answer.read().decode() if answer.status == 200 else str(answer.status)] += 1
        return answers

    envoys = {
        "listeners": [calling, *passing, *answering],
        "clusters": [placed(told_caller, called.name, gateways), *behind],
    }
    with running_envoy({"staticResources": envoys}, tmp_path), ThreadPoolExecutor(at_once) as callers:
        answered = sum(callers.map(ask, range(at_once)), Counter())

    assert set(answered) == {str(port) for port in workloads}, "no other answer, and each of them does"
    assert min(answered.values()) >= REQUESTS / 20, "by chance: each new connection meets one of them"
