"""Whom gRPC without a proxy believes when it knows another trust domain: each authority for its own trust domain alone."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from forged_certificates import forged
from free_ports import free_port
from proxyless_mesh import HOST, Mesh, echo, mesh_of, pod

from isthmus.envoy.bundles import Bundles
from isthmus.model.identity import TrustDomain
from isthmus.trust import x509

PARTNER = TrustDomain.parse("partner.example")
THEIRS = x509.new_root(PARTNER, datetime.now(UTC), timedelta(days=1))
LOCAL, FOREIGN = "spiffe://cluster.local/ns/ns/sa/server-account", "spiffe://partner.example/ns/ns/sa/x"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
SETTINGS = 4
SECONDS = 60


def peers() -> Bundles:
    return {PARTNER: x509.to_der(x509.certificate_pem(THEIRS.certificate))}


NAMES = {
    "ours": ("cluster.local", (LOCAL,)),
    "theirs, with a name of ours": ("partner.example", (LOCAL,)),
    "ours, with a name of theirs": ("cluster.local", (FOREIGN,)),
    "theirs, a name of theirs and then of ours": ("partner.example", (FOREIGN, LOCAL)),
    "theirs, a name of ours and then of theirs": ("partner.example", (LOCAL, FOREIGN)),
    "ours, a name of ours and then of theirs": ("cluster.local", (LOCAL, FOREIGN)),
    "ours, without a name": ("cluster.local", ()),
}
"""Who signs it, and the URI names in it."""


def shown_in(mesh: Mesh) -> dict[str, tuple[str, str]]:
    authorities = {"cluster.local": mesh.authority.issuer, "partner.example": THEIRS}
    return {name: forged(authorities[domain], *uris) for name, (domain, uris) in NAMES.items()}


def context(purpose: int, pair: tuple[str, str], folder: Path) -> ssl.SSLContext:
    file = folder / "shown.pem"
    file.write_text("".join(pair))
    found = ssl.SSLContext(purpose)
    found.check_hostname, found.verify_mode = False, ssl.CERT_NONE
    found.set_alpn_protocols(["h2"])
    found.load_cert_chain(file)
    return found


async def taken_by_server(port: int, secured: ssl.SSLContext) -> bool:
    """Whether a caller gets as far as HTTP/2."""
    try:
        async with asyncio.timeout(SECONDS):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=secured)
            writer.write(PREFACE)
            header = await reader.read(9)
            writer.close()
            return len(header) == 9 and header[3] == SETTINGS
    except OSError:
        return False


def serving(port: int) -> list[dict]:
    return [pod("server", "127.0.0.1", "server-account", "n1"), *echo(("server", "127.0.0.1", port))]


async def test_a_server_takes_callers_of_both_trust_domains_and_no_forged_one(tmp_path: Path) -> None:
    port = free_port()
    async with mesh_of(tmp_path, *serving(port)) as mesh:
        await mesh.serve(f"127.0.0.1:{port}", mesh.bootstrap("server", "127.0.0.1", "server-account", "n1", peers()))
        assert await mesh.call(f"xds:///{HOST}:80", 1, mesh.bootstrap("client", "10.0.0.9", "client", "n1"))
        shown = shown_in(mesh) | {"theirs": forged(THEIRS, FOREIGN)}
        contexts = {name: context(ssl.PROTOCOL_TLS_CLIENT, pair, tmp_path) for name, pair in shown.items()}

        taken = [name for name, secured in contexts.items() if await taken_by_server(port, secured)]

    assert taken == ["ours", "theirs"]


async def test_a_client_calls_no_server_whose_identity_is_forged(tmp_path: Path) -> None:
    """One service, with an endpoint for each certificate."""
    called: set[str] = set()
    ports = {name: free_port() for name in NAMES}
    pods = [pod(f"server-{port}", "127.0.0.1", "server-account", "n1") for port in ports.values()]
    endpoints = [(f"server-{port}", "127.0.0.1", port) for port in ports.values()]
    async with mesh_of(tmp_path, *pods, *echo(*endpoints)) as mesh:
        for name, pair in shown_in(mesh).items():
            await listen(mesh, name, ports[name], context(ssl.PROTOCOL_TLS_SERVER, pair, tmp_path), called)
        client = mesh.bootstrap("client", "10.0.0.9", "client-account", "n1", peers())

        await mesh.call(f"xds:///{HOST}:80", 1, client, patience=10)

    assert called == {"ours"}


async def listen(mesh: Mesh, name: str, port: int, secured: ssl.SSLContext, called: set[str]) -> None:
    """Notes who is told anything, and says no more."""

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.read(100):
            called.add(name)
        writer.close()

    server = await asyncio.start_server(hear, "127.0.0.1", port, ssl=secured)
    mesh.running.callback(server.close)


async def test_without_its_switch_grpc_believes_nobody(tmp_path: Path) -> None:
    """A map of bundles is all that it is given, and without the switch it does not read it."""
    port = free_port()
    async with mesh_of(tmp_path, *serving(port)) as mesh:
        await mesh.serve(f"127.0.0.1:{port}", mesh.bootstrap("server", "127.0.0.1", "server-account", "n1", peers()))
        good = mesh.bootstrap("good", "10.0.0.9", "client", "n1", peers())
        assert "UNAVAILABLE" not in await mesh.call(f"xds:///{HOST}:80", 1, good)
        forgetful = mesh.bootstrap("forgetful", "10.0.0.8", "client", "n1", peers())

        answers = await mesh.call(
            f"xds:///{HOST}:80", 1, forgetful | {"GRPC_EXPERIMENTAL_XDS_MTLS_SPIFFE": "false"}, patience=5
        )

    assert answers in (["UNAVAILABLE"], ["DEADLINE_EXCEEDED"])
