"""Other meshes that ask this one: who they are, and what each is told. A MeshPeer is who may ask; what it exports is what is told.

What a connection was judged by may change while it is open: then it is ended, and judged anew when it comes again.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog

from isthmus.controlplane.delivery import Delivery
from isthmus.controlplane.peer_tls import Proof, asker_in, telling
from isthmus.discovery.federation import offers_for
from isthmus.model.federation import MeshPeer
from isthmus.model.identity import SpiffeId, TrustDomain
from isthmus.model.names import MeshId
from isthmus.model.snapshot import Snapshot
from isthmus.peering.messages import Hello
from isthmus.peering.offers import resources_of
from isthmus.peering.server import Feed, NotAdmitted
from isthmus.trust.authority import Authority
from isthmus.trust.svid import proven

_RENEW_SECONDS = 3600.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Judge:
    """By what a mesh's control planes are judged."""

    mesh: MeshId
    identity: SpiffeId
    authorities: tuple[bytes, ...]


@dataclass(slots=True)
class _Door:
    """Where one mesh comes in: TLS by its own bundle. `by` is when the certificate that we show there is renewed, by the loop's clock."""

    judge: _Judge
    authority: Authority
    context: ssl.SSLContext
    by: float
    feeds: dict[Feed, None] = field(default_factory=dict)


class PeerAskers:
    """Admits askers, and keeps what they are told current. `run` until cancelled. `newest` is what is known now, also before the first round."""

    def __init__(
        self,
        mesh: MeshId,
        identity: SpiffeId,
        authority: Callable[[], Authority],
        delivery: Delivery,
        newest: Callable[[], Snapshot],
    ) -> None:
        self._mesh = mesh
        self._identity = identity
        self._authority = authority
        self._delivery = delivery
        self._newest = newest
        self._doors: dict[MeshId, _Door] = {}

    def context(self) -> ssl.SSLContext:
        """For the listening socket. Whoever does not say in SNI that it is a peer gets no further, and is told nothing about us."""
        # This one's certificate is never shown, and it trusts nobody.
        context = telling(Proof.of(self._identity, self._authority()), ())
        context.sni_callback = self._chosen
        return context

    async def run(self) -> None:
        while True:
            await self._delivery.after_round()
            self._tell(self._newest())

    def admit(self, hello: Hello, connection: ssl.SSLObject) -> Feed:
        """The door by which TLS let it in is the one of the mesh that it says it is, and it is that mesh's control plane."""
        door = next((each for each in self._doors.values() if each.context is connection.context), None)
        snapshot = self._newest()
        peer = _peer_named(door.judge.mesh, snapshot) if door is not None else None
        if door is None or peer is None or door.judge != _judge_of(peer, snapshot):
            raise NotAdmitted("what you were judged by has changed: come again")
        if hello.mesh != peer.mesh:
            raise NotAdmitted(f"you come as {peer.mesh}, and say that you are another mesh")
        try:
            identity = proven(connection)
        except ValueError as error:
            raise NotAdmitted(f"your certificate names nobody: {error}") from None
        if identity != peer.identity:
            raise NotAdmitted(f"you are {identity}, and not the control plane of {peer.mesh}")
        feed = Feed()
        feed.put(resources_of(offers_for(peer, snapshot)))
        door.feeds[feed] = None
        log.info("peer connected", mesh=peer.mesh, identity=str(identity))
        return feed

    def gone(self, feed: Feed) -> None:
        for door in self._doors.values():
            door.feeds.pop(feed, None)

    def told(self, mesh: MeshId) -> tuple[int, dict[str, str]]:
        """How many of the mesh's control planes listen now, and what they cannot use."""
        door = self._doors.get(mesh)
        feeds: Sequence[Feed] = list(door.feeds) if door is not None else ()
        return len(feeds), {name: why for feed in feeds for name, why in feed.refused.items()}

    def _tell(self, snapshot: Snapshot) -> None:
        for mesh, door in list(self._doors.items()):
            peer = _peer_named(mesh, snapshot)
            if peer is None or _judge_of(peer, snapshot) != door.judge:
                for feed in door.feeds:
                    feed.end("you are no peer any longer" if peer is None else "come again: you are judged anew")
                del self._doors[mesh]
            elif door.feeds:
                resources = resources_of(offers_for(peer, snapshot))
                for feed in door.feeds:
                    feed.put(resources)

    def _chosen(self, connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> int | None:
        """Called by TLS with the SNI: the context that the rest of the handshake goes by. An alert is the end of it."""
        mesh = asker_in(name or "", self._mesh)
        context = self._door_of(mesh) if mesh is not None else None
        if context is None:
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        connection.context = context
        return None

    def _door_of(self, mesh: MeshId) -> ssl.SSLContext | None:
        snapshot = self._newest()
        peer = _peer_named(mesh, snapshot)
        if peer is None:
            return None
        judge, authority, now = _judge_of(peer, snapshot), self._authority(), asyncio.get_running_loop().time()
        if not judge.authorities:
            return None
        door = self._doors.get(mesh)
        if door is None or door.judge != judge:
            door = _Door(judge, authority, self._opened(authority, judge), now + _RENEW_SECONDS)
            self._doors[mesh] = door
        elif door.authority is not authority or door.by < now:
            door.authority, door.by = authority, now + _RENEW_SECONDS
            door.context = self._opened(authority, judge)
        return door.context

    def _opened(self, authority: Authority, judge: _Judge) -> ssl.SSLContext:
        return telling(Proof.of(self._identity, authority), judge.authorities)


def authorities_for(trust_domain: TrustDomain, snapshot: Snapshot) -> tuple[bytes, ...]:
    """Who vouches for the trust domain, as DER; nobody, if it is not known."""
    return dict(snapshot.settings.peer_authorities).get(trust_domain, ())


def _judge_of(peer: MeshPeer, snapshot: Snapshot) -> _Judge:
    return _Judge(peer.mesh, peer.identity, authorities_for(peer.trust_domain, snapshot))


def _peer_named(mesh: MeshId, snapshot: Snapshot) -> MeshPeer | None:
    return next((peer for peer in snapshot.mesh_peers if peer.mesh == mesh), None)
