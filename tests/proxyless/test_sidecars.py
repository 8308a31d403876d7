"""gRPC without a proxy on one side, an application behind a real Envoy on the other: mutual TLS in both directions, within a network and
through a network gateway.
"""

from __future__ import annotations

import pytest
from free_ports import free_port
from proxyless_mesh import HOST, echo, istio, mesh_of, pod, way_into

CLIENT = "spiffe://cluster.local/ns/ns/sa/client-account"
STRICT = istio("PeerAuthentication", "default", "security", mtls={"mode": "STRICT"})


def lets_in(port: int, application: int) -> dict:
    """The server's Sidecar: it listens itself, because nothing is captured here."""
    return istio(
        "Sidecar", "server", "networking", workloadSelector={"labels": {"app": "server"}},
        ingress=[{
            "port": {"number": port, "protocol": "GRPC", "name": "grpc"}, "bind": "127.0.0.1", "captureMode": "NONE",
            "defaultEndpoint": f"127.0.0.1:{application}",
        }],
    )  # fmt: skip


def calls_out(port: int) -> dict:
    """The client's Sidecar, likewise."""
    return istio(
        "Sidecar", "client", "networking", workloadSelector={"labels": {"app": "client"}},
        egress=[{
            "port": {"number": port, "protocol": "GRPC", "name": "grpc"}, "bind": "127.0.0.1", "captureMode": "NONE",
            "hosts": ["./*"],
        }],
    )  # fmt: skip


@pytest.mark.parametrize("network", ["n1", "n2"])
async def test_a_client_without_a_proxy_calls_a_server_with_a_sidecar(tmp_path, network):
    """The sidecar tells its application who called: what the client has proved, also by way of n2's gateway."""
    port, application, entrance = free_port(), free_port(), free_port()
    objects = [
        pod("server", "127.0.0.1", "server-account", network), *echo(("server", "127.0.0.1", port)), STRICT,
        lets_in(port, application),
    ]  # fmt: skip
    async with mesh_of(tmp_path, *objects, *way_into("n2", entrance)) as mesh:
        await mesh.serve_plainly(f"127.0.0.1:{application}")
        await mesh.sidecar("server", "127.0.0.1", "server-account", network)
        await mesh.gateway("n2")

        answers = await mesh.call(f"xds:///{HOST}:80", 3, mesh.bootstrap("client", "10.0.0.9", "client-account", "n1"))

    assert {answer.partition(" ")[0] for answer in answers} == {f"127.0.0.1:{application}"}
    assert all(f"URI={CLIENT}" in answer for answer in answers)


@pytest.mark.parametrize("network", ["n1", "n2"])
async def test_a_client_with_a_sidecar_calls_a_server_without_a_proxy(tmp_path, network):
    """The server asks for the caller's certificate itself, and is shown the sidecar's."""
    port, called_at, entrance = free_port(), free_port(), free_port()
    objects = [
        pod("server", "127.0.0.1", "server-account", network), pod("client", "127.0.0.2", "client-account", "n1"),
        *echo(("server", "127.0.0.1", port), called_at=called_at), STRICT, calls_out(called_at),
    ]  # fmt: skip
    async with mesh_of(tmp_path, *objects, *way_into("n2", entrance)) as mesh:
        await mesh.serve(f"127.0.0.1:{port}", mesh.bootstrap("server", "127.0.0.1", "server-account", network))
        await mesh.sidecar("client", "127.0.0.2", "client-account", "n1")
        await mesh.gateway("n2")

        answers = await mesh.call_plainly(f"127.0.0.1:{called_at}", 3)

    assert answers == [f"127.0.0.1:{port} {CLIENT}"] * 3


async def test_a_stranger_is_shown_out_by_the_sidecar_of_a_server(tmp_path):
    """Whoever proves nothing: gRPC in plaintext, on the port that takes mutual TLS alone."""
    port, application = free_port(), free_port()
    objects = [
        pod("server", "127.0.0.1", "server-account", "n1"), *echo(("server", "127.0.0.1", port)), STRICT,
        lets_in(port, application),
    ]  # fmt: skip
    async with mesh_of(tmp_path, *objects) as mesh:
        await mesh.serve_plainly(f"127.0.0.1:{application}")
        await mesh.sidecar("server", "127.0.0.1", "server-account", "n1")
        known = await mesh.call(f"xds:///{HOST}:80", 1, mesh.bootstrap("client", "10.0.0.9", "client-account", "n1"))

        stranger = await mesh.call_plainly(f"127.0.0.1:{port}", 1, patience=3)

    assert CLIENT in known[0]
    assert stranger in (["UNAVAILABLE"], ["DEADLINE_EXCEEDED"])
