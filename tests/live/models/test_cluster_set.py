"""A cluster set with Isthmus as the controller: what is exported in one cluster is called from the other by the name of the set."""

from __future__ import annotations

import socket

import kubernetes
import pytest

pytestmark = pytest.mark.live

NAME = "helloworld.sample.svc.clusterset.local"
EXPORT = {
    "apiVersion": "multicluster.x-k8s.io/v1alpha1",
    "kind": "ServiceExport",
    "metadata": {"name": "helloworld", "namespace": "sample"},
}
RESOLVE = f"""
import socket
try:
    print(socket.gethostbyname("{NAME}"))
except socket.gaierror:
    print("nothing")
"""


@pytest.fixture(scope="module")
def mesh(guided):
    return guided("cluster-set")


def imported(mesh, cluster: str) -> dict:
    api = kubernetes.client.CustomObjectsApi(mesh.apps(cluster).api_client)
    found = api.list_namespaced_custom_object("multicluster.x-k8s.io", "v1alpha1", "sample", "serviceimports")
    return next(iter(found["items"]), {})


def told(mesh, cluster: str) -> dict[str, str]:
    api = kubernetes.client.CustomObjectsApi(mesh.apps(cluster).api_client)
    found = api.get_namespaced_custom_object(
        "multicluster.x-k8s.io", "v1alpha1", "sample", "serviceexports", "helloworld"
    )
    return {each["type"]: f"{each['status']} {each['reason']}" for each in found["status"]["conditions"]}


def exporting(mesh, cluster: str) -> list[str]:
    return [each["cluster"] for each in imported(mesh, cluster).get("status", {}).get("clusters", [])]


def resolved(mesh, cluster: str) -> str:
    return mesh.python(cluster, RESOLVE).strip()


def answered(mesh, cluster: str) -> set[str]:
    return {answer.get("cluster", "failed") for answer in mesh.ask(cluster, 40, host=NAME)}


def test_both_clusters_have_the_import_and_resolve_the_name_to_its_address(mesh):
    imports = {cluster: imported(mesh, cluster) for cluster in ("east", "west")}

    assert imports["east"]["spec"] == imports["west"]["spec"]
    assert exporting(mesh, "east") == exporting(mesh, "west") == ["east"]
    assert told(mesh, "east") == {"Valid": "True Valid", "Ready": "True Exported", "Conflict": "False NoConflicts"}
    assert [each["type"] for each in imports["west"]["status"]["conditions"] if each["status"] == "True"] == ["Ready"]
    for cluster in ("east", "west"):
        assert resolved(mesh, cluster) == imports[cluster]["spec"]["ips"][0]
        assert socket.inet_aton(resolved(mesh, cluster))[:2] == bytes([240, 241])


def test_what_is_not_exported_stays_in_its_cluster_and_leaves_it_once_it_is(mesh, until):
    assert answered(mesh, "east") == {"east"}
    why = mesh.isthmus("why", "client", f"{NAME}:5000", "--in-cluster", "west").stdout
    assert f"It asks ServiceImport sample/helloworld ({NAME}) on port 5000, declared in east, west." in why
    why_not = mesh.isthmus("why-not", "helloworld-v2", "--from", "client", "--in-cluster", "east").stdout
    assert why_not.count("To change it, create a ServiceExport sample/helloworld in cluster west.") == 2, (
        "for both names"
    )

    mesh.apply("west", EXPORT)
    try:
        until("east reaches west, too", lambda: answered(mesh, "east") == {"east", "west"})
        until("both are told", lambda: exporting(mesh, "east") == exporting(mesh, "west") == ["east", "west"])
    finally:
        mesh.remove("west", EXPORT)
    until("east alone exports", lambda: exporting(mesh, "east") == exporting(mesh, "west") == ["east"])


def test_the_name_goes_with_the_last_export_and_comes_back_with_its_address(mesh, until):
    before = resolved(mesh, "west")
    mesh.apply("west", EXPORT)
    try:
        until("both export", lambda: exporting(mesh, "east") == exporting(mesh, "west") == ["east", "west"])
        mesh.remove("east", EXPORT)
        until("west alone exports", lambda: exporting(mesh, "west") == ["west"])
        mesh.remove("west", EXPORT)

        for cluster in ("east", "west"):
            until(f"no import in {cluster}", lambda cluster=cluster: imported(mesh, cluster) == {})
            until(f"no name in {cluster}", lambda cluster=cluster: resolved(mesh, cluster) == "nothing")
    finally:
        mesh.apply("east", EXPORT)

    until("the name is back", lambda: resolved(mesh, "west") == before)
    until("it is answered", lambda: "east" in answered(mesh, "west") and "failed" not in answered(mesh, "west"))
