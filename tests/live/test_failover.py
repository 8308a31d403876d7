"""What callers notice when everything near is gone at once; and how exactly requests are shared out."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytestmark = pytest.mark.live

PREFERENCE = "isthmus.io/prefer-local-cluster"


@pytest.fixture
def own_cluster_first(mesh, until) -> Iterator[None]:
    """As a user asks for it: one annotation, and no outlier detection."""

    def say(value: str | None) -> None:
        for cluster in ("east", "west"):
            body = {"metadata": {"annotations": {PREFERENCE: value}}}
            mesh.core(cluster).patch_namespaced_service("helloworld", "sample", body)

    say("true")
    until("east stays at home", lambda: answered(mesh, "east") == {"east"})
    yield
    say(None)
    until("both answer again", lambda: answered(mesh, "east") == {"east", "west"})


def answered(mesh, cluster: str) -> set[str]:
    return {answer.get("cluster") or answer["error"] for answer in mesh.ask(cluster, 30)}


@pytest.mark.parametrize(
    "killed", [["helloworld"], ["istio-proxy", "helloworld"]], ids=["workload", "workload and proxy"]
)
def test_all_near_endpoints_are_killed_and_no_request_fails(mesh, until, own_cluster_first, killed):
    [pod] = mesh.pods("east", "helloworld")
    restarts = pod["restarts"]
    processes = [mesh.container_pid("east", "sample", pod["name"], container) for container in killed]

    with mesh.load("east", per_second=400, threads=8) as load:
        for process in processes:
            mesh.kill(process)
        until("far away answers", lambda: load.summary.by_cluster.get("west", 0) > 20)
        until("it was started again", lambda: mesh.pods("east", "helloworld")[0]["restarts"] > restarts)
        until("it is ready", lambda: ready(mesh, "east") == 1)
        until("near again", lambda: answered(mesh, "east") == {"east"})

    assert load.summary.failed == 0, str(load.summary)


def test_requests_are_shared_out_by_endpoints_to_one_percent(mesh, until):
    """One workload here, three behind the other network's gateway: a quarter stays."""
    in_turn = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": {"name": "in-turn", "namespace": "sample"},
        "spec": {"host": "helloworld", "trafficPolicy": {"loadBalancer": {"simple": "ROUND_ROBIN"}}},
    }
    with mesh.applied("east", in_turn), mesh.scaled("west", "helloworld-v2", 3):
        until("three are ready", lambda: ready(mesh, "west") == 3)
        until("the gateway counts for three", lambda: 0.7 < share(mesh, "west", 40) < 0.8)

        with mesh.load("east", per_second=400, threads=8) as load:
            load.goes_on(3000)
    until("one is left", lambda: len(mesh.pods("west", "helloworld")) == 1)

    found = load.summary
    assert found.failed == 0, str(found)
    assert abs(found.by_cluster["west"] / found.requests - 0.75) < 0.01, str(found)


def share(mesh, cluster: str, count: int) -> float:
    """Of requests of east's client that this cluster answers."""
    answers = mesh.ask("east", count)
    return sum(answer.get("cluster") == cluster for answer in answers) / count


def ready(mesh, cluster: str) -> int:
    """How many of the cluster's workloads are ready, with all that runs in them."""
    return sum(len(set(pod["ready"].split("/"))) == 1 for pod in mesh.pods(cluster, "helloworld"))
