"""The ports that proxies and agents connect to, over the transport that the settings choose."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import grpc
import grpc.aio

from isthmus.controlplane.settings import AdsTransport
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
    pems: tuple[str, str, str],
    directory: Directory,
    unary: Mapping[str, Unary],
    streams: Streams,
) -> AsyncIterator[dict[ClientCertificate, int]]:
    """Serves while the block runs; gives the ports. `pems` are our chain, its key, and the roots that clients are checked against."""
    serve = {AdsTransport.NATIVE: _native, AdsTransport.GRPC: _grpc}[transport]
    async with serve(addresses, pems, directory, unary, streams) as ports:
        yield ports


@asynccontextmanager
async def _native(
    addresses: Mapping[ClientCertificate, tuple[str, int]],
    pems: tuple[str, str, str],
    directory: Directory,
    unary: Mapping[str, Unary],
    streams: Streams,
) -> AsyncIterator[dict[ClientCertificate, int]]:
    chain, key, roots = pems
    async with native_server(directory, unary, streams, grace=_GRACE_SECONDS) as server:
        yield {
            client: server.listen(
                host, port, server_context(chain_pem=chain, key_pem=key, roots_pem=roots, client=client)
            )
            for client, (host, port) in addresses.items()
        }


@asynccontextmanager
async def _grpc(
    addresses: Mapping[ClientCertificate, tuple[str, int]],
    pems: tuple[str, str, str],
    directory: Directory,
    unary: Mapping[str, Unary],
    streams: Streams,
) -> AsyncIterator[dict[ClientCertificate, int]]:
    """gRPC's Python server can demand a certificate or not ask for one: where it would be welcome, it is not asked for."""
    chain, key, roots = (pem.encode() for pem in pems)
    servers = []
    ports = {}
    for client, (host, port) in addresses.items():
        demanded = client is ClientCertificate.DEMANDED
        server = grpc.aio.server(options=list(SERVER_OPTIONS))
        AdsServer(directory, streams).add_to(server)
        add_unary(server, unary)
        ports[client] = server.add_secure_port(
            f"{host}:{port}",
            grpc.ssl_server_credentials([(key, chain)], roots if demanded else None, require_client_auth=demanded),
        )
        await server.start()
        servers.append(server)
    try:
        yield ports
    finally:
        for server in servers:
            await server.stop(grace=_GRACE_SECONDS)
