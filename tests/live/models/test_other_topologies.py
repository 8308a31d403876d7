"""Models whose guides need no module of their own: each is followed to its end, and does what its page says. One after another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

pytestmark = [pytest.mark.live, pytest.mark.long]

SYSTEM = "istio-system"


@contextmanager
def ended(mesh: Any) -> Iterator[Any]:
    """Down at the end: the next one needs its place."""
    yield mesh
    mesh.isthmus("down", "--all")


def answered(mesh, cluster: str) -> set[str]:
    return {answer.get("cluster", answer.get("error", "")) for answer in mesh.ask(cluster, 30)}


def told(mesh, cluster: str) -> set[str]:
    """Where the cluster's client may call helloworld."""
    lines = mesh.envoy(cluster, "sample", "client", "clusters").splitlines()
    return {
        line.split("::")[1]
        for line in lines
        if line.startswith("outbound|5000||helloworld.") and "::cx_active::" in line
    }


def test_one_network_is_entered_without_a_gateway(guided):
    with ended(guided("one-network")) as mesh:
        assert answered(mesh, "east") == answered(mesh, "west") == {"east", "west"}
        assert mesh.pods("east", "istio-eastwestgateway") == []
        endpoints = mesh.envoy("east", "sample", "client", "clusters")
        [ip] = [pod["ip"] for pod in mesh.pods("west", "helloworld")]
        assert f"{ip}:5000" in endpoints
        assert told(mesh, "east") == told(mesh, "west"), "on one network all callers are told the same"


def test_blue_and_green_by_rules(guided, until):
    with ended(guided("blue-green-by-rules")) as mesh:
        until(
            "each answers its own", lambda: (answered(mesh, "blue"), answered(mesh, "green")) == ({"blue"}, {"green"})
        )
        [ip] = [pod["ip"] for pod in mesh.pods("green", "helloworld")]
        assert f"{ip}:5000" in mesh.envoy("blue", "sample", "client", "clusters"), "they know each other all the same"


def test_a_region_s_control_plane_stands_in_for_the_other_s(guided, until):
    with ended(guided("one-per-region")) as mesh:
        everywhere = {"eu1", "eu2", "us1", "us2"}
        assert all({name[:2] for name in answered(mesh, cluster)} == {"eu", "us"} for cluster in everywhere)
        assert {cluster: list(mesh.control_planes_of(cluster)) for cluster in sorted(everywhere)} == {
            "eu1": ["eu1"],
            "eu2": ["eu1"],
            "us1": ["us1"],
            "us2": ["us1"],
        }

        with mesh.load("eu2") as load:
            mesh.scale("eu1", "istiod", 0, SYSTEM)
            until(
                "eu's proxies are us1's",
                lambda: all(list(mesh.control_planes_of(c)) == ["us1"] for c in ("eu1", "eu2")),
            )
            load.goes_on(50)

        assert load.summary.failed == 0


def test_one_cluster_needs_no_gateway_and_no_secret(guided):
    with ended(guided("one-shore")) as mesh:
        assert answered(mesh, "c1") == {"c1"}
        assert mesh.isthmus("exec", "client", "--", "hostname").returncode == 0, "nobody has to say in which cluster"
        assert mesh.isthmus("logs", "client", "-c", "istio-proxy").returncode == 0


def test_two_networks_are_crossed_through_gateways_alone(guided):
    with ended(guided("two-shores")) as mesh:
        assert answered(mesh, "east") == answered(mesh, "west") == {"east", "west"}
        assert f"{mesh.gateway('west')}:15443" in mesh.envoy("east", "sample", "client", "clusters")


def test_what_three_clusters_are_told_of_each_other_depends_on_their_networks(guided, until):
    """Two on one network call each other's Pods; the third knows their gateways alone, and goes on through one when the other is gone."""
    with ended(guided("three-shores")) as mesh:
        until("all answer again", lambda: answered(mesh, "west") == {"east", "center", "west"})
        own = {cluster: mesh.pods(cluster, "helloworld")[0]["ip"] for cluster in ("east", "center", "west")}
        near = {f"{own['east']}:5000", f"{own['center']}:5000", f"{mesh.gateway('west')}:15443"}
        assert told(mesh, "east") == told(mesh, "center") == near
        assert told(mesh, "west") == {
            f"{own['west']}:5000",
            f"{mesh.gateway('east')}:15443",
            f"{mesh.gateway('center')}:15443",
        }
        shares = Counter(answer.get("cluster") for answer in mesh.ask("west", 90))
        assert min(shares[cluster] for cluster in own) >= 10, (
            "clusters are chosen for each request, also behind gateways"
        )

        with mesh.load("west") as load:
            mesh.scale("center", "istio-eastwestgateway", 0, SYSTEM)
            until("it is gone", lambda: not mesh.pods("center", "istio-eastwestgateway"))
            load.goes_on(100)

        assert load.summary.failed == 0
        assert {"east", "center"} <= set(load.summary.by_cluster)
