"""A remote on its primary's network: no control plane of its own, and all that it needs from the other."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def mesh(guided):
    return guided("primary-remote")


def test_the_remote_runs_no_control_plane_and_its_proxies_use_the_primary_s(mesh):
    processes = mesh.pods("center", "istiod")

    connected = mesh.control_planes_of("center")

    print(
        f"\ncenter runs {len(processes)} control planes; its proxies are connected to {list(connected)}: {list(connected['east'])}"
    )
    assert processes == []
    assert list(connected) == ["east"]
    assert {proxy.partition("-")[0] for proxy in connected["east"]} == {"client", "helloworld", "istio"}


def test_workloads_of_both_clusters_have_one_identity(mesh):
    identities = {}
    for cluster in ("east", "center"):
        said = mesh.isthmus("proxy-config", "secrets", "client", "-n", "sample", "--cluster", cluster, "-o", "json")
        [chain] = [secret for secret in json.loads(said.stdout)["secrets"] if secret["type"] == "Cert Chain"]
        identities[cluster] = chain["identity"]
        answers = mesh.ask(cluster, 10)
        assert not [answer for answer in answers if "error" in answer]

    print(f"{identities}")
    assert set(identities.values()) == {"spiffe://cluster.local/ns/sample/sa/client"}


def test_a_new_namespace_of_the_remote_gets_the_roots_and_a_pod_in_it_a_sidecar(mesh, until):
    core = mesh.core("center")
    core.create_namespace({"metadata": {"name": "later", "labels": {"istio-injection": "enabled"}}})

    found = until("the roots are there", lambda: _config_map(core, "later"))

    assert found.data == _config_map(mesh.core("east"), "sample").data
    print(f"published by {found.metadata.annotations}")


def test_a_rule_in_the_remote_has_no_effect_and_one_in_the_primary_holds_for_both(mesh, until):
    """Configuration comes from the config cluster alone."""
    mesh.apply("center", answering(418))
    mesh.apply("east", answering(451))

    until("both obey", lambda: all(refused(mesh, cluster) == {"HTTP 451"} for cluster in ("east", "center")))
    print("\na rule of center's own is ignored; east's holds for both")

    mesh.remove("east", answering(451))
    until("requests are answered again", lambda: refused(mesh, "center") == {""})
    assert refused(mesh, "east") == {""}


def test_killing_the_control_plane_fails_no_request_and_the_remote_s_proxies_come_back(mesh, until):
    restarts = mesh.pods("east", "istiod")[0]["restarts"]
    with mesh.load("center") as load:
        mesh.kill(mesh.container_pid("east", "istio-system", "istiod", "discovery"))
        load.goes_on(100)
        until("it was started again", lambda: mesh.pods("east", "istiod")[0]["restarts"] == restarts + 1)
        until("center is connected again", lambda: len(mesh.control_planes_of("center").get("east", {})) == 3)
        load.goes_on(50)

    print(f"kill -9 of the only control plane: {load.summary}")
    assert load.summary.failed == 0


def test_a_new_pod_of_the_remote_gets_a_certificate(mesh, until):
    mesh.scale("center", "helloworld-v2", 2)

    until("two replicas", lambda: [pod["ready"] for pod in mesh.pods("center", "helloworld")] == ["2/2", "2/2"])
    seen = until(
        "it answers", lambda: len({a["pod"] for a in mesh.ask("east", 40) if a.get("cluster") == "center"}) == 2
    )

    assert seen


def answering(status: int) -> dict:
    """Has the caller's sidecar answer in the place of helloworld."""
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "answered", "namespace": "sample"},
        "spec": {"hosts": ["helloworld"], "http": [{"directResponse": {"status": status}}]},
    }


def refused(mesh, cluster: str) -> set[str]:
    return {answer.get("error", "").partition(":")[0] for answer in mesh.ask(cluster, 10)}


def _config_map(core, namespace):
    found = core.list_namespaced_config_map(namespace, field_selector="metadata.name=istio-ca-root-cert").items
    return found[0] if found else None
