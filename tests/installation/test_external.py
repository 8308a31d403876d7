"""An external control plane, installed by the commands alone: it runs in one cluster, and serves another one that has none."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

ROOTS = "/api/v1/namespaces/shop/configmaps/istio-ca-root-cert"
DEPLOYMENT = "/apis/apps/v1/namespaces/istio-system/deployments/istiod"
SECRETS = "/api/v1/namespaces/istio-system/secrets"
CLUSTERS = """
import urllib.request
print(urllib.request.urlopen("http://127.0.0.1:15014/debug/clusterz", timeout=5).read().decode())
"""


@pytest.fixture(scope="module")
def outside(cell) -> Any:
    """East is the mesh, outside the control plane's home. It runs with the account and the variables that were installed there."""
    found = cell.cluster("outside")
    given = ("--set", "configCluster=true", "--set", f"controlPlane.address={cell.address}")
    done = cell.isthmus(
        *("install", "--profile", "remote", "--cluster", "east", "--network", "n1", "--context", "east", "--apply"),
        *(*given, "--set", "controlPlane.cluster=outside"),
    )
    assert done.returncode == 0, done.stderr
    done = cell.isthmus(
        *("install", "--profile", "external", "--cluster", "east", "--context", "outside", "--apply"),
        *("--set", "controlPlane.home=outside", "--set", "env.LOCAL_CLUSTER_SECRET_WATCHER=true"),
    )
    assert done.returncode == 0, done.stderr
    secret = cell.isthmus(
        *("create-remote-secret", "--type", "config", "--context", "east", "--name", "east"),
        *("--server", cell.east.inside),
    )
    assert secret.returncode == 0, secret.stderr
    found.made(SECRETS, next(filter(None, yaml.safe_load_all(secret.stdout))))
    cell.made("/api/v1/namespaces", {"metadata": {"name": "shop"}})
    container = found.request("GET", DEPLOYMENT)[1]["spec"]["template"]["spec"]["containers"][0]
    variables = {each["name"]: each["value"] for each in container["env"] if "value" in each}
    found.control_plane = cell.control_plane("istiod", found, **variables)
    return found


def test_a_proxy_is_served_and_certified_by_a_control_plane_in_another_cluster(cell, outside):
    cell.made("/api/v1/namespaces/shop/serviceaccounts", {"metadata": {"name": "web"}})
    published = cell.until("the roots are published", lambda: cell.request("GET", ROOTS)[1].get("data"))

    agent = cell.sidecar_of_web(cell.east, "n1", published["root-cert.pem"])

    assert agent.end() == 0


def test_told_to_it_looks_for_remote_secrets_at_home_and_nowhere_else(cell, outside):
    west = cell.cluster("west")
    done = cell.isthmus(
        *("install", "--profile", "remote", "--cluster", "west", "--network", "n2", "--context", "west", "--apply"),
        *("--set", f"controlPlane.address={cell.address}", "--set", "controlPlane.cluster=outside"),
    )
    assert done.returncode == 0, done.stderr

    for put, name in ((cell.east, "elsewhere"), (outside, "west")):
        secret = cell.isthmus("create-remote-secret", "--context", "west", "--name", name, "--server", west.inside)
        put.made(SECRETS, next(filter(None, yaml.safe_load_all(secret.stdout))))

    def known() -> set[str]:
        return {each["id"] for each in json.loads(cell.python(CLUSTERS)) if each["syncStatus"] == "synced"}

    cell.until("west is read", lambda: "west" in known())
    assert known() == {"west"}


def test_nothing_of_the_mesh_is_in_the_control_planes_own_cluster(outside):
    found = outside.request("GET", "/api/v1/configmaps")[1]["items"]

    assert [each["metadata"]["namespace"] for each in found if each["metadata"]["name"] == "istio-ca-root-cert"] == []


def test_nothing_was_forbidden(outside):
    told = [line for line in outside.control_plane.log if "orbidden" in line or "cannot" in line]

    assert told == []
