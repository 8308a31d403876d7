"""SDS: serves one Envoy its certificate and the bundles it trusts, on a unix socket that is that Envoy's alone.

Who may connect to the socket is the identity: it lies in the proxy's own folder, with mode 0600.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Container, Iterable
from pathlib import Path
from types import MappingProxyType
from typing import Any

import grpc
import grpc.aio
from envoy.service.discovery.v3 import discovery_pb2

from isthmus.agent.certificates import Certificate
from isthmus.envoy.bundles import Bundles
from isthmus.envoy.resources import SECRET, ResourceSet
from isthmus.envoy.secrets import bundle_secret, workload_secret
from isthmus.envoy.tls import domains_named
from isthmus.model.identity import TrustDomain
from isthmus.xds.session import Session

_SERVICE = "envoy.service.secret.v3.SecretDiscoveryService"


class SecretsServer:
    """One proxy's secrets. `put` and `trust` replace them; connected Envoys are told at once."""

    def __init__(self, socket_path: Path) -> None:
        self._path = socket_path
        self._resources: ResourceSet | None = None
        self._certificate: Certificate | None = None
        self._peers: Bundles = {}
        self._asked: dict[str, Container[TrustDomain]] = {}
        """Bundles of some trust domains alone, by name. Which of them are needed, only Envoy knows: they are made when it asks."""
        self._news: set[asyncio.Event] = set()
        self._server: grpc.aio.Server | None = None

    def put(self, certificate: Certificate) -> None:
        """The new certificate. Its own trust domain's roots are trusted for that trust domain alone."""
        self._certificate = certificate
        self._renew()

    def trust(self, peers: Bundles) -> None:
        """Other trust domains' authorities, all of them; those that were trusted before and are not among them are not any longer."""
        self._peers = peers
        self._renew()

    def _renew(self) -> None:
        certificate = self._certificate
        if certificate is None:
            return
        found = [
            workload_secret(certificate.chain_pem, certificate.key_pem),
            bundle_secret(certificate.trusted_with(self._peers)),
            *(bundle_secret(certificate.trusted_among(each, self._peers), name) for name, each in self._asked.items()),
        ]
        secrets = MappingProxyType({secret.name: secret for secret in found})
        self._resources = ResourceSet(MappingProxyType({SECRET: secrets}))
        for news in self._news:
            news.set()

    def _make(self, names: Iterable[str]) -> None:
        """The bundles that are asked for by trust domain, where they are not there yet."""
        new = {name: domains for name in names if name not in self._asked and (domains := domains_named(name))}
        self._asked |= new
        if new:
            self._renew()

    async def start(self) -> None:
        """Listens. Raises OSError if the socket cannot be made."""
        self._path.unlink(missing_ok=True)
        server = grpc.aio.server()
        methods = {
            "StreamSecrets": grpc.stream_stream_rpc_method_handler(
                self._full, request_deserializer=discovery_pb2.DiscoveryRequest.FromString
            ),
            "DeltaSecrets": grpc.stream_stream_rpc_method_handler(
                self._delta, request_deserializer=discovery_pb2.DeltaDiscoveryRequest.FromString
            ),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, methods),))
        mask = os.umask(0o177)
        try:
            server.add_insecure_port(f"unix:{self._path}")
        except RuntimeError as error:
            raise OSError(f"cannot listen on {self._path}: {error}") from None
        finally:
            os.umask(mask)
        await server.start()
        self._server = server

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(grace=None)
        self._path.unlink(missing_ok=True)

    async def _full(self, requests: AsyncIterator[Any], context: Any) -> None:
        await self._serve(requests, context, Session(delta=False))

    async def _delta(self, requests: AsyncIterator[Any], context: Any) -> None:
        await self._serve(requests, context, Session(delta=True))

    async def _serve(self, requests: AsyncIterator[Any], context: Any, session: Session) -> None:
        news = asyncio.Event()
        self._news.add(news)

        async def learn() -> None:
            while True:
                if self._resources is not None:
                    for response in session.publish(self._resources):
                        await context.write(b"".join(response))
                await news.wait()
                news.clear()

        try:
            async with asyncio.TaskGroup() as tasks:
                learning = tasks.create_task(learn(), name="secrets")
                async for request in requests:
                    self._make(request.resource_names_subscribe if session.delta else request.resource_names)
                    responses = session.publish(self._resources) if self._resources is not None else []
                    for response in [*responses, *session.receive(request)]:
                        await context.write(b"".join(response))
                learning.cancel()
        except* (asyncio.InvalidStateError, grpc.aio.UsageError, grpc.aio.AbortError):
            pass  # Envoy went away while a response was on its way.
        finally:
            self._news.discard(news)
