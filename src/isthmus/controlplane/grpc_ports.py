"""The same ports over gRPC's own server, for who chooses it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial

import grpc
import grpc.aio

from isthmus.controlplane.shown import Shown
from isthmus.xds.directory import GRACE_SECONDS, Directory, Streams, Unary
from isthmus.xds.native_tls import ClientCertificate
from isthmus.xds.server import SERVER_OPTIONS, AdsServer, add_unary


@asynccontextmanager
async def grpc_ports(
    addresses: Mapping[ClientCertificate, tuple[str, int]],
    shown: Shown,
    directory: Directory,
    unary: Mapping[str, Unary],
    streams: Streams,
) -> AsyncIterator[dict[ClientCertificate, int]]:
    """gRPC's Python server can demand a certificate or not ask for one: where it would be welcome, it is not asked for."""
    servers = []
    ports = {}
    for client, (host, port) in addresses.items():
        demanded = client is ClientCertificate.DEMANDED
        server = grpc.aio.server(options=list(SERVER_OPTIONS))
        AdsServer(directory, streams).add_to(server)
        add_unary(server, unary)
        # gRPC asks for each connection.
        asked = partial(_configuration, shown, demanded=demanded)
        ports[client] = server.add_secure_port(
            f"{host}:{port}",
            grpc.dynamic_ssl_server_credentials(asked(), asked, require_client_authentication=demanded),
        )
        await server.start()
        servers.append(server)
    try:
        yield ports
    finally:
        for server in servers:
            await server.stop(grace=GRACE_SECONDS)


def _configuration(shown: Shown, *, demanded: bool) -> grpc.ServerCertificateConfiguration:
    serving, roots = shown.current.serving, shown.current.roots_pem
    return grpc.ssl_server_certificate_configuration(
        [(serving.key_pem.encode(), serving.chain_pem.encode())], roots.encode() if demanded else None
    )
