"""MeshConfig's defaultHttpRetryPolicy: how often requests are repeated that no rule says it for."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from isthmus.assurance.rendering import node_of, render
from isthmus.assurance.scenario import BadScenario, scenario_of

MESH = """
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: shop}
status: {podIP: 10.0.0.1}
---
apiVersion: v1
kind: Service
metadata: {name: plain, namespace: shop}
spec: {clusterIP: 10.96.0.1, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: ruled, namespace: shop}
spec: {clusterIP: 10.96.0.2, ports: [{name: http, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: plain, namespace: shop}
spec: {host: plain, trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: x-user}}}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: ruled, namespace: shop}
spec:
  hosts: [ruled]
  http:
  - {match: [{uri: {prefix: /own}}], route: [{destination: {host: ruled}}], retries: {attempts: 5, retryOn: 5xx}}
  - {route: [{destination: {host: ruled}}]}
"""


def retries(policy: Any) -> dict[str, list[dict[str, Any] | None]]:
    """What holds for each route of each host."""
    mesh = {} if policy is None else {"meshConfig": {"defaultHttpRetryPolicy": policy}}
    scenario = scenario_of({"clusters": [{"id": "east", "objects": list(yaml.safe_load_all(MESH))}], **mesh})
    document = render(scenario, node_of(scenario, "sidecar/client.shop", "east"))
    [table] = [each for each in document["routes"] if each["name"] == "80"]
    return {
        host["name"].partition(".")[0]: [
            route["route"].get("retryPolicy", host.get("retryPolicy")) for route in host["routes"]
        ]
        for host in table["virtualHosts"]
        if ".shop." in host["name"]
    }


def counts(policy: Any) -> dict[str, list[int]]:
    return {name: [(each or {}).get("numRetries", 0) for each in found] for name, found in retries(policy).items()}


def test_without_a_word_requests_are_repeated_twice() -> None:
    assert counts(None) == {"plain": [2, 2], "ruled": [5, 2]}


def test_a_mesh_may_say_how_often_and_for_what() -> None:
    policy = {"attempts": 1, "retryOn": "connect-failure", "perTryTimeout": "3s"}

    assert counts(policy) == {"plain": [1], "ruled": [5, 1]}
    for each in (retries(policy)["plain"][0], retries(policy)["ruled"][1]):
        assert each is not None
        assert (each["retryOn"], each["perTryTimeout"]) == ("connect-failure", "3s")


def test_a_mesh_may_repeat_nothing() -> None:
    assert counts({"attempts": 0}) == {"plain": [0], "ruled": [5, 0]}


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ({"attempts": "many"}, "attempts"),
        ({"attempts": -1}, "defaultHttpRetryPolicy.attempts"),
        ({"attempts": 1, "perTryTimeout": "soon"}, "defaultHttpRetryPolicy"),
    ],
)
def test_what_is_no_policy_is_refused(policy: Any, said: str) -> None:
    with pytest.raises(BadScenario, match=said):
        retries(policy)
