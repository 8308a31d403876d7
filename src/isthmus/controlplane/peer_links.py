"""Other meshes that this one asks: a connection to each, and what has been heard of it.

Whichever of a peer's control planes answers is asked, in the order in which the MeshPeer has them; coming again costs what has changed. When
none answers, what was heard last stays, labelled with the time since which it is stale, and counts as the policy for ageing says. A MeshPeer
that is deleted takes everything with it at once.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import structlog

from isthmus.controlplane.delivery import Delivery
from isthmus.controlplane.kept_peers import KeptPeers
from isthmus.controlplane.peer_askers import authorities_for
from isthmus.controlplane.peer_tls import Proof, asking, server_name
from isthmus.controlplane.staleness import StalePolicy
from isthmus.controlplane.world import World
from isthmus.model.federation import HeardPeer, Offers
from isthmus.model.identity import SpiffeId, TrustDomain
from isthmus.model.issues import Issue, Severity, Subject
from isthmus.model.names import MeshId
from isthmus.model.snapshot import Snapshot
from isthmus.model.topology import ImportState, Standing
from isthmus.peering.client import PeerUnavailable, listen
from isthmus.peering.offers import offers_of
from isthmus.peering.session import Hearing
from isthmus.trust.authority import Authority
from isthmus.trust.svid import proven

_CHECK_SECONDS = 1.0
_PATIENCE_SECONDS = 3.0
_LATE_SECONDS = 15.0
"""Control planes that start together hear each other in less."""
_RETRY_SECONDS_FIRST = 0.2
_RETRY_SECONDS_MAX = 5.0
_CONVERSATION_SECONDS = 3600.0
"""After so long we come again, with a new certificate."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Asked:
    """Whom to ask, and by whom it is vouched for."""

    name: str
    mesh: MeshId
    identity: SpiffeId
    control_planes: tuple[str, ...]
    authorities: tuple[bytes, ...]

    @property
    def trust_domain(self) -> TrustDomain:
        return self.identity.trust_domain


@dataclass(slots=True)
class Link:
    """One peer, and what is known of it. Times are the loop's."""

    asked: Asked
    since: float
    hearing: Hearing = field(default_factory=Hearing)
    offers: Offers = field(default_factory=Offers)
    refused: dict[str, str] = field(default_factory=dict)
    state: ImportState = ImportState.SYNCING
    standing: Standing = Standing.FULL
    stale_since: str = ""
    last_contact: float | None = None
    control_plane: str = ""
    """The one that is heard now."""
    error: str = ""
    missed: bool = False
    """It has been said that it was never heard."""
    task: asyncio.Task[None] | None = None

    @property
    def heard(self) -> HeardPeer | None:
        """None before the first news."""
        if self.state is ImportState.SYNCING:
            return None
        return HeardPeer(state=self.state, offers=self.offers, stale_since=self.stale_since, standing=self.standing)


class PeerLinks:
    """`run` until cancelled."""

    def __init__(
        self,
        world: World,
        delivery: Delivery,
        mesh: MeshId,
        identity: SpiffeId,
        authority: Callable[[], Authority],
        policy: StalePolicy,
        kept: KeptPeers,
        newest: Callable[[], Snapshot],
    ) -> None:
        self._world = world
        self._delivery = delivery
        self._mesh = mesh
        self._identity = identity
        self._authority = authority
        self._policy = policy
        self._kept = kept
        self._newest = newest
        self._begun = asyncio.Event()
        self._news = asyncio.Event()
        self._links: dict[MeshId, Link] = {}

    @property
    def links(self) -> Mapping[MeshId, Link]:
        return self._links

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch_over(), name="ages of peers")
            while True:
                self._follow({each.mesh: each for each in _asked(self._newest())}, tasks)
                self._begun.set()
                await self._delivery.after_round()

    async def first_round(self) -> None:
        """Returns when every peer has been heard, or is recalled, or after a while: what a peer offers is there from the start."""
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await self._begun.wait()
                while any(link.state is ImportState.SYNCING for link in self._links.values()):
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            late = [mesh for mesh, link in self._links.items() if link.state is ImportState.SYNCING]
            log.info("starting before some peers are heard", meshes=late)

    def _follow(self, wanted: Mapping[MeshId, Asked], tasks: asyncio.TaskGroup) -> None:
        before = dict(self._links)
        for mesh, link in before.items():
            if mesh not in wanted or wanted[mesh].trust_domain != link.asked.trust_domain:
                self._stop(self._links.pop(mesh))
                self._kept.forget(mesh)
        for mesh, asked in wanted.items():
            link = self._links.get(mesh) or self._begin(asked)
            if link.task is not None and link.asked == asked:
                continue
            self._stop(link)
            link.asked = asked
            self._links[mesh] = link
            link.task = tasks.create_task(self._keep(link), name=f"peer {mesh}")
        if before.keys() != self._links.keys():
            self._publish()

    def _begin(self, asked: Asked) -> Link:
        """With what it told before this process began, if that is kept."""
        recalled = self._kept.recalled(asked.mesh, asked.trust_domain)
        now = asyncio.get_running_loop().time()
        if recalled is None:
            return Link(asked, now)
        resources, at = recalled
        since = at.isoformat(timespec="seconds")
        link = Link(asked, now, Hearing(resources), state=ImportState.STALE, stale_since=since)
        link.offers, link.refused = offers_of(resources, asked.trust_domain)
        age = max(0.0, (datetime.now(UTC) - at).total_seconds())
        link.last_contact = now - age
        link.standing = self._policy.standing(age)
        return link

    def _stop(self, link: Link) -> None:
        if link.task is not None:
            link.task.cancel()
            link.task = None

    async def _keep(self, link: Link) -> None:
        """One connection after the other. Only when no control plane of the peer answers is it lost."""
        wait = _RETRY_SECONDS_FIRST
        while True:
            heard_before = link.last_contact
            for address in link.asked.control_planes:
                await self._listen(link, address)
            if link.last_contact == heard_before:
                self._lost(link)
                await asyncio.sleep(wait * random.uniform(0.5, 1.0))
                wait = min(wait * 2, _RETRY_SECONDS_MAX)
            else:
                wait = _RETRY_SECONDS_FIRST
                await asyncio.sleep(wait)

    async def _listen(self, link: Link, address: str) -> None:
        asked = link.asked
        try:
            context = asking(Proof.of(self._identity, self._authority()), asked.authorities)
            heard = listen(
                address,
                context,
                server_name=server_name(self._mesh, asked.mesh),
                mesh=self._mesh,
                hearing=link.hearing,
                believe=lambda connection: believe(connection, asked),
                refused=lambda: link.refused,
            )
            async with asyncio.timeout(_CONVERSATION_SECONDS), aclosing(heard):
                async for has_news in heard:
                    self._heard(link, address, has_news=has_news)
        except TimeoutError:
            return
        except Exception as error:  # Whatever a stranger says, it ends this connection, and nothing else.
            if not isinstance(error, PeerUnavailable | ssl.SSLError):
                log.exception("a peer said what we did not expect", mesh=asked.mesh)
            is_starting = link.state is ImportState.SYNCING and isinstance(error, PeerUnavailable)
            if str(error) != link.error and not is_starting:
                log.warning("peer not heard", mesh=asked.mesh, error=str(error))
            link.error = str(error)
        finally:
            link.control_plane = ""

    def _heard(self, link: Link, address: str, *, has_news: bool) -> None:
        link.last_contact = asyncio.get_running_loop().time()
        link.control_plane, link.error = address, ""
        if has_news:
            link.offers, link.refused = offers_of(link.hearing.resources, link.asked.trust_domain)
            self._kept.keep(link.asked.mesh, link.asked.trust_domain, link.hearing.resources)
        else:
            self._kept.touch(link.asked.mesh)
        if has_news or link.state is not ImportState.LIVE:
            if link.state is not ImportState.LIVE:
                log.info("peer is heard", mesh=link.asked.mesh, control_plane=address)
            link.state, link.stale_since, link.standing = ImportState.LIVE, "", Standing.FULL
            self._publish()

    def _lost(self, link: Link) -> None:
        """Nobody answers."""
        if link.state is ImportState.LIVE and link.last_contact is not None:
            age = asyncio.get_running_loop().time() - link.last_contact
            since = datetime.now(UTC) - timedelta(seconds=age)
            link.state, link.stale_since = ImportState.STALE, since.isoformat(timespec="seconds")
            log.warning("peer is lost", mesh=link.asked.mesh, since=link.stale_since, error=link.error)
            self._publish()

    async def _watch_over(self) -> None:
        """Only age changes what a peer that is lost counts for, and makes one that has never been heard worth a warning."""
        while True:
            await asyncio.sleep(_CHECK_SECONDS)
            now = asyncio.get_running_loop().time()
            for link in self._links.values():
                if link.state is ImportState.SYNCING and not link.missed and now - link.since >= _LATE_SECONDS:
                    link.missed = True
                    log.warning("peer not heard yet", mesh=link.asked.mesh, error=link.error)
                if link.state is ImportState.STALE and link.last_contact is not None:
                    standing = self._policy.standing(now - link.last_contact)
                    if standing is not link.standing:
                        link.standing = standing
                        self._publish()

    def _publish(self) -> None:
        self._news.set()
        self._world.set_heard({mesh: heard for mesh, link in self._links.items() if (heard := link.heard) is not None})
        self._world.report("peers", [issue for link in self._links.values() for issue in self._issues(link)])

    def _issues(self, link: Link) -> Iterator[Issue]:
        for name, why in sorted(link.refused.items()):
            yield Issue(
                subject=Subject(self._world.config_cluster, "MeshPeer", "", link.asked.name),
                code="ISM0906",
                severity=Severity.WARNING,
                what=f"{link.asked.mesh} tells of {name} what cannot be used: {why}",
                fix=f"tell whoever runs {link.asked.mesh}; the rest counts",
            )


def _asked(snapshot: Snapshot) -> Iterator[Asked]:
    """The peers that can be asked: they have an address, and somebody vouches for them."""
    for peer in snapshot.mesh_peers:
        authorities = authorities_for(peer.trust_domain, snapshot)
        if peer.control_planes and authorities:
            yield Asked(peer.name, peer.mesh, peer.identity, peer.control_planes, authorities)


def believe(connection: ssl.SSLObject, asked: Asked) -> None:
    """Raises ValueError for who is not the control plane that is asked for, whoever vouches for it."""
    identity = proven(connection)
    if identity != asked.identity:
        raise ValueError(f"it is {identity}, and not the control plane of {asked.mesh}, {asked.identity}")
