"""Templates for paths in rules of access: what is no template costs the rule that has it, and never a proxy."""

from __future__ import annotations

from typing import Any

import pytest

from isthmus.assurance.rendering import node_of, render
from isthmus.assurance.scenario import scenario_of
from isthmus.assurance.validation.validating import problems_of
from isthmus.cli.envoy_judgement import verdict

RIGHT = ("/{*}", "/{**}", "/a/{*}/b/{**}/c", "/{*}/", "/%20/{*}", "/a!$&'()+,;:@-._~=/{*}", "/{*}" * 10)
WRONG = (
    "/{**}/{*}",
    "/{**}/a/{**}",
    "/a b/{*}",
    "/a//{*}",
    "a/{*}",
    "/ä/{*}",
    "/a?b/{*}",
    "/x{*}",
    "/{a}",
    "/{*}" * 20,
)


def policy(operation: dict[str, Any], action: str = "ALLOW") -> dict[str, Any]:
    metadata = {"name": "p", "namespace": "shop"}
    spec = {"action": action, "rules": [{"to": [{"operation": operation}]}]}
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": metadata,
        "spec": spec,
    }


def rendered(obj: dict[str, Any]) -> dict[str, Any]:
    """For a server's own Envoy, which takes it."""
    ports = [{"name": "http", "port": 80, "targetPort": 8080}]
    service = {"clusterIP": "10.96.0.1", "selector": {"app": "web"}, "ports": ports}
    meta = {"name": "web", "namespace": "shop"}
    pod = {"metadata": meta | {"labels": {"app": "web"}}, "status": {"podIP": "10.0.0.1"}}
    objects = [
        {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": service},
        {"apiVersion": "v1", "kind": "Pod", **pod},
        obj,
    ]
    scenario = scenario_of({"clusters": [{"id": "east", "objects": objects}]})
    document = render(scenario, node_of(scenario, "sidecar/web.shop", "east"))
    assert verdict(document) == ""
    return document


@pytest.mark.parametrize("path", RIGHT)
def test_a_template_is_asked_for(path: str) -> None:
    document = rendered(policy({"paths": [path]}))

    assert "uriTemplate" in str(document["listeners"])
    assert document["warnings"] == []
    assert problems_of(policy({"paths": [path]})) == []


@pytest.mark.parametrize("path", WRONG)
def test_what_is_no_template_allows_nobody_and_its_writer_is_told(path: str) -> None:
    document = rendered(policy({"paths": [path]}))

    assert "uriTemplate" not in str(document["listeners"])
    assert "the rule allows nobody" in str(document["warnings"])
    assert [each.path for each in problems_of(policy({"paths": [path]}))] == ["spec.rules[0].to[0].operation.paths[0]"]


def test_what_is_denied_for_no_template_is_denied_for_every_path() -> None:
    document = rendered(policy({"paths": ["/a b/{*}"]}, action="DENY"))

    assert "the rule holds for every path" in str(document["warnings"])


@pytest.mark.parametrize("port", ["99999999", "0", "http"])
def test_a_port_that_is_none_allows_nobody(port: str) -> None:
    assert "the rule allows nobody" in str(rendered(policy({"ports": [port]}))["warnings"])
