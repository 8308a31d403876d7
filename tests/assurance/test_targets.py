"""Policies and Telemetry that are bound to Gateways of Gateway API: where they hold, and what is said of targets that nothing can be bound to."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from isthmus.assurance.rendering import node_of, render
from isthmus.assurance.scenario import Scenario, scenario_of
from isthmus.cli.envoy_judgement import verdict

SHOP = yaml.safe_load((Path(__file__).parent / "explaining" / "shop.yaml").read_text())
GROUP = "gateway.networking.k8s.io"
ISSUER = {"issuer": "https://issuer.example", "jwks": '{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}'}


def target(name: str = "entrance", **also: str) -> dict[str, str]:
    return {"group": GROUP, "kind": "Gateway", "name": name} | also


def gateway(name: str, namespace: str) -> list[dict[str, Any]]:
    """With one Pod, as it would be deployed."""
    labels = {f"{GROUP}/gateway-name": name, "app": name}
    return [
        {
            "apiVersion": f"{GROUP}/v1",
            "kind": "Gateway",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {
                "gatewayClassName": "istio",
                "listeners": [{"name": "http", "port": 8080, "protocol": "HTTP"}],
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": f"{name}-1", "namespace": namespace, "labels": labels},
            "spec": {"serviceAccountName": name, "nodeName": "node-a"},
            "status": {"podIP": f"10.1.1.{len(name)}"},
        },
    ]


def policy(kind: str, namespace: str, **spec: Any) -> dict[str, Any]:
    group = "telemetry.istio.io" if kind == "Telemetry" else "security.istio.io"
    said: dict[str, Any] = {
        "AuthorizationPolicy": {"action": "DENY", "rules": [{"to": [{"operation": {"paths": ["/entrance-only"]}}]}]},
        "RequestAuthentication": {"jwtRules": [ISSUER]},
        "Telemetry": {"accessLogging": [{"providers": [{"name": "envoy"}]}]},
    }[kind]
    metadata = {"name": "bound", "namespace": namespace}
    return {"apiVersion": f"{group}/v1", "kind": kind, "metadata": metadata, "spec": said | spec}


def scenario(*objects: dict[str, Any]) -> Scenario:
    changed = copy.deepcopy(SHOP)
    gateways = [*gateway("entrance", "shop"), *gateway("side-door", "shop"), *gateway("entrance", "jobs")]
    changed["clusters"][0]["objects"] += [*gateways, *objects]
    return scenario_of(changed)


MARKS = {
    "AuthorizationPolicy": "/entrance-only",
    "RequestAuthentication": "issuer.example",
    "Telemetry": "file.v3.FileAccessLog",
}


def holders(found: Scenario, kind: str) -> set[str]:
    """Proxies whose configuration has it."""
    proxies = ("router/entrance-1.shop", "router/side-door-1.shop", "router/entrance-1.jobs", "sidecar/cart-1.shop")
    holds = set()
    for proxy in proxies:
        document = render(found, node_of(found, proxy, "east"))
        assert verdict(document) == "", "the real Envoy takes it"
        if MARKS[kind] in json.dumps(document):
            holds.add(proxy)
    return holds


@pytest.mark.parametrize("kind", sorted(MARKS))
def test_it_holds_at_the_gateways_that_it_names_and_nowhere_else(kind):
    assert holders(scenario(policy(kind, "shop", targetRefs=[target()])), kind) == {"router/entrance-1.shop"}


def test_several_targets_and_the_older_single_one_count():
    both = scenario(policy("AuthorizationPolicy", "shop", targetRefs=[target(), target("side-door")]))
    single = scenario(policy("AuthorizationPolicy", "shop", targetRef=target("side-door")))

    assert holders(both, "AuthorizationPolicy") == {"router/entrance-1.shop", "router/side-door-1.shop"}
    assert holders(single, "AuthorizationPolicy") == {"router/side-door-1.shop"}


@pytest.mark.parametrize("kind", sorted(MARKS))
@pytest.mark.parametrize(
    ("named", "why"),
    [
        ({"group": "", "kind": "Service", "name": "cart"}, "waypoints"),
        ({"group": GROUP, "kind": "GatewayClass", "name": "istio"}, "waypoints"),
        ({"group": "networking.istio.io", "kind": "Gateway", "name": "entrance"}, "nothing that policies are bound to"),
        (target("entrance", namespace="jobs"), "another namespace"),
        (target("missing"), "there is no Gateway missing in shop"),
    ],
)
def test_what_nothing_can_be_bound_to_is_a_finding_and_holds_nowhere(kind, named, why):
    found = scenario(policy(kind, "shop", targetRefs=[named]))

    [issue] = [each for each in found.snapshot().issues if each.code == "ISM0303"]
    assert (issue.subject.kind, issue.subject.name) == (kind, "bound")
    assert why in issue.what
    assert holders(found, kind) == set()


def test_a_selector_beside_targets_has_no_effect_and_its_writer_is_told():
    selector = {"matchLabels": {"app": "cart"}}
    found = scenario(policy("AuthorizationPolicy", "shop", targetRefs=[target()], selector=selector))

    [issue] = [each for each in found.snapshot().issues if each.code == "ISM0303"]
    assert issue.field == "spec.selector"
    assert holders(found, "AuthorizationPolicy") == {"router/entrance-1.shop"}
