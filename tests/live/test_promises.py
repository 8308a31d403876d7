"""Promises of deployment models that need no mesh of their own: places, names without addresses, gateways and theirs, who has no proxy."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import kubernetes
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


def test_every_address_of_a_network_carries_its_share(mesh, until):
    """West's gateway has a second address, by a Service of its own: east's client calls both alike."""
    west = mesh.core("west")
    gateway = west.read_namespaced_service(GATEWAY, SYSTEM)
    labels = {"topology.istio.io/network": gateway.metadata.labels["topology.istio.io/network"]}
    ports = [{"name": "tls", "port": 15443}]
    second = service("second-door", labels=labels, type="LoadBalancer", selector=gateway.spec.selector, ports=ports)
    west.create_namespaced_service(SYSTEM, second)

    def doors() -> dict[str, dict[str, Any]]:
        ingress = west.read_namespaced_service_status("second-door", SYSTEM).status.load_balancer.ingress or ()
        found = hosts(mesh, "east")
        return {ip: found[ip] for ip in (mesh.gateway("west"), *(each.ip for each in ingress)) if ip in found}

    def requests() -> list[int]:
        counted = [{stat["name"]: int(stat.get("value", 0)) for stat in door["stats"]} for door in doors().values()]
        return [each["rq_total"] for each in counted]

    try:
        until("east's client knows both", lambda: len(doors()) == 2)
        assert len({door["weight"] for door in doors().values()}) == 1, "half of what is behind them to each"
        before = requests()
        answers = Counter(answer.get("version") or answer["error"] for answer in mesh.ask("east", 80))
        through = [now - then for now, then in zip(requests(), before, strict=True)]
    finally:
        west.delete_namespaced_service("second-door", SYSTEM)
    until("east's client knows one", lambda: len(hosts(mesh, "east")) == 2)

    print(f"through the two addresses: {through}")
    assert set(answers) == {"v1", "v2"}, "none fails"
    assert sum(through) == answers["v2"]
    assert all(through)


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


def service(name: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": spec.pop("labels", {})}, "spec": spec}


@contextmanager
def entered_by_a_name_at_another_port(mesh) -> Iterator[None]:
    """West's gateway listens at 16443, too, and what says so has no address, but a host name: one that east's own DNS knows."""
    east, west = mesh.core("east"), mesh.core("west")
    gateway = west.read_namespaced_service(GATEWAY, SYSTEM)
    network = {"topology.istio.io/network": gateway.metadata.labels["topology.istio.io/network"]}
    ports = [{"name": port.name, "port": port.port, "targetPort": port.target_port} for port in gateway.spec.ports]
    other = {"name": "tls-other", "port": 16443, "targetPort": 15443}
    east.create_namespaced_service("sample", service("door", clusterIP="None", ports=[{"name": "tls", "port": 16443}]))
    slices = kubernetes.client.DiscoveryV1Api(east.api_client)
    slice_ = {
        "metadata": {"name": "door-1", "labels": {"kubernetes.io/service-name": "door"}},
        "addressType": "IPv4",
        "ports": [{"name": "tls", "port": 16443}],
        "endpoints": [{"addresses": [mesh.gateway("west")], "conditions": {"ready": True}}],
    }
    slices.create_namespaced_endpoint_slice("sample", slice_)
    labels = network | {"networking.istio.io/gatewayPort": "16443"}
    named = service("named-door", labels=labels, selector=gateway.spec.selector, ports=[other])
    try:
        west.create_namespaced_service(SYSTEM, named)
        status = {"status": {"loadBalancer": {"ingress": [{"hostname": "door.sample.svc.cluster.local"}]}}}
        west.patch_namespaced_service_status("named-door", SYSTEM, status)
        no_network: dict[str, Any] = {
            "metadata": {"labels": dict.fromkeys(network)},
            "spec": {"ports": [*ports, other]},
        }
        west.patch_namespaced_service(GATEWAY, SYSTEM, no_network)
        yield
    finally:
        before = {"metadata": {"labels": network}, "spec": {"ports": ports}}
        west.patch_namespaced_service(GATEWAY, SYSTEM, before)
        west.delete_namespaced_service("named-door", SYSTEM)
        east.delete_namespaced_service("door", "sample")
        slices.delete_namespaced_endpoint_slice("door-1", "sample")


def test_a_gateway_may_be_known_by_a_name_and_have_another_port(mesh, until):
    def entered() -> set[int]:
        """The ports at which east's client knocks at west's gateway."""
        host = hosts(mesh, "east").get(mesh.gateway("west"))
        return {host["address"]["socket_address"]["port_value"]} if host else set()

    with entered_by_a_name_at_another_port(mesh):
        until("east's client calls west at the name's address and the other port", lambda: entered() == {16443})
        answers = Counter(answer.get("version") or answer["error"] for answer in mesh.ask("east", 40))
        assert set(answers) == {"v1", "v2"}, dict(answers)
    until("at the usual one again", lambda: entered() == {15443})


def test_an_endpoint_of_one_cluster_is_known_to_every_control_plane(mesh, until):
    """West's Pods, as a proxy of each control plane has them: by their addresses in west, as so much more of west's gateway in east."""

    def known() -> tuple[int, int]:
        own = {pod["ip"] for pod in mesh.pods("west", "helloworld")}
        far = hosts(mesh, "east").get(mesh.gateway("west"))
        return len(own & hosts(mesh, "west").keys()), far["weight"] if far else 0

    until("one, to both", lambda: known() == (1, 1))
    with mesh.scaled("west", "helloworld-v2", 3):
        until("three, to both", lambda: known() == (3, 3))
    until("one again, to both", lambda: known() == (1, 1))


@contextmanager
def mesh_config(mesh, cluster: str, text: str) -> Iterator[None]:
    core = mesh.core(cluster)
    core.create_namespaced_config_map(SYSTEM, {"metadata": {"name": "istio"}, "data": {"mesh": text}})
    try:
        yield
    finally:
        core.delete_namespaced_config_map("istio", SYSTEM)


def test_a_service_that_is_cluster_local_is_answered_in_the_callers_cluster_alone(mesh, until):
    """As east's MeshConfig says; west's says nothing, and goes on to call both."""
    local = "serviceSettings: [{settings: {clusterLocal: true}, hosts: [helloworld.sample.svc.cluster.local]}]"

    def answered(cluster: str) -> set[str]:
        return {answer.get("cluster") or answer["error"] for answer in mesh.ask(cluster, 40)}

    with mesh_config(mesh, "east", local):
        until("east keeps to itself", lambda: mesh.gateway("west") not in hosts(mesh, "east"))
        assert answered("east") == {"east"}
        assert answered("west") == {"east", "west"}
    until("east calls both again", lambda: answered("east") == {"east", "west"})


def tcp_entry(name: str, address: str, port: int) -> dict[str, Any]:
    """A host without an address, on a port that others have, too."""
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": name, "namespace": "sample"},
        "spec": {
            "hosts": [f"{name}.example"],
            "ports": [{"number": 9999, "name": "tcp", "protocol": "TCP", "targetPort": port}],
            "resolution": "STATIC",
            "endpoints": [{"address": address}],
        },
    }


GREETING = """
import socket, sys
for name in sys.argv[1:]:
    try:
        with socket.create_connection((name, 9999), timeout=5) as connection:
            connection.sendall(b"hello\\n")
            print(socket.gethostbyname(name), connection.makefile().readline().strip())
    except OSError as error:
        print("failed", error)
"""


def test_two_names_without_an_address_and_with_the_same_port_lead_to_two_places(mesh, until):
    """TCP has no name in it: by the address that each was given alone can the caller's sidecar tell them apart."""
    [echo] = mesh.pods("east", "tcp-echo")
    with (
        mesh.applied("east", tcp_entry("echoing", echo["ip"], 9000)),
        mesh.applied("east", tcp_entry("greeting", echo["ip"], 9001)),
    ):
        first, second = until(
            "both answer",
            lambda: (
                (said := mesh.python("east", GREETING, "echoing.example", "greeting.example").splitlines())
                and not any(line.startswith("failed") for line in said)
                and said
            ),
        )
    print(f"echoing.example: {first}; greeting.example: {second}")
    assert first.startswith("240.240.")
    assert second.startswith("240.240.")
    assert first.split()[0] != second.split()[0]
    assert (first.split()[1], first.split()[-1]) == ("v1", "hello"), "the port that echoes"
    assert "welcome to v1" in second, "the port at which the server speaks first"


@contextmanager
def helloworld_at(mesh, node: str, version: str, **labelled: str) -> Iterator[str]:
    """One helloworld on a node of east's, with a sidecar."""
    variables = [{"name": "SERVICE_VERSION", "value": version}, {"name": "CLUSTER_ID", "value": "east"}]
    container = {
        "name": "helloworld",
        "image": "isthmus/helloworld",
        "env": variables,
        "ports": [{"containerPort": 5000}],
    }
    labels = {"app": "helloworld", "version": version} | labelled
    there = {"kubernetes.io/hostname": node}
    spec = {"nodeSelector": there, "serviceAccountName": "helloworld", "containers": [container]}
    core = mesh.core("east")
    core.create_namespaced_pod("sample", {"metadata": {"name": version, "labels": labels}, "spec": spec})
    try:
        yield version
    finally:
        if any(pod["name"] == version for pod in mesh.pods("east", "helloworld")):
            core.delete_namespaced_pod(version, "sample")


def test_zone_by_zone_and_then_to_the_other_region_without_a_failed_request(mesh, until):
    """First the caller's own zone, without it another zone of the region, without that the other region."""
    core = mesh.core("east")
    zones = {node.metadata.name: node.metadata.labels["topology.kubernetes.io/zone"] for node in core.list_node().items}
    [client] = mesh.pods("east", "client")
    own_zone = client["node"]
    other_zone = next(name for name, zone in zones.items() if zone != zones[own_zone])
    by_locality = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": {"name": "near", "namespace": "sample"},
        "spec": {"host": "helloworld", "trafficPolicy": {"outlierDetection": {}}},
    }
    seen: list[str] = []

    def answering() -> set[str]:
        found = [answer.get("version") or answer["error"] for answer in mesh.ask("east", 30)]
        seen.extend(found)
        return set(found)

    with (
        mesh.scaled("east", "helloworld-v1", 0),
        helloworld_at(mesh, own_zone, "own-zone"),
        helloworld_at(mesh, other_zone, "other-zone"),
        mesh.applied("east", by_locality),
    ):
        until("both are ready", lambda: [pod["ready"] for pod in mesh.pods("east", "helloworld")] == ["2/2", "2/2"])
        until("the own zone answers alone", lambda: answering() == {"own-zone"})
        del seen[:-1]
        core.delete_namespaced_pod("own-zone", "sample")
        until("the other zone answers alone", lambda: answering() == {"other-zone"})
        core.delete_namespaced_pod("other-zone", "sample")
        until("the other region answers alone", lambda: answering() == {"v2"})

    until("the two are gone", lambda: len(mesh.pods("east", "helloworld")) == 1)
    assert set(seen) == {"own-zone", "other-zone", "v2"}, "none failed"
    assert seen == sorted(seen, key=["own-zone", "other-zone", "v2"].index), "none went farther than it had to"


def test_a_pod_may_be_on_another_network_than_its_cluster(mesh, until):
    """Neither follows from the other: east's Pod that says n2 is called directly by west's client, and by east's through n2's gateway."""
    [node, *_] = mesh.core("east").list_node().items

    def told(cluster: str) -> dict[str, int]:
        return {address: host["weight"] for address, host in hosts(mesh, cluster).items()}

    with helloworld_at(mesh, node.metadata.name, "elsewhere", **{"topology.istio.io/network": "n2"}):
        until("it is ready", lambda: [pod["ready"] for pod in mesh.pods("east", "helloworld")] == ["2/2"] * 2)
        [ip] = [pod["ip"] for pod in mesh.pods("east", "helloworld") if pod["name"] == "elsewhere"]
        until("west's client has its own address", lambda: ip in told("west"))
        until("east's has it behind n2's gateway", lambda: told("east").get(mesh.gateway("west")) == 2)
        assert ip not in told("east")
    until("it is gone", lambda: ip not in told("west") and told("east").get(mesh.gateway("west")) == 1)
    until("its Pod, too", lambda: len(mesh.pods("east", "helloworld")) == 1)
