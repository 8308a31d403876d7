"""The texts that the kernel is given, as they are, and judged by the kernel's own tools."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace

import pytest

from isthmus.localruntime.networks import inside_router_commands, router_rules, service_routes, transit_commands
from isthmus.localruntime.plan import ClusterPlan, MeshPlan, NetworkPlan, Role
from isthmus.localruntime.service_routing import Route, routes_of, rules
from isthmus.model.names import ClusterId, MeshId, NetworkId

NETWORK = NetworkPlan(
    id=NetworkId("n1"),
    namespace="net-n1",
    pod_cidr="10.10.0.0/16",
    router_ip="10.10.0.1",
    transit_ip="172.30.0.101",
)
SERVICE = {
    "metadata": {"name": "s", "namespace": "ns"},
    "spec": {"clusterIP": "10.97.0.7", "clusterIPs": ["10.97.0.7"], "ports": [{"name": "http", "port": 80}]},
    "status": {"loadBalancer": {"ingress": [{"ip": "172.30.1.1"}]}},
}


def slice_of(*endpoints: tuple[str, bool]) -> dict:
    return {
        "metadata": {"name": "s-1", "namespace": "ns", "labels": {"kubernetes.io/service-name": "s"}},
        "ports": [{"name": "http", "port": 8080}],
        "endpoints": [{"addresses": [ip], "conditions": {"ready": ready}} for ip, ready in endpoints],
    }


def test_every_address_of_a_service_leads_to_its_ready_endpoints():
    found = routes_of([SERVICE], [slice_of(("10.10.0.5", True), ("10.10.0.6", False), ("10.10.0.4", True))])

    to = (("10.10.0.4", 8080), ("10.10.0.5", 8080))
    assert found == [Route("10.97.0.7", "tcp", 80, to), Route("172.30.1.1", "tcp", 80, to)]


def test_a_service_without_ready_endpoints_is_refused_at_once():
    text = rules(routes_of([SERVICE], [slice_of(("10.10.0.5", False))]))

    assert "ip daddr 10.97.0.7 tcp dport 80 reject" in text
    assert "dnat" not in text


def test_a_router_lets_in_only_what_a_service_translates():
    text = router_rules(NETWORK)

    assert 'iifname "transit" ct status dnat accept' in text
    assert text.index("ct status dnat accept") < text.index('iifname "transit" reject')


def test_into_a_closed_network_nothing_comes_and_its_api_server_is_its_own():
    closed = router_rules(replace(NETWORK, closed=True))
    other = router_rules(NETWORK, ["172.30.0.12"])

    assert "dnat accept" not in closed
    assert 'iifname "transit" reject' in closed
    assert "ip daddr { 172.30.0.12 } reject" in other


def test_api_servers_reach_the_services_of_each_cluster_through_its_networks_router():
    cluster = ClusterPlan(
        id=ClusterId("east"),
        mesh=MeshPlan(id=MeshId("mesh1"), trust_domain="cluster.local"),
        index=1,
        network=NetworkId("n1"),
        api_address="172.30.0.11",
        api_port=6443,
        host_port=0,
        service_cidr="10.97.0.0/16",
        load_balancer_cidr="172.30.1.0/24",
        nodes=(),
        control_planes=(),
        discovers=(),
        manifests=(),
        role=Role.PRIMARY,
        config_cluster="east",
        serves=(),
    )

    assert service_routes((cluster,), {NETWORK.id: NETWORK}) == ["route add 10.97.0.0/16 via 172.30.0.101"]


def test_bridges_have_link_addresses_of_their_own():
    """Otherwise a Pod that comes or goes changes the address that others remember."""
    bridges = [
        line for line in (*transit_commands(()), *inside_router_commands(NETWORK)) if line.endswith("type bridge")
    ]

    assert len(bridges) == 2
    assert all(" address 02:" in line for line in bridges)


@pytest.mark.parametrize(
    "text",
    [
        router_rules(NETWORK),
        rules([]),
        rules(
            [Route("10.97.0.1", "tcp", 80, ()), Route("10.97.0.2", "udp", 53, (("10.10.0.2", 53), ("10.10.0.3", 53)))]
        ),
    ],
)
def test_nft_accepts_it(text):
    inside = ["unshare", "--user", "--map-root-user", "--net"]

    done = subprocess.run(
        [*inside, shutil.which("nft") or "/usr/sbin/nft", "-f", "-"],
        input=text,
        text=True,
        capture_output=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
