"""Real gRPC clients and servers, given what the mesh has for them: within a network, and through a real network gateway."""

from __future__ import annotations

import json
from pathlib import Path

from free_ports import free_port
from proxyless_mesh import HOST, echo, istio, mesh_of, pod, way_into

from isthmus.assurance.rendering import proxy_in
from isthmus.discovery.view import view_for


async def test_a_client_and_a_server_prove_who_they_are(tmp_path):
    port = free_port()
    objects = [pod("server", "127.0.0.1", "server-account", "n1"), *echo(("server", "127.0.0.1", port))]
    async with mesh_of(tmp_path, *objects) as mesh:
        await mesh.serve(f"127.0.0.1:{port}", mesh.bootstrap("server", "127.0.0.1", "server-account", "n1"))
        client = mesh.bootstrap("client", "10.0.0.9", "client-account", "n1")

        answers = await mesh.call(f"xds:///{HOST}:80", 3, client)
        short = await mesh.call("xds:///echo.ns:80", 1, client)

    assert answers == [f"127.0.0.1:{port} spiffe://cluster.local/ns/ns/sa/client-account"] * 3
    assert short == answers[:1]


async def test_a_server_with_another_accounts_certificate_is_not_called(tmp_path):
    port = free_port()
    objects = [pod("server", "127.0.0.1", "server-account", "n1"), *echo(("server", "127.0.0.1", port))]
    async with mesh_of(tmp_path, *objects) as mesh:
        client = mesh.bootstrap("client", "10.0.0.9", "client-account", "n1")
        other = mesh.bootstrap("other", "127.0.0.1", "other-account", "n1")
        await mesh.serve(f"127.0.0.1:{port}", other)

        impostor = await mesh.call(f"xds:///{HOST}:80", 1, client, patience=5)

    assert impostor in (["UNAVAILABLE"], ["DEADLINE_EXCEEDED"])


async def test_policies_are_asked_by_the_server_itself(tmp_path):
    port = free_port()
    denied = istio(
        "AuthorizationPolicy", "p", "security", action="DENY",
        rules=[{"from": [{"source": {"principals": ["cluster.local/ns/ns/sa/unwanted"]}}]}],
    )  # fmt: skip
    objects = [pod("server", "127.0.0.1", "server-account", "n1"), *echo(("server", "127.0.0.1", port)), denied]
    async with mesh_of(tmp_path, *objects) as mesh:
        await mesh.serve(f"127.0.0.1:{port}", mesh.bootstrap("server", "127.0.0.1", "server-account", "n1"))

        welcome = await mesh.call(f"xds:///{HOST}:80", 1, mesh.bootstrap("a", "10.0.0.9", "wanted", "n1"))
        unwanted = await mesh.call(f"xds:///{HOST}:80", 1, mesh.bootstrap("b", "10.0.0.8", "unwanted", "n1"))

    assert welcome == [f"127.0.0.1:{port} spiffe://cluster.local/ns/ns/sa/wanted"]
    assert unwanted == ["PERMISSION_DENIED"]


async def test_requests_go_where_a_virtual_service_sends_them(tmp_path):
    ports = {name: free_port() for name in ("v1", "v2")}
    pods = [pod(name, "127.0.0.1", "server-account", "n1") for name in ports]
    rules = [
        istio("DestinationRule", "echo", "networking", host="echo", subsets=[{"name": n, "labels": {"app": n}} for n in ports]),
        istio(
            "VirtualService", "echo", "networking", hosts=["echo"],
            http=[{"route": [{"destination": {"host": "echo", "subset": "v2"}}]}],
        ),
    ]  # fmt: skip
    async with mesh_of(tmp_path, *pods, *echo(*((n, "127.0.0.1", port) for n, port in ports.items())), *rules) as mesh:
        for name, port in ports.items():
            await mesh.serve(f"127.0.0.1:{port}", mesh.bootstrap(name, "127.0.0.1", "server-account", "n1"))

        answers = await mesh.call(f"xds:///{HOST}:80", 8, mesh.bootstrap("client", "10.0.0.9", "client", "n1"))

    assert {answer.partition(" ")[0] for answer in answers} == {f"127.0.0.1:{ports['v2']}"}


async def test_another_network_is_reached_through_its_gateway(tmp_path):
    """The gateway holds no key: what the server is shown is the client's own certificate."""
    port, entrance = free_port(), free_port()
    objects = [pod("server", "127.0.0.1", "server-account", "n2"), *echo(("server", "127.0.0.1", port))]
    async with mesh_of(tmp_path, *objects, *way_into("n2", entrance)) as mesh:
        await mesh.serve(f"127.0.0.1:{port}", mesh.bootstrap("server", "127.0.0.1", "server-account", "n2"))
        await mesh.gateway("n2")
        client = mesh.bootstrap("client", "10.0.0.9", "client-account", "n1")
        told = view_for(
            proxy_in(mesh.scenario, json.loads(Path(client["GRPC_XDS_BOOTSTRAP"]).read_text())["node"]),
            mesh.scenario.snapshot(),
        )

        answers = await mesh.call(f"xds:///{HOST}:80", 3, client)

    [upstream] = [each for each in told.outbound.upstreams if each.service.name == "echo"]
    [destination] = upstream.groups[0].destinations
    assert (destination.address, destination.port) == ("127.0.0.1", entrance)
    assert answers == [f"127.0.0.1:{port} spiffe://cluster.local/ns/ns/sa/client-account"] * 3
