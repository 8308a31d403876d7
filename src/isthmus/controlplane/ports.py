"""The ports that proxies and agents connect to, over the transport that the settings choose."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from isthmus.controlplane.settings import AdsTransport
from isthmus.controlplane.shown import Credentials, Shown
from isthmus.trust.messages import METHOD, SERVICE
from isthmus.trust.registration import Refused as CertificateRefused
from isthmus.trust.server import CertificateService
from isthmus.xds.directory import GRACE_SECONDS, CallFacts, Directory, Refused, Streams, Unary
from isthmus.xds.native_server import native_server
from isthmus.xds.native_tls import ClientCertificate, server_context

TOKEN_PORT = 15012
"""Callers prove who they are with a token; on the native transport also with a client certificate. What Istio's agents expect."""

MUTUAL_TLS_PORT = 15013
"""TLS with a client certificate demanded."""


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
    async with _server(transport)(addresses, shown, directory, unary, streams) as ports:
        yield ports


def _server(transport: AdsTransport) -> Callable[..., AbstractAsyncContextManager[dict[ClientCertificate, int]]]:
    """gRPC is loaded by those who want it: it takes 8 MB (measured)."""
    if transport is AdsTransport.NATIVE:
        return _native
    from isthmus.controlplane.grpc_ports import grpc_ports

    return grpc_ports


@asynccontextmanager
async def _native(
    addresses: Mapping[ClientCertificate, tuple[str, int]],
    shown: Shown,
    directory: Directory,
    unary: Mapping[str, Unary],
    streams: Streams,
) -> AsyncIterator[dict[ClientCertificate, int]]:
    async with native_server(directory, unary, streams, grace=GRACE_SECONDS) as server:
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
        crl_pem=credentials.crl_pem,
        client=client,
    )
