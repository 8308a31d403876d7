"""The same ports over gRPC's own server, for who chooses it.

Its Python server takes no revocation lists: whoever is on one gets through the handshake, and is refused with each call.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial

import grpc
import grpc.aio
import structlog

from isthmus.controlplane.shown import Shown
from isthmus.trust import x509
from isthmus.xds.directory import GRACE_SECONDS, CallFacts, Directory, Newest, Refused, Streams, Unary
from isthmus.xds.health import HealthReport
from isthmus.xds.native_tls import ClientCertificate
from isthmus.xds.node import NodeClaims
from isthmus.xds.server import SERVER_OPTIONS, AdsServer, add_unary

log = structlog.get_logger()


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
        AdsServer(_Unrevoked(directory, shown), streams).add_to(server)
        add_unary(server, {path: _unrevoked(method, shown) for path, method in unary.items()})
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


class _Unrevoked:
    """A directory, for callers on no revocation list."""

    def __init__(self, directory: Directory, shown: Shown) -> None:
        self._directory, self._shown = directory, shown

    async def admit(self, claims: NodeClaims, call: CallFacts) -> Newest:
        _check(call, self._shown)
        return await self._directory.admit(claims, call)

    def gone(self, feed: Newest) -> None:
        self._directory.gone(feed)

    def told(self, feed: Newest, health: HealthReport) -> None:
        self._directory.told(feed, health)

    def leaves(self, feed: Newest) -> None:
        self._directory.leaves(feed)


def _unrevoked(method: Unary, shown: Shown) -> Unary:
    async def answer(request: bytes, call: CallFacts) -> bytes:
        _check(call, shown)
        return await method(request, call)

    return answer


def _check(call: CallFacts, shown: Shown) -> None:
    """Raises Refused."""
    roots, lists = shown.current.roots_pem, shown.current.crl_pem
    if not lists or not call.peer_certificate:
        return
    try:
        x509.check_not_revoked(call.peer_certificate, roots, lists, datetime.now(UTC))
    except x509.BadCertificate as error:
        log.warning("caller refused", reason=str(error), peer=call.peer)
        raise Refused("UNAUTHENTICATED", "the certificate is not accepted") from None


def _configuration(shown: Shown, *, demanded: bool) -> grpc.ServerCertificateConfiguration:
    serving, roots = shown.current.serving, shown.current.roots_pem
    return grpc.ssl_server_certificate_configuration(
        [(serving.key_pem.encode(), serving.chain_pem.encode())], roots.encode() if demanded else None
    )
