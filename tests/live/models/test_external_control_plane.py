"""A control plane outside the mesh that it controls."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.live

RULE = {
    "apiVersion": "networking.istio.io/v1",
    "kind": "VirtualService",
    "metadata": {"name": "answered", "namespace": "sample"},
    "spec": {"hosts": ["helloworld"], "http": [{"directResponse": {"status": 418}}]},
}


@pytest.fixture(scope="module")
def mesh(guided):
    return guided("external-control-plane")


def test_every_proxy_uses_it_and_it_runs_nothing_of_the_mesh(mesh):
    connected = {cluster: mesh.control_planes_of(cluster) for cluster in ("east", "west")}

    print(
        f"\n{ ({cluster: {cp: len(proxies) for cp, proxies in found.items()} for cluster, found in connected.items()}) }"
    )
    assert {cluster: list(found) for cluster, found in connected.items()} == {"east": ["ops"], "west": ["ops"]}
    assert [pod["name"].partition("-")[0] for pod in mesh.cluster("ops")["pods"]] == ["istiod"]


def test_the_authority_s_keys_are_outside_and_the_roots_inside(mesh):
    secrets = {
        cluster: sorted(
            secret.metadata.name for secret in mesh.core(cluster).list_namespaced_secret("istio-system").items
        )
        for cluster in ("east", "west", "ops")
    }

    print(f"Secrets in istio-system: {secrets}")
    assert secrets == {"east": ["istio-remote-secret-west"], "west": [], "ops": ["cacerts", "istio-kubeconfig"]}
    roots = [
        mesh.core(cluster).read_namespaced_config_map("istio-ca-root-cert", "sample").data
        for cluster in ("east", "west")
    ]
    assert roots[0] == roots[1]


def test_a_rule_of_the_config_cluster_holds_in_both(mesh, until):
    def seen(cluster: str) -> set[str]:
        return {answer.get("error", "").partition(":")[0] for answer in mesh.ask(cluster, 5)}

    mesh.apply("east", RULE)
    until("both obey", lambda: seen("east") == seen("west") == {"HTTP 418"})
    mesh.remove("east", RULE)
    until("answered again", lambda: seen("east") == seen("west") == {""})


def test_it_says_why_requests_go_where_they_go(mesh, until):
    """It runs outside the mesh, and is asked there."""
    told = json.loads(
        mesh.isthmus("why-not", "helloworld-v2", "--from", "client", "--in-cluster", "east", "-o", "json").stdout
    )
    assert {answer["verdict"] for answer in told["answers"]} == {"given"}


def test_killing_it_fails_no_request(mesh, until):
    with mesh.load("west") as load:
        mesh.kill(mesh.container_pid("ops", "istio-system", "istiod", "discovery"))
        load.goes_on(100)
        until("all are connected again", lambda: len(mesh.control_planes_of("west").get("ops", {})) == 3)
        load.goes_on(50)

    print(f"kill -9 of the external control plane: {load.summary}")
    assert load.summary.failed == 0
