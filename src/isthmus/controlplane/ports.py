"""The ports that proxies and agents connect to, over the transport that the settings choose."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial

import grpc
import grpc.aio

from isthmus.controlplane.settings import AdsTransport
from isthmus.controlplane.shown import Credentials, Shown
from isthmus.trust.messages import METHOD, SERVICE
from isthmus.trust.registration import Refused as CertificateRefused
from isthmus.trust.server import CertificateService
from isthmus.xds.directory import CallFacts, Directory, Refused, Streams, Unary
from isthmus.xds.native_server import native_server
from isthmus.xds.native_tls import ClientCertificate, server_context
from isthmus.xds.server import SERVER_OPTIONS, AdsServer, add_unary

TOKEN_PORT = 15012
"""Callers prove who they are with a token; on the native transport also with a client certificate. What Istio's agents expect."""

MUTUAL_TLS_PORT = 15013
"""TLS with a client certificate demanded."""

_GRACE_SECONDS = 0.2


def methods_of(certificates: CertificateService) -> dict[str, Unary]:
    """What is served besides ADS, by path."""

    async def create(request: bytes, call: CallFacts) -> bytes:
        try:
            return await certificates.create(request, call.metadata, call.peer_certificate, call.peer)
        except CertificateRefused as refused:
            raise Refused(refused.code, refused.told) from refused

    return {f"/{SERVICE}/{METHOD}": create}


@asynccontextmanager
async def proxy_ports(
    transport: AdsTransport,
    addresses: Mapping[ClientCertificate, tuple[str, int]],
    shown: Shown,
    directory: Directory,
    unary: Mapping[str, Unary],
    streams: Streams,
) -> AsyncIterator[dict[ClientCertificate, int]]:
    """Serves while the block runs; gives the ports."""
    serve = {AdsTransport.NATIVE: _native, AdsTransport.GRPC: _grpc}[transport]
    async with serve(addresses, shown, directory, unary, streams) as ports:
        yield ports


@asynccontextmanager
async def _native(
    addresses: Mapping[ClientCertificate, tuple[str, int]],
    shown: Shown,
    directory: Directory,
    unary: Mapping[str, Unary],
    streams: Streams,
) -> AsyncIterator[dict[ClientCertificate, int]]:
    async with native_server(directory, unary, streams, grace=_GRACE_SECONDS) as server:
        ports = {
            client: server.listen(host, port, _context(shown.current, client))
            for client, (host, port) in addresses.items()
        }

        def greet(credentials: Credentials) -> None:
            for client, port in ports.items():
                server.greet_with(port, _context(credentials, client))

        shown.changed.append(greet)
        try:
            yield ports
        finally:
            shown.changed.remove(greet)


def _context(credentials: Credentials, client: ClientCertificate) -> ssl.SSLContext:
    return server_context(
        chain_pem=credentials.serving.chain_pem,
        key_pem=credentials.serving.key_pem,
        roots_pem=credentials.roots_pem,
        client=client,
    )


@asynccontextmanager
async def _grpc(
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
            await server.stop(grace=_GRACE_SECONDS)


def _configuration(shown: Shown, *, demanded: bool) -> grpc.ServerCertificateConfiguration:
    serving, roots = shown.current.serving, shown.current.roots_pem
    return grpc.ssl_server_certificate_configuration(
        [(serving.key_pem.encode(), serving.chain_pem.encode())], roots.encode() if demanded else None
    )
