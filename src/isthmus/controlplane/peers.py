"""Other meshes, in both directions: asking and being asked, and what is shown of it (the rows of `/debug/peerz`, and the same as metrics)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import msgspec
from prometheus_client import CollectorRegistry, Gauge

from isthmus.controlplane.delivery import Delivery
from isthmus.controlplane.kept_peers import KeptPeers
from isthmus.controlplane.peer_askers import PeerAskers
from isthmus.controlplane.peer_links import Link, PeerLinks
from isthmus.controlplane.settings import ControlPlaneSettings
from isthmus.controlplane.world import World
from isthmus.discovery.federation import offers_for
from isthmus.model.federation import MeshPeer, foreign_cluster, mesh_name
from isthmus.model.issues import Issue
from isthmus.model.snapshot import Snapshot
from isthmus.model.topology import ImportState
from isthmus.peering.messages import PORT
from isthmus.peering.server import PeerServer, serving_peers
from isthmus.trust.authority import Authority


class PeerRow(msgspec.Struct, frozen=True, kw_only=True):
    """`state` is syncing, live, stale, or `not asked`, of a peer without an address or without a bundle; `reason` why it is not live. Times
    are RFC 3339 or empty. `controlPlane` is the one that is heard now, `listeners` how many of the peer's listen to us. `exports` and
    `imports` are mesh names; `offered` what the peer offers, imported or not. Refusals are what one side tells and the other cannot use.
    """

    mesh: str
    object: str
    trustDomain: str
    state: str
    staleSince: str
    standing: str
    lastContact: str
    controlPlane: str
    reason: str
    listeners: int
    exports: list[str]
    offered: list[str]
    imports: list[str]
    gateways: list[str]
    refusedByUs: dict[str, str]
    refusedByPeer: dict[str, str]
    problems: list[str]


class Peers:
    """Both directions. `run` until cancelled."""

    def __init__(self, delivery: Delivery, links: PeerLinks, askers: PeerAskers) -> None:
        self._delivery = delivery
        self._links = links
        self._askers = askers

    @staticmethod
    def of(
        settings: ControlPlaneSettings, world: World, delivery: Delivery, authority: Callable[[], Authority]
    ) -> Peers:
        mesh, identity, kept = settings.mesh, settings.identity, KeptPeers(settings.state_directory)

        def newest() -> Snapshot:
            """Before the first round nobody else asks the world."""
            return delivery.snapshot or world.snapshot()

        links = PeerLinks(world, delivery, mesh, identity, authority, settings.stale_policy, kept, newest)
        return Peers(delivery, links, PeerAskers(mesh, identity, authority, delivery, newest))

    async def run(self, host: str) -> None:
        """Two meshes that start together find each other before their first rounds."""
        server = PeerServer(self._askers.admit, self._askers.gone, self._askers.context())
        async with serving_peers(server, host, PORT), asyncio.TaskGroup() as tasks:
            tasks.create_task(self._links.run(), name="peers that are asked")
            tasks.create_task(self._askers.run(), name="peers that ask")

    async def first_round(self) -> None:
        """What proxies are told first has what peers offer."""
        await self._links.first_round()

    def table(self) -> list[PeerRow]:
        """By mesh id."""
        snapshot = self._delivery.snapshot
        if snapshot is None:
            return []
        return [self._row(peer, snapshot) for peer in sorted(snapshot.mesh_peers, key=lambda peer: peer.mesh)]

    def add_metrics(self, registry: CollectorRegistry) -> None:
        stale = Gauge("isthmus_peer_stale", "1 while another mesh does not answer.", ["mesh"], registry=registry)
        contact = Gauge(
            "isthmus_peer_last_contact_timestamp_seconds",
            "When another mesh was heard of last; absent if never.",
            ["mesh"],
            registry=registry,
        )
        imported = Gauge(
            "isthmus_peer_imports", "Services of another mesh that are imported.", ["mesh"], registry=registry
        )
        for row in self.table():
            stale.labels(row.mesh).set(row.state == ImportState.STALE)
            imported.labels(row.mesh).set(len(row.imports))
            if row.lastContact:
                contact.labels(row.mesh).set(datetime.fromisoformat(row.lastContact).timestamp())

    def _row(self, peer: MeshPeer, snapshot: Snapshot) -> PeerRow:
        link = self._links.links.get(peer.mesh)
        listeners, refused = self._askers.told(peer.mesh)
        offers = link.offers if link is not None else None
        gateways = {
            g for found in snapshot.foreign_gateways.values() for g in found if g.cluster == foreign_cluster(peer.mesh)
        }
        return PeerRow(
            mesh=peer.mesh,
            object=peer.name,
            trustDomain=str(peer.trust_domain),
            state=link.state.value if link is not None else "not asked",
            staleSince=link.stale_since if link is not None else "",
            standing=link.standing.value if link is not None else "",
            lastContact=_moment(link),
            controlPlane=link.control_plane if link is not None else "",
            reason=_reason(peer, link, snapshot),
            listeners=listeners,
            exports=[
                mesh_name(each.name, each.namespace, snapshot.settings.mesh)
                for each in offers_for(peer, snapshot).services
            ],
            offered=[mesh_name(each.name, each.namespace, peer.mesh) for each in (offers.services if offers else ())],
            imports=sorted(service.hostname for service in snapshot.services.values() if service.mesh == peer.mesh),
            gateways=sorted(map(str, gateways)),
            refusedByUs=dict(link.refused) if link is not None else {},
            refusedByPeer=refused,
            problems=[f"{issue.code} {issue.field}: {issue.what}" for issue in _issues_of(peer, snapshot)],
        )


def _reason(peer: MeshPeer, link: Link | None, snapshot: Snapshot) -> str:
    if link is None:
        if peer.trust_domain not in snapshot.settings.peer_trust_domains:
            return f"there is no trust bundle for {peer.trust_domain}"
        return "" if peer.control_planes else "the MeshPeer has no controlPlanes to ask"
    return link.error if link.state is not ImportState.LIVE else ""


def _moment(link: Link | None) -> str:
    if link is None or link.last_contact is None:
        return ""
    age = timedelta(seconds=asyncio.get_running_loop().time() - link.last_contact)
    return (datetime.now(UTC) - age).isoformat(timespec="seconds")


def _issues_of(peer: MeshPeer, snapshot: Snapshot) -> list[Issue]:
    return [each for each in snapshot.issues if (each.subject.kind, each.subject.name) == ("MeshPeer", peer.name)]
