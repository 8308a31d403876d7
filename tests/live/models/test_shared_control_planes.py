"""Three clusters that use two control planes: what is left of control when one goes, and what that costs."""

from __future__ import annotations

import time
from typing import Any

import pytest

from isthmus.localruntime.breaking import Breaker
from isthmus.localruntime.mesh_client import MeshRefused, MeshUnavailable

pytestmark = pytest.mark.live

SYSTEM = "istio-system"
RULE = {
    "apiVersion": "networking.istio.io/v1",
    "kind": "VirtualService",
    "metadata": {"name": "answered", "namespace": "sample"},
    "spec": {
        "hosts": ["helloworld"],
        "http": [{"match": [{"uri": {"exact": "/hello"}}], "directResponse": {"status": 418}}],
    },
}


@pytest.fixture(scope="module")
def mesh(guided):
    return guided("shared-control-planes")


def where(mesh) -> dict[str, dict[str, int]]:
    """For each cluster, how many of its proxies each control plane has."""
    return {
        cluster: {name: len(proxies) for name, proxies in mesh.control_planes_of(cluster).items()}
        for cluster in ("east", "center", "west")
    }


def sent_by(mesh, name: str) -> dict[tuple[str, str, str], int]:
    """How many resources of each type a control plane has sent to proxies of east and center, since they came to it."""
    return {
        (cluster, proxy, kind): resources["resourcesSent"]
        for cluster in ("east", "center")
        for proxy, kinds in mesh.control_planes_of(cluster)[name].items()
        for kind, resources in kinds.items()
        if kind in ("cluster", "listener", "route", "endpoint")
    }


def obeys(mesh, cluster: str) -> bool:
    return {answer.get("error", "").partition(":")[0] for answer in mesh.ask(cluster, 5, path="/hello")} == {"HTTP 418"}


def each_proxy_is_with_the_first_of_its_control_planes(mesh, until):
    print(f"{where(mesh)}")
    until("as written", lambda: where(mesh) == {"east": {"east": 3}, "center": {"east": 3}, "west": {"west": 3}})


def when_east_s_is_gone_west_s_takes_over_and_re_sends_nothing(mesh, until):
    with mesh.load("center") as load:
        began = time.time()
        mesh.scale("east", "istiod", 0, SYSTEM)
        mesh.kill(mesh.container_pid("east", SYSTEM, "istiod", "discovery"))
        until(
            "all are west's", lambda: where(mesh) == {"east": {"west": 3}, "center": {"west": 3}, "west": {"west": 3}}
        )
        seconds = time.time() - began
        sent = sent_by(mesh, "west")
        load.goes_on(50)

    resent = {name: count for name, count in sent.items() if count}
    print(f"all six proxies moved within {seconds:.1f} s; re-sent: {resent or 'nothing'}; meanwhile {load.summary}")
    assert load.summary.failed == 0
    # What is different is that a Service of east has no endpoint any more: its control plane itself.
    assert not [name for name in resent if name[2] in ("cluster", "listener", "route")]


def control_goes_on_with_the_other_one(mesh, until):
    """New configuration for both that were east's; a new namespace with its roots, a new Pod with its certificate, for center: all from west."""
    mesh.apply("west", RULE)
    until("center and east obey west's rule", lambda: obeys(mesh, "center") and obeys(mesh, "east"))
    mesh.scale("center", "helloworld-v2", 2)
    until("a new Pod is ready", lambda: [pod["ready"] for pod in mesh.pods("center", "helloworld")] == ["2/2", "2/2"])
    core = mesh.core("center")
    core.create_namespace({"metadata": {"name": "later"}})
    until(
        "roots are published",
        lambda: core.list_namespaced_config_map("later", field_selector="metadata.name=istio-ca-root-cert").items,
    )
    mesh.remove("west", RULE)
    until("they obey no more", lambda: not obeys(mesh, "center") and not obeys(mesh, "east"))


def east_s_proxies_return_to_it_when_it_is_back_and_are_sent_nothing_again(mesh, until):
    """By themselves, half a minute to a minute after it has begun to answer; each proxy at a time of its own."""
    came: dict[float, int] = {}
    began = time.monotonic()

    def all_are_home() -> bool:
        found = where(mesh)
        back = sum(found[cluster].get("east", 0) for cluster in ("east", "center"))
        if back != max(came.values(), default=0):
            came[time.monotonic() - began] = back
        return {name: set(there) for name, there in found.items()} == {
            "east": {"east"},
            "center": {"east"},
            "west": {"west"},
        }

    with mesh.load("center") as load:
        mesh.scale("east", "istiod", 1, SYSTEM)
        until("each is with its first again", all_are_home)
        sent = sent_by(mesh, "east")
        load.goes_on(50)

    resent = {name: count for name, count in sent.items() if count}
    times = ", ".join(f"{count} after {seconds:.0f} s" for seconds, count in came.items())
    print(f"at home: {times}; re-sent: {resent or 'nothing'}; meanwhile {load.summary}")
    assert load.summary.failed == 0
    # What is different is that a Service of east has an endpoint again: its control plane itself.
    assert not [name for name in resent if name[2] in ("cluster", "listener", "route")]


def when_both_are_gone_requests_go_on_and_new_proxies_begin_with_the_last_good_configuration(mesh, until):
    for cluster in ("east", "west"):
        mesh.scale(cluster, "istiod", 0, SYSTEM)
    until("no control plane runs", lambda: not mesh.pods("west", "istiod") and not mesh.pods("east", "istiod"))
    kept = mesh.pods("center", "client")[0]
    with mesh.load("center") as load:
        mesh.scale("center", "helloworld-v2", 3)
        began = time.monotonic()
        until("a new Pod is ready", lambda: [pod["ready"] for pod in mesh.pods("center", "helloworld")] == ["2/2"] * 3)
        seconds = time.monotonic() - began
        load.goes_on(100)
    mesh.kill(mesh.container_pid("center", "sample", "client", "istio-proxy"))
    until("the client's proxy was restarted", lambda: mesh.pods("center", "client")[0]["restarts"] > kept["restarts"])
    until("and works", lambda: not [answer for answer in mesh.ask("center", 20) if "error" in answer])

    print(f"without any control plane: {load.summary}; a new Pod was ready after {seconds:.1f} s")
    assert load.summary.failed == 0
    assert set(load.summary.by_cluster) == {"east", "center", "west"}


def they_come_back(mesh, until):
    until("every proxy has control", lambda: all(sum(found.values()) >= 3 for found in where(mesh).values()))
    mesh.apply("east", RULE)
    mesh.apply("west", RULE)
    until("all obey", lambda: all(obeys(mesh, cluster) for cluster in ("east", "center", "west")))
    mesh.remove("east", RULE)
    mesh.remove("west", RULE)
    until("nobody obeys any more", lambda: not any(obeys(mesh, cluster) for cluster in ("east", "center", "west")))


def test_control_planes_go_one_after_the_other_and_come_back(mesh, until):
    """One story, in which each part begins where the one before has ended."""
    try:
        each_proxy_is_with_the_first_of_its_control_planes(mesh, until)
        when_east_s_is_gone_west_s_takes_over_and_re_sends_nothing(mesh, until)
        control_goes_on_with_the_other_one(mesh, until)
        east_s_proxies_return_to_it_when_it_is_back_and_are_sent_nothing_again(mesh, until)
        when_both_are_gone_requests_go_on_and_new_proxies_begin_with_the_last_good_configuration(mesh, until)
    finally:
        for cluster in ("east", "west"):
            mesh.scale(cluster, "istiod", 1, SYSTEM)
    they_come_back(mesh, until)


def asked(mesh, cluster: str, page: str) -> Any:
    """A page of a control plane that may be starting; empty while it does not answer."""
    try:
        return mesh.client.control_plane(cluster, page)
    except (MeshRefused, MeshUnavailable):
        return []


def state_of_center(mesh) -> list[str]:
    """As east's control plane lists it."""
    return [row["state"] for row in asked(mesh, "east", "debug/clusterz") if row["id"] == "center"]


def test_one_that_starts_while_a_cluster_is_unreachable_serves_what_it_knew_of_it_and_says_how_old_that_is(mesh, until):
    """West's is away, so that every proxy has to take the word of the one that has just started."""
    breaker, restarts = Breaker(mesh.client), mesh.pods("east", "istiod")[0]["restarts"]
    mesh.kill(mesh.container_pid("east", SYSTEM, "istiod", "discovery"))
    until("east's has begun anew", lambda: mesh.pods("east", "istiod")[0]["restarts"] > restarts)
    until("and has read center", lambda: state_of_center(mesh) == ["live"])
    breaker.freeze([mesh.cluster("center")["processIds"]["apiserver"]])
    try:
        mesh.scale("west", "istiod", 0, SYSTEM)
        began = time.time()
        mesh.kill(mesh.container_pid("east", SYSTEM, "istiod", "discovery"))
        [row] = until(
            "east's shows center as it was",
            lambda: [r for r in asked(mesh, "east", "debug/clusterz") if (r["id"], r["state"]) == ("center", "stale")],
        )
        until("east's proxies are with it", lambda: where(mesh)["east"] == {"east": 3})
        seconds = time.time() - began
        with mesh.load("east") as load:
            load.goes_on(100)
        print(f"served within {seconds:.1f} s, with center as of {row['staleSince']}: {load.summary}")
    finally:
        breaker.undo()
        mesh.scale("west", "istiod", 1, SYSTEM)
    until("center is live again", lambda: state_of_center(mesh) == ["live"])

    assert row["staleSince"]
    assert load.summary.failed == 0
    assert set(load.summary.by_cluster) == {"east", "center", "west"}
