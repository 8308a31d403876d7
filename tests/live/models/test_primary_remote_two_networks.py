"""A remote on another network: configuration and certificates come through the primary's gateway."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.live

ALL = {"client", "helloworld", "istio"}
PASSED = "tcp.outbound|15013||istiod.istio-system.svc.cluster.local;.downstream_cx_rx_bytes_total"

PLAIN = """
import socket, ssl, sys
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
connection = socket.socket()
connection.settimeout(5)
connection.setsockopt(socket.SOL_SOCKET, 36, 1337)
connection.connect((sys.argv[1], int(sys.argv[3])))
try:
    secure = context.wrap_socket(connection, server_hostname=sys.argv[2])
    print("accepted by", ssl.DER_cert_to_PEM_cert(secure.getpeercert(True)) != "")
except OSError as error:
    print("refused")
"""


@pytest.fixture(scope="module")
def mesh(guided):
    return guided("primary-remote-two-networks")


def test_the_remote_s_proxies_are_connected_through_the_gateway(mesh):
    connected = mesh.control_planes_of("west")

    streams = {name.partition("-")[0] for name in connected["east"]}
    peers = {row["id"]: row["staleSince"] for row in mesh.client.control_plane("east", "debug/clusterz")}
    print(f"connected to east: {sorted(connected['east'])}; east reads {sorted(peers)}")
    assert streams == ALL
    assert mesh.gateway("east") == "172.30.1.240"


@pytest.mark.parametrize("port", ["15012", "15017"])
def test_the_gateway_leads_to_the_control_plane_by_its_name_only(mesh, port):
    """For proxies, and for API servers that ask its webhooks."""
    said = {
        name: mesh.python("west", PLAIN, mesh.gateway("east"), name, port).split()[0]
        for name in ("istiod.istio-system.svc", "kubernetes.default.svc", "helloworld.sample")
    }

    print(f"who asks east's gateway on {port} for … is: {said}")
    assert said == {
        "istiod.istio-system.svc": "accepted",
        "kubernetes.default.svc": "refused",
        "helloworld.sample": "refused",
    }


def test_killing_the_primary_s_gateway_keeps_each_side_going_and_control_comes_back(mesh, until):
    """The only gateway of east: it is the way to helloworld in east, and to the control plane."""
    restarts = mesh.pods("east", "istio-eastwestgateway")[0]["restarts"]
    with mesh.load("west") as load:
        mesh.kill(mesh.container_pid("east", "istio-system", "istio-eastwestgateway", "istio-proxy"))
        until("it was started again", lambda: mesh.pods("east", "istio-eastwestgateway")[0]["restarts"] > restarts)
        until("west is connected again", lambda: len(mesh.control_planes_of("west").get("east", {})) == 3)
        load.goes_on(50)

    print(f"kill -9 of east's only gateway, requests of west: {load.summary}")
    assert load.summary.failed == 0


def test_a_new_pod_of_the_remote_joins(mesh, until):
    mesh.scale("west", "helloworld-v2", 2)

    until("two replicas", lambda: [pod["ready"] for pod in mesh.pods("west", "helloworld")] == ["2/2", "2/2"])
    assert not [answer for answer in mesh.ask("east", 20) if "error" in answer]
