"""A control plane that discovers another cluster, both installed and linked by the commands alone, on days when API servers come and go.

A real Envoy says what reaches it.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

SHOP = "/api/v1/namespaces/shop"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices"
SECRET = "/api/v1/namespaces/istio-system/secrets/istio-remote-secret-west"
MERGE = "application/merge-patch+json"
CLUSTERS = """
import urllib.request
print(urllib.request.urlopen("http://127.0.0.1:15014/debug/clusterz", timeout=5).read().decode())
"""
ENVOY = """
import http.client, socket, sys
connection = http.client.HTTPConnection("localhost", timeout=60)
connection.sock = socket.socket(socket.AF_UNIX)
connection.sock.connect(sys.argv[1])
connection.request("GET", "/clusters")
print(connection.getresponse().read().decode())
"""


class Clusters:
    """East with a control plane and a proxy, west, and what is said about west."""

    def __init__(self, cell: Any) -> None:
        self.cell, self.east, self.west = cell, cell.east, cell.cluster("west")

    def isthmus(self, *arguments: str) -> None:
        done = self.cell.isthmus(*arguments)
        assert done.returncode == 0, done.stderr

    def link(self, *arguments: str) -> None:
        self.isthmus("link", "east", "west", "--one-way", "--server", f"west={self.west.inside}", *arguments)

    def say(self, cluster: Any, *addresses: str) -> None:
        """Which endpoints service `orders` has there."""
        endpoints = [{"addresses": [each], "conditions": {"ready": True}} for each in addresses]
        code, answer = cluster.request("PATCH", f"{SLICES}/orders", {"endpoints": endpoints}, MERGE)
        assert code == 200, answer

    def seen(self) -> set[str]:
        """The endpoints of `orders` that east's Envoy knows."""
        told = self.cell.python(ENVOY, str(self.east.directory / "p" / "admin.sock"))
        name = "outbound|80||orders.shop.svc.cluster.local::"
        lines = [line.removeprefix(name) for line in told.splitlines() if line.startswith(name)]
        return {line.partition("::")[0].rpartition(":")[0] for line in lines if "::hostname::" in line}

    def until_seen(self, *addresses: str) -> None:
        self.cell.until(f"Envoy knows {addresses}", lambda: self.seen() == set(addresses))

    def row(self) -> dict[str, Any]:
        """What east's control plane says of west."""
        return next(each for each in json.loads(self.cell.python(CLUSTERS)) if each["id"] == "west")


@pytest.fixture(scope="module")
def clusters(cell) -> Clusters:
    found = Clusters(cell)
    found.isthmus("install", "--cluster", "east", "--network", "n1", "--context", "east", "--apply")
    remote = ("--set", f"controlPlane.address={cell.address}", "--set", "controlPlane.cluster=east")
    where = ("--cluster", "west", "--network", "n1", "--context", "west")
    found.isthmus("install", "--profile", "remote", *where, "--apply", *remote)
    found.link()
    for cluster, address in ((found.east, "198.51.100.11"), (found.west, "198.51.100.21")):
        cluster.made("/api/v1/namespaces", {"metadata": {"name": "shop"}})
        service = {"metadata": {"name": "orders"}, "spec": {"ports": [{"name": "http", "port": 80}]}}
        cluster.made(f"{SHOP}/services", service)
        labels = {"kubernetes.io/service-name": "orders"}
        port = {"name": "http", "port": 8080, "protocol": "TCP"}
        cluster.made(
            SLICES,
            {"metadata": {"name": "orders", "labels": labels}, "addressType": "IPv4", "ports": [port], "endpoints": []},
        )
        found.say(cluster, address)
    found.east.made(f"{SHOP}/serviceaccounts", {"metadata": {"name": "web"}})
    found.control_plane = cell.control_plane("istiod")
    path = f"{SHOP}/configmaps/istio-ca-root-cert"
    roots = cell.until("the roots are published", lambda: found.east.request("GET", path)[1].get("data"))
    found.proxy = cell.sidecar_of_web(found.east, "n1", roots["root-cert.pem"])
    return found


@pytest.fixture(autouse=True)
def calm(clusters) -> None:
    """Where each test begins."""
    clusters.say(clusters.east, "198.51.100.11")
    clusters.say(clusters.west, "198.51.100.21")
    clusters.until_seen("198.51.100.11", "198.51.100.21")


def test_what_changes_in_the_remote_reaches_envoy(clusters):
    clusters.say(clusters.west, "198.51.100.22", "198.51.100.23")

    clusters.until_seen("198.51.100.11", "198.51.100.22", "198.51.100.23")


def test_the_state_of_the_remote_is_told(clusters):
    row = clusters.row()

    assert (row["syncStatus"], row["state"], row["replacement"]) == ("synced", "live", "")
    assert row["credentialExpires"]


def test_a_renewed_credential_takes_no_endpoint_away(clusters):
    before, expires = clusters.east.request("GET", SECRET)[1]["data"], clusters.row()["credentialExpires"]

    clusters.link("--renew")

    assert clusters.east.request("GET", SECRET)[1]["data"] != before
    lost = []

    def renewed() -> bool:
        lost.extend({"198.51.100.11", "198.51.100.21"} - clusters.seen())
        row = clusters.row()
        return row["credentialExpires"] != expires and not row["replacement"]

    clusters.cell.until("the new credential is used", renewed)
    assert lost == []
    test_what_changes_in_the_remote_reaches_envoy(clusters)


def test_linking_again_changes_nothing(clusters):
    before = clusters.east.request("GET", SECRET)[1]

    clusters.link()

    assert clusters.east.request("GET", SECRET)[1] == before


def test_nothing_was_forbidden(clusters):
    """Asked before a server is started again: a real one knows its roles a moment after it answers."""
    told = [line for line in clusters.control_plane.log if "orbidden" in line]

    assert told == []


def test_endpoints_outlive_the_remotes_api_server_and_are_followed_when_it_is_back(clusters):
    """After its restart it knows no version from before."""
    clusters.west.stop()
    try:
        clusters.cell.until("the loss is told", lambda: clusters.row()["state"] == "stale")
        assert clusters.seen() == {"198.51.100.11", "198.51.100.21"}
    finally:
        clusters.west.start()
    clusters.say(clusters.west, "198.51.100.24")

    clusters.until_seen("198.51.100.11", "198.51.100.24")
    clusters.cell.until("all of it is current", lambda: clusters.row()["state"] == "live")


def test_endpoints_outlive_the_own_api_server_and_are_followed_when_it_is_back(clusters):
    clusters.east.stop()
    assert clusters.seen() == {"198.51.100.11", "198.51.100.21"}
    clusters.east.start()
    clusters.say(clusters.east, "198.51.100.12")

    clusters.until_seen("198.51.100.12", "198.51.100.21")
