"""A remote cluster, installed and linked by the commands alone: it is served by the control plane of another one."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

ROOTS = "/api/v1/namespaces/shop/configmaps/istio-ca-root-cert"
INJECTOR = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/istio-sidecar-injector"


@pytest.fixture(scope="module")
def west(cell) -> Any:
    """East is a primary, west its remote; both are installed, east's control plane runs with the rights that it was given."""
    found = cell.cluster("west")
    remote = ("--set", f"controlPlane.address={cell.address}", "--set", "controlPlane.cluster=east")
    for arguments in (
        ("install", "--cluster", "east", "--network", "n1", "--context", "east", "--apply"),
        (
            "install",
            "--profile",
            "remote",
            "--cluster",
            "west",
            "--network",
            "n2",
            "--context",
            "west",
            "--apply",
            *remote,
        ),
        ("link", "east", "west", "--one-way", "--server", f"west={found.inside}"),
    ):
        done = cell.isthmus(*arguments)
        assert done.returncode == 0, done.stderr
    found.made("/api/v1/namespaces", {"metadata": {"name": "shop", "labels": {"istio-injection": "enabled"}}})
    found.control_plane = cell.control_plane("istiod")
    return found


def test_the_remote_is_given_the_primarys_roots_and_its_webhook_the_authority(cell, west):
    roots = cell.until("the roots are published", lambda: west.request("GET", ROOTS)[1].get("data"))["root-cert.pem"]

    def bundles() -> set[str]:
        webhooks = west.request("GET", INJECTOR)[1]["webhooks"]
        return {base64.b64decode(each["clientConfig"].get("caBundle") or "").decode() for each in webhooks}

    cell.until("the webhooks have an authority", lambda: bundles() == {roots})


def test_the_primary_injects_the_remotes_pods(cell, west):
    test_the_remote_is_given_the_primarys_roots_and_its_webhook_the_authority(cell, west)
    pod = {"metadata": {"name": "web-1"}, "spec": {"containers": [{"name": "app", "image": "web:1"}]}}

    made = west.made("/api/v1/namespaces/shop/pods", pod)

    proxy = next(each for each in made["spec"]["initContainers"] if each["name"] == "istio-proxy")
    told = {each["name"]: each.get("value") for each in proxy["env"]}
    assert (told["ISTIO_META_CLUSTER_ID"], told["ISTIO_META_NETWORK"]) == ("west", "n2")
    assert json.loads(told["PROXY_CONFIG"])["discoveryAddress"] == "istiod.istio-system.svc:15012"


def test_a_proxy_of_the_remote_is_known_by_the_token_of_its_own_cluster(cell, west):
    west.made("/api/v1/namespaces/shop/serviceaccounts", {"metadata": {"name": "web"}})
    roots = cell.until("the roots are published", lambda: west.request("GET", ROOTS)[1].get("data"))["root-cert.pem"]

    agent = cell.sidecar_of_web(west, "n2", roots)

    assert agent.end() == 0


def test_nothing_was_forbidden(west):
    told = [line for line in west.control_plane.log if "orbidden" in line or "cannot" in line]

    assert told == []
