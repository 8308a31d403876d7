"""A machine's kit: what is written for it, what its agent makes of it, and every mistake in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from isthmus.agent.capture import ByMark, rules
from isthmus.agent.machine import KitTexts, MachineAgent, machine_agent
from isthmus.agent.pod import BadPod, PodPaths
from isthmus.agent.proxy import node_of
from isthmus.installation.machine_kit import (
    ENVIRONMENT,
    MESH,
    ROOTS,
    TOKEN,
    KitOrder,
    NoKit,
    kit_files,
    settings_of,
    ways_to_control_plane,
)

PATHS = PodPaths(
    token=Path("/kit/istio-token"), roots=Path("/kit/root-cert.pem"), labels=Path("/kit/labels"),
    directory=Path("/state/proxy"), resolv_conf=Path("/etc/resolv.conf"),
)  # fmt: skip
GROUP = {
    "metadata": {"name": "ledger", "namespace": "bank"},
    "spec": {
        "template": {"serviceAccount": "clerk", "labels": {"app": "ledger", "note": "it's"}},
        "probe": {"httpGet": {"path": "/health", "port": 8080}, "periodSeconds": 2},
    },
}
ORDER = {
    "cluster": "east", "mesh": "m1", "trust_domain": "bank.example", "network": "n1",
    "control_planes": ["172.30.1.240:15012", "172.30.2.240:15012"], "token": "T", "roots_pem": "R",
}  # fmt: skip


def order(**other: Any) -> KitOrder:
    return KitOrder(**(ORDER | other))


def agent(files: dict[str, str], resolv_conf: str = "nameserver 10.9.9.9\n") -> MachineAgent:
    texts = KitTexts(files[ENVIRONMENT], files[MESH], resolv_conf)
    return machine_agent(texts, PATHS, name="vm-1", address="10.0.0.9", state="/state/last-good")


def test_what_a_kit_says_is_what_the_agent_knows():
    files = kit_files(GROUP, order())

    made = agent(files)

    proxy, settings = made.pod.proxy, made.pod.settings
    assert (files[TOKEN], files[ROOTS]) == ("T", "R")
    assert (proxy.namespace, proxy.name, proxy.service_account, proxy.ip) == ("bank", "vm-1", "clerk", "10.0.0.9")
    assert (proxy.network, proxy.labels, proxy.workload_name) == ("n1", {"app": "ledger", "note": "it's"}, "ledger")
    assert (proxy.marks_sockets, proxy.dns_capture, proxy.name_servers) == (True, True, ["10.9.9.9"])
    assert settings.control_planes == ["172.30.1.240:15012", "172.30.2.240:15012"]
    assert (settings.cluster_id, settings.mesh_id, settings.trust_domain) == ("east", "m1", "bank.example")
    assert (settings.proves_by_certificate, settings.last_good) == (True, "/state/last-good")
    assert made.probe == GROUP["spec"]["probe"]
    metadata = node_of(proxy, settings)["metadata"]
    assert metadata["AUTO_REGISTER_GROUP"] == "ledger"
    assert metadata["PROXY_CONFIG"]["readinessProbe"] == GROUP["spec"]["probe"]


def test_a_kit_of_istio_s_own_says_the_same():
    """As `istioctl x workload entry configure` writes it (its documentation, "Virtual Machine Installation")."""
    files = {
        ENVIRONMENT: "CANONICAL_REVISION='latest'\nISTIO_META_AUTO_REGISTER_GROUP='ledger'\nISTIO_META_CLUSTER_ID='east'\n"
        "ISTIO_NAMESPACE='bank'\nPOD_NAMESPACE='bank'\nSERVICE_ACCOUNT='clerk'\nTRUST_DOMAIN='cluster.local'\n",
        MESH: "defaultConfig:\n  discoveryAddress: istiod.istio-system.svc:15012\n  meshId: m1\n"
        "  proxyMetadata:\n    ISTIO_META_NETWORK: n2\n    ISTIO_META_DNS_CAPTURE: 'true'\n",
    }

    made = agent(files)

    assert made.pod.settings.control_planes == ["istiod.istio-system.svc:15012"]
    assert (made.pod.proxy.network, made.pod.settings.mesh_id, made.probe) == ("n2", "m1", {})


def probe(said: str) -> str:
    return f"defaultConfig: {{readinessProbe: {said}}}"


def test_the_agent_s_own_connections_and_its_resolver_s_are_not_led_back_to_it():
    made = agent(kit_files(GROUP, order()))

    text = rules(ByMark(), made.capture, dns=True, name_servers=made.pod.proxy.name_servers)

    assert "tcp dport { 15012 } return" in text
    assert "tcp dport { 22, 15090, 15021, 15020 } return" in text
    assert [line.strip() for line in text.splitlines() if "15053" in line] == [
        "udp dport 53 ip daddr { 10.9.9.9 } redirect to :15053",
        "tcp dport 53 ip daddr { 10.9.9.9 } redirect to :15053",
    ]


@pytest.mark.parametrize(
    ("environment", "mesh", "why"),
    [
        ("", "", "cluster.env: POD_NAMESPACE is not set"),
        ("POD_NAMESPACE='bank", "", "cluster.env: line 1: No closing quotation"),
        ("what is this", "", "cluster.env: line 1: 'what' is not NAME=VALUE"),
        ("POD_NAMESPACE=bank", "a: [", "mesh.yaml: while parsing"),
        ("POD_NAMESPACE=bank", "defaultConfig: 7", "mesh.yaml: has no defaultConfig with fields"),
        (
            "POD_NAMESPACE=bank",
            "defaultConfig: {discoveryAddress: nowhere}",
            "'nowhere' is not host:port",
        ),
        (
            "POD_NAMESPACE=bank\nISTIO_METAJSON_LABELS='7'",
            "",
            "ISTIO_METAJSON_LABELS: is not an object of labels",
        ),
        ("POD_NAMESPACE=bank", "defaultConfig: {proxyMetadata: [a]}", "defaultConfig.proxyMetadata has no fields"),
        ("POD_NAMESPACE=bank", "defaultConfig: {readinessProbe: [a]}", "defaultConfig.readinessProbe has no fields"),
        ("POD_NAMESPACE=bank", probe("{exec: {command: null}}"), r"array.*null.*exec.command"),
        ("POD_NAMESPACE=bank", probe("{exec: {command: []}}"), r"length >= 1.*exec.command"),
        ("POD_NAMESPACE=bank", probe("{httpGet: {port: http}}"), r"int.*str.*httpGet.port"),
        ("POD_NAMESPACE=bank", probe("{httpGet: {port: 80, httpHeaders: [a]}}"), r"httpGet.httpHeaders\[0\]"),
        ("POD_NAMESPACE=bank", probe("{tcpSocket: {port: 80}, periodSeconds: 10s}"), r"int.*str.*periodSeconds"),
        ("POD_NAMESPACE=bank", probe("{tcpSocket: {port: 80}, periodSeconds: -1}"), "int.*>= 0.*periodSeconds"),
        ("POD_NAMESPACE=bank", probe("{tcpSocket: {port: 80}, grpc: {port: 81}}"), "readinessProbe: it needs one way"),
        ("POD_NAMESPACE=bank", probe("{periodSeconds: 2, exec: null}"), "readinessProbe: it needs one way to ask"),
    ],
)
def test_what_is_wrong_with_a_kit_is_told_with_its_file(environment, mesh, why):
    with pytest.raises(BadPod, match=why):
        agent({ENVIRONMENT: environment, MESH: mesh})


@pytest.mark.parametrize(
    ("missing", "why"), [({"control_planes": []}, "no control plane"), ({"roots_pem": ""}, "roots are not published")]
)
def test_no_kit_is_better_than_half_of_one(missing, why):
    with pytest.raises(NoKit, match=why):
        kit_files(GROUP, order(**missing))


def test_a_machine_without_registration_names_no_group():
    assert "AUTO_REGISTER_GROUP" not in kit_files(GROUP, order(registers_itself=False))[ENVIRONMENT]


def test_control_planes_are_found_at_gateways_first():
    def service(name: str, port: int, ip: str, kind: str = "LoadBalancer") -> dict[str, Any]:
        return {
            "metadata": {"labels": {"app": name}},
            "spec": {"type": kind, "ports": [{"port": port}]},
            "status": {"loadBalancer": {"ingress": [{"ip": ip}]}},
        }

    found = ways_to_control_plane(
        [
            service("istiod", 15012, "1.1.1.1"),
            service("istio-eastwestgateway", 15012, "2.2.2.2"),
            service("istio-ingressgateway", 443, "3.3.3.3"),
            service("istiod", 15012, "4.4.4.4", kind="ClusterIP"),
        ],
        15012,
    )

    assert found == ["2.2.2.2:15012", "1.1.1.1:15012"]


def test_the_mesh_is_what_the_control_plane_s_deployment_says():
    env = [{"name": "CLUSTER_ID", "value": "east"}, {"name": "POD_NAME", "valueFrom": {}}]

    assert settings_of({"spec": {"template": {"spec": {"containers": [{"env": env}]}}}}) == {"CLUSTER_ID": "east"}
