"""Promises of deployment models that need no mesh of their own: places, names that the mesh does not show, gateways in turn, who has no proxy."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

pytestmark = pytest.mark.live

SYSTEM = "istio-system"
GATEWAY = "istio-eastwestgateway"
HELLO = "outbound|5000||helloworld.sample.svc.cluster.local"


def hosts(mesh, cluster: str) -> dict[str, dict[str, Any]]:
    """Where the cluster's client calls helloworld, as its Envoy says it: address → host."""
    page = json.loads(mesh.envoy(cluster, "sample", "client", "clusters?format=json"))
    return {
        host["address"]["socket_address"]["address"]: host
        for each in page["cluster_statuses"]
        if each["name"] == HELLO
        for host in each["host_statuses"]
    }


def test_workloads_are_where_their_nodes_are_however_they_are_reached(mesh):
    """The near one is in the zone of its Node; what is behind the other network's gateway is in that network's region."""
    [pod] = mesh.pods("east", "helloworld")
    node = mesh.core("east").read_node(pod["node"]).metadata.labels

    found = {address: host["locality"] for address, host in hosts(mesh, "east").items()}

    near, far = found[pod["ip"]], found[mesh.gateway("west")]
    assert near["region"] == node["topology.kubernetes.io/region"] == "eu-north"
    assert near["zone"] == node["topology.kubernetes.io/zone"]
    assert far["region"] == "us-west"


def test_a_name_that_the_mesh_does_not_show_is_asked_of_the_clusters_own_dns(mesh, until):
    """A Service that is exported to nobody: no proxy's table has it, and the cluster's DNS knows it all the same."""
    core = mesh.core("east")
    annotations = {"networking.istio.io/exportTo": "~"}
    spec = {"selector": {"app": "helloworld"}, "ports": [{"name": "http", "port": 5000}]}
    made = core.create_namespaced_service(
        "sample", {"metadata": {"name": "own", "annotations": annotations}, "spec": spec}
    )
    script = "import socket\ntry: print(socket.gethostbyname('own.sample'))\nexcept OSError: print('nothing')"
    try:
        until("it resolves", lambda: mesh.python("east", script).strip() == made.spec.cluster_ip)
        told = json.loads(
            mesh.isthmus(
                "dns", "explain", "own.sample", "--from", "client", "--in-cluster", "east", "-o", "json"
            ).stdout
        )
        asked = [each for step in told["steps"] for each in step["asked"]]
        assert {each["by"] for each in asked if each["addresses"]} == {"the DNS of cluster east"}
    finally:
        core.delete_namespaced_service("own", "sample")


def test_gateways_of_a_network_share_its_connections(mesh, until):
    """Each TCP connection is one through a gateway, so it is counted there."""
    script = """
import socket
for _ in range(40):
    with socket.create_connection(("tcp-echo.sample", 9000), timeout=5) as connection:
        connection.sendall(b"hello\\n")
        print(connection.makefile().readline().split()[0])
"""
    passed = "tcp.outbound_.9000_._.tcp-echo.sample.svc.cluster.local;.downstream_cx_total"

    def gateways() -> list[str]:
        return [pod["name"] for pod in mesh.pods("west", GATEWAY) if pod["ready"] == "1/1"]

    with mesh.scaled("west", GATEWAY, 2, SYSTEM):
        until("both are ready", lambda: len(gateways()) == 2)
        before = {name: mesh.counter("west", SYSTEM, name, passed) for name in gateways()}

        def shares() -> list[int]:
            answers = mesh.python("east", script).split()
            assert set(answers) <= {"v1", "v2"}
            assert len(answers) == 40, "none fails"
            return [mesh.counter("west", SYSTEM, name, passed) - count for name, count in before.items()]

        found = until("both have some", lambda: all(now := shares()) and now)
    print(f"connections through each of west's gateways: {found}")


@contextmanager
def without_a_proxy(mesh, cluster: str) -> Iterator[str]:
    """One more helloworld, without a sidecar."""
    labels = {"app": "helloworld", "version": "bare", "sidecar.istio.io/inject": "false"}
    variables = [{"name": "SERVICE_VERSION", "value": "bare"}, {"name": "CLUSTER_ID", "value": cluster}]
    container = {
        "name": "helloworld",
        "image": "isthmus/helloworld",
        "env": variables,
        "ports": [{"containerPort": 5000}],
    }
    core = mesh.core(cluster)
    core.create_namespaced_pod(
        "sample", {"metadata": {"name": "bare", "labels": labels}, "spec": {"containers": [container]}}
    )
    try:
        yield "bare"
    finally:
        core.delete_namespaced_pod("bare", "sample", grace_period_seconds=0)


def test_who_has_no_proxy_answers_on_its_own_network_alone_and_it_is_said_why(mesh, until):
    with without_a_proxy(mesh, "west") as name:
        until("it runs", lambda: mesh.core("west").read_namespaced_pod(name, "sample").status.pod_ip)
        ip = mesh.core("west").read_namespaced_pod(name, "sample").status.pod_ip
        until("west's client knows it", lambda: ip in hosts(mesh, "west"))
        until("and is answered by it", lambda: "bare" in {answer.get("version") for answer in mesh.ask("west", 20)})

        answers = Counter(answer.get("version") or answer["error"] for answer in mesh.ask("east", 60))
        assert set(answers) == {"v1", "v2"}, f"never by the one without a proxy, and none fails: {dict(answers)}"
        told = json.loads(
            mesh.isthmus("why-not", name, "--from", "client", "--in-cluster", "east", "-o", "json").stdout
        )

    [missing] = told["answers"]
    assert missing["verdict"] != "given"
    assert "proxy" in json.dumps(missing), missing
    until("it is gone", lambda: ip not in hosts(mesh, "west"))
