"""SDS: serves one Envoy its certificate and the bundles it trusts, on a unix socket that is that Envoy's alone.

Who may connect to the socket is the identity: it lies in the proxy's own folder, with mode 0600.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import grpc
import grpc.aio
from envoy.service.discovery.v3 import discovery_pb2

from isthmus.agent.certificates import Certificate
from isthmus.agent.private_calls import serve_calls_privately
from isthmus.envoy.bundles import Bundles
from isthmus.envoy.resources import SECRET, Resource, ResourceSet
from isthmus.envoy.secrets import authorities_secret, bundle_secret, domain_secret, workload_secret
from isthmus.envoy.tls import CONTROL_PLANE_ROOTS, TRUST_BUNDLE, WORKLOAD_CERTIFICATE, domains_named
from isthmus.model.identity import TrustDomain
from isthmus.xds.session import Session
from isthmus.xds.wire import Response

_SERVICE = "envoy.service.secret.v3.SecretDiscoveryService"


@dataclass(eq=False, slots=True)
class _Stream:
    """One of Envoy's, and what it was told."""

    session: Session
    news: asyncio.Event = field(default_factory=asyncio.Event)
    names: set[str] = field(default_factory=set)
    told: ResourceSet | None = None

    def learn(self, request: Any) -> None:
        """Which names are wanted from now on."""
        if self.session.delta:
            self.names |= set(request.resource_names_subscribe)
            self.names -= set(request.resource_names_unsubscribe)
        else:
            self.names = set(request.resource_names)

    def tell(self, resources: ResourceSet | None) -> list[Response]:
        self.told = resources
        return self.session.publish(resources) if resources is not None else []


class SecretsServer:
    """One proxy's secrets. `put`, `trust` and `check_control_planes` replace them; connected Envoys are told at once."""

    def __init__(self, socket_path: Path) -> None:
        self._path = socket_path
        self._resources: ResourceSet | None = None
        self._certificate: Certificate | None = None
        self._peers: Bundles = {}
        self._made: dict[str, frozenset[TrustDomain]] = {}
        """Bundles of some trust domains alone, by name. Which of them are needed, only Envoy knows: they are made when it asks."""
        self._control_plane_roots = ""
        self._crl = ""
        self._streams: set[_Stream] = set()
        self._server: grpc.aio.Server | None = None

    def put(self, certificate: Certificate) -> None:
        """The new certificate. Its own trust domain's roots are trusted for that trust domain alone."""
        self._certificate = certificate
        self._renew()

    def trust(self, peers: Bundles) -> None:
        """Other trust domains' authorities, all of them; those that were trusted before and are not among them are not any longer."""
        self._peers = peers
        self._renew()

    def check_control_planes(self, roots_pem: str) -> None:
        """Control planes are to be checked against these roots."""
        self._control_plane_roots = roots_pem
        self._renew()

    def refuse(self, crl_pem: str) -> None:
        """What these revocation lists of the own trust domain name is not let in; empty: there are none."""
        if crl_pem != self._crl:
            self._crl = crl_pem
            self._renew()

    def not_accepted(self) -> str:
        """What Envoy has still to acknowledge, in words, or nothing: of the newest that there is."""
        asked = self._asked()
        if not {WORKLOAD_CERTIFICATE, TRUST_BUNDLE} <= asked:
            return "Envoy has not asked for its secrets"
        if refusals := {each.error for stream in self._streams for each in stream.session.status if each.error}:
            return f"Envoy refused: {'; '.join(sorted(refusals))}"
        behind = [each for each in self._streams if each.told is not self._resources or not each.session.settled]
        return "Envoy has not acknowledged its secrets" if behind else ""

    def _renew(self) -> None:
        certificate = self._certificate
        if certificate is None:
            return
        revoked = {certificate.identity.trust_domain: self._crl}
        found = [
            workload_secret(certificate.chain_pem, certificate.key_pem),
            bundle_secret(certificate.trusted_with(self._peers), revoked=revoked),
            *(
                _among(name, each, certificate.trusted_among(each, self._peers), revoked)
                for name, each in self._made.items()
            ),
        ]
        if self._control_plane_roots:
            found.append(authorities_secret(CONTROL_PLANE_ROOTS, self._control_plane_roots.encode()))
        secrets = MappingProxyType({secret.name: secret for secret in found})
        self._resources = ResourceSet(MappingProxyType({SECRET: secrets}))
        for stream in self._streams:
            stream.news.set()

    def _asked(self) -> set[str]:
        """What the streams that there are want."""
        return {name for stream in self._streams for name in stream.names}

    def _make(self) -> None:
        """The bundles that are asked for by trust domain, and no others: Envoy forgets them with what needed them."""
        wanted = {name: domains for name in sorted(self._asked()) if (domains := domains_named(name))}
        if wanted.keys() != self._made.keys():
            self._made = wanted
            self._renew()

    async def start(self) -> None:
        """Listens. Raises OSError if the socket cannot be made."""
        methods = {
            "StreamSecrets": grpc.stream_stream_rpc_method_handler(
                self._full, request_deserializer=discovery_pb2.DiscoveryRequest.FromString
            ),
            "DeltaSecrets": grpc.stream_stream_rpc_method_handler(
                self._delta, request_deserializer=discovery_pb2.DeltaDiscoveryRequest.FromString
            ),
        }
        self._server = await serve_calls_privately(_SERVICE, methods, self._path)

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(grace=None)
        self._path.unlink(missing_ok=True)

    async def _full(self, requests: AsyncIterator[Any], context: Any) -> None:
        await self._serve(requests, context, Session(delta=False))

    async def _delta(self, requests: AsyncIterator[Any], context: Any) -> None:
        await self._serve(requests, context, Session(delta=True))

    async def _serve(self, requests: AsyncIterator[Any], context: Any, session: Session) -> None:
        stream = _Stream(session)
        self._streams.add(stream)

        async def learn() -> None:
            while True:
                for response in stream.tell(self._resources):
                    await context.write(b"".join(response))
                await stream.news.wait()
                stream.news.clear()

        try:
            async with asyncio.TaskGroup() as tasks:
                learning = tasks.create_task(learn(), name="secrets")
                async for request in requests:
                    stream.learn(request)
                    self._make()
                    for response in [*stream.tell(self._resources), *session.receive(request)]:
                        await context.write(b"".join(response))
                learning.cancel()
        except* (asyncio.InvalidStateError, grpc.aio.UsageError, grpc.aio.AbortError):
            pass  # Envoy went away while a response was on its way.
        finally:
            self._streams.discard(stream)


def _among(name: str, asked: frozenset[TrustDomain], known: Bundles, revoked: Mapping[TrustDomain, str]) -> Resource:
    """A bundle of the trust domains that are asked for. Whoever asks for one alone takes names of that one alone."""
    if len(asked) == 1 and known.keys() == asked:
        [(domain, authorities)] = known.items()
        return domain_secret(name, authorities, revoked.get(domain, ""))
    return bundle_secret(known, name, revoked)
