"""A cluster that nothing can reach is called through the tunnel that it has dialled; the tunnel breaks, and heals."""

from __future__ import annotations

import time

import pytest

from isthmus.localruntime.traffic import run_inside

pytestmark = pytest.mark.live

CONNECT = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=2).close()
    print("reached")
except OSError as error:
    print("refused")
"""
CLIENT, SERVER = (f"spiffe://cluster.local/ns/sample/sa/{name}" for name in ("client", "helloworld"))


@pytest.fixture(scope="module")
def mesh(guided):
    return guided("reverse-tunnel")


def vault_answers(mesh) -> list[dict[str, str]]:
    return [answer for answer in mesh.ask("east", 10) if answer.get("cluster") == "vault"]


def test_nothing_reaches_the_cluster_and_its_services_are_called_with_mutual_tls_from_end_to_end(mesh, until):
    answers = until("vault answers", lambda: vault_answers(mesh))

    gateways = mesh.cluster("vault")["gateways"]
    direct = run_inside(
        mesh.client, ("east", "istio-system", "istiod"), ["python3", "-c", CONNECT, "172.30.0.12", "6443"]
    )
    print(
        f"\nvault's API server, asked directly: {direct.stdout}; its load balancers: {gateways}; by the tunnel: {answers[0]}"
    )
    assert (direct.stdout.strip(), gateways) == ("refused", [])
    assert {(answer["caller"], answer["self"]) for answer in answers} == {(CLIENT, SERVER)}


def test_east_s_control_plane_reads_it_through_the_tunnel(mesh, until):
    rows = until(
        "vault is read",
        lambda: [
            r for r in mesh.client.control_plane("east", "debug/clusterz") if (r["id"], r["state"]) == ("vault", "live")
        ],
    )

    assert rows[0]["server"] == "https://172.30.1.152:6443"


@pytest.mark.parametrize(("cluster", "pod"), [("vault", "istio-tunnel"), ("east", "istio-tunnel-vault")])
def test_when_an_end_dies_others_answer_and_it_heals(mesh, until, figure, cluster, pod):
    until("vault answers", lambda: vault_answers(mesh))

    with mesh.load("east") as load:
        mesh.kill(mesh.container_pid(cluster, "istio-system", pod, "tunnel"))
        began = time.monotonic()
        until("vault answers again", lambda: vault_answers(mesh))
        seconds = time.monotonic() - began
        load.goes_on(50)

    figure(f"the end in {cluster} killed: vault answers again after {seconds:.1f} s; {load.summary}")
    assert load.summary.failed == 0
