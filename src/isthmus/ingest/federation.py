"""Federation of services: what MeshPeers, and what peers have told, make of the mesh's services.

A service that is exported gets a mesh name here, too, with its own endpoints: the same name means the same service in every mesh. What a
peer offers and is imported becomes a service behind the peer's gateways, under its mesh name, in a namespace that no cluster can have; so
nothing that is said of a local service of that name and namespace is said of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import replace

from isthmus.ingest.allocation import mesh_name_addresses_at, places_of
from isthmus.ingest.labels import PEER_GATEWAY_PORT
from isthmus.model.federation import (
    ALL,
    Guests,
    HeardPeer,
    MeshPeer,
    OfferedService,
    Place,
    foreign_cluster,
    foreign_namespace,
    foreign_network,
    is_exportable,
    is_label,
    kept_at_home,
    mesh_name,
)
from isthmus.model.issues import Issue, Severity, Subject
from isthmus.model.names import ClusterId, MeshId, NetworkId, ServiceKey
from isthmus.model.services import Protocol, Service
from isthmus.model.snapshot import MeshSettings
from isthmus.model.topology import ImportState, NetworkGateway
from isthmus.model.values import dataclass
from isthmus.model.workloads import Endpoint, Health, Workload

Services = dict[ServiceKey, Service]
Endpoints = dict[ServiceKey, tuple[Endpoint, ...]]


@dataclass(frozen=True, slots=True)
class Federated:
    """What is known beside services and endpoints."""

    foreign_gateways: Mapping[NetworkId, tuple[NetworkGateway, ...]]
    guests: Mapping[ServiceKey, tuple[Guests, ...]]
    issues: tuple[Issue, ...]


def federate(
    services: Services,
    endpoints: Endpoints,
    peers: Sequence[MeshPeer],
    heard: Mapping[MeshId, HeardPeer],
    settings: MeshSettings,
    config_cluster: ClusterId,
    entered: Set[NetworkId],
) -> Federated:
    """Adds mesh names to both, in place. Peers are those that can be told apart, the oldest first; networks those that peers may enter."""
    own: dict[str, list[Service]] = defaultdict(list)
    for service in services.values() if peers else ():
        if is_exportable(service):
            own[service.namespace].append(service)
    trusted = [peer for peer in peers if peer.trust_domain in settings.peer_trust_domains]
    issues: list[Issue] = []
    exported: dict[ServiceKey, list[Guests]] = defaultdict(list)
    for peer in trusted:
        found, wrong = _exported(peer, heard.get(peer.mesh), own, settings, config_cluster)
        issues += wrong
        issues += _unentered(peer, found, endpoints, entered, settings, config_cluster)
        for key, guests in found.items():
            exported[key].append(guests)
    named = [_with_mesh_name(services[key], settings.mesh) for key in sorted(exported)]
    for service in named:
        assert service.exported is not None, "made so"
        endpoints[service.key] = tuple(replace(e, service=service.key) for e in endpoints.get(service.exported, ()))
    gateways: dict[NetworkId, tuple[NetworkGateway, ...]] = {}
    for peer in trusted:
        news = heard.get(peer.mesh)
        issues += _not_offered(peer, news, config_cluster)
        if news is not None:
            gateways |= _gateways_of(peer, news)
            issues += _misplaced_gateways(peer, news, config_cluster)
            for offer, to in _imported(peer, news):
                service = _foreign(offer, peer, to)
                named.append(service)
                endpoints[service.key] = tuple(_endpoint(place, service, peer.mesh) for place in offer.places)
    _add(services, named, peers)
    return Federated(gateways, {key: tuple(found) for key, found in sorted(exported.items())}, tuple(issues))


def _add(services: Services, found: Iterable[Service], peers: Sequence[MeshPeer]) -> None:
    """With their addresses: names of older peers come first, so that a new peer takes no address from under anybody's callers."""
    created = {peer.mesh: peer.created for peer in peers}
    by_key = {service.key: service for service in found}
    places = places_of((created.get(service.mesh, ""), key) for key, service in by_key.items())
    for key, service in by_key.items():
        place = places.get(key)
        services[key] = replace(service, allocated=mesh_name_addresses_at(place) if place is not None else ())


# What others may have.


def _exported(
    peer: MeshPeer,
    news: HeardPeer | None,
    own: Mapping[str, Sequence[Service]],
    settings: MeshSettings,
    cluster: ClusterId,
) -> tuple[dict[ServiceKey, Guests], list[Issue]]:
    """Services with those who may call them: whom the exports name, as far as the peer says that they call. `own` are ours by namespace."""
    found: dict[ServiceKey, Guests] = {}
    issues: list[Issue] = []
    callers_told = news.offers.identities if news is not None else ()
    if peer.exports and not is_label(settings.mesh):
        what = f"nothing is exported: this mesh's own id, {settings.mesh!r}, cannot be part of a DNS name"
        return {}, [
            _issue(peer, cluster, "ISM0903", what, "set MESH_ID to lower-case letters, digits and '-'", "spec.exports")
        ]
    for index, export in enumerate(peer.exports):
        named = [service for service in own.get(export.namespace, ()) if export.means(service)]
        able = [service for service in named if not kept_at_home(service, settings.service_export_to)]
        if not able and (named or export.name != ALL):
            why = kept_at_home(named[0], settings.service_export_to) if named else "there is no such Service"
            what, fix = f"{export.namespace}/{export.name} is not exported: {why}", "create it, or take the entry out"
            issues.append(_issue(peer, cluster, "ISM0904", what, fix, f"spec.exports.services[{index}]"))
        shared = {both for one in export.callers for other in callers_told if (both := one.shared(other)) is not None}
        for service in able:
            before = found[service.key].callers if service.key in found else ()
            callers = tuple(sorted({*before, *shared}))
            found[service.key] = Guests(mesh=peer.mesh, trust_domain=peer.trust_domain, callers=callers)
    return found, issues


def _unentered(
    peer: MeshPeer,
    exported: Iterable[ServiceKey],
    endpoints: Mapping[ServiceKey, tuple[Endpoint, ...]],
    entered: Set[NetworkId],
    settings: MeshSettings,
    cluster: ClusterId,
) -> Iterator[Issue]:
    """Endpoints of exported services of which the peer is told nothing, though they may answer: nobody could come to them from outside."""
    without: dict[NetworkId, set[str]] = defaultdict(set)
    for key in exported:
        found = [each for each in endpoints.get(key, ()) if not each.own_cluster_only]
        strangers = [each for each in found if not _is_proven(each.workload, settings)]
        name = f"{key.namespace}/{key.hostname.partition('.')[0]}"
        for each in found:
            if each.network not in entered:
                without[each.network].add(name)
        if strangers:
            what = f"{len(strangers)} of {len(found)} endpoints of {name} are not offered: they have no proxy with an identity of this mesh"
            fix = "give their Pods a proxy, if the peer is to reach them"
            yield _issue(peer, cluster, "ISM0908", what, fix, "spec.exports")
    for network, names in sorted(without.items()):
        where = f"network {network}" if network else "a network that has no name"
        what = (
            f"endpoints of {', '.join(sorted(names))} on {where} are not offered: no gateway of it lets other meshes in"
        )
        yield _issue(
            peer, cluster, "ISM0908", what, f"label its network gateway's Service {PEER_GATEWAY_PORT}", "spec.exports"
        )


def _is_proven(workload: Workload, settings: MeshSettings) -> bool:
    identity = workload.identity
    return workload.meshed and identity is not None and identity.trust_domain == settings.trust_domain


def _with_mesh_name(service: Service, mesh: MeshId) -> Service:
    name = mesh_name(service.name, service.namespace, mesh)
    return replace(
        service,
        hostname=name,
        name=name,
        virtual_ips=(),
        allocated=(),
        aliases=(),
        registry="External",
        exported=service.key,
    )


# What others let us have.


def _imported(peer: MeshPeer, news: HeardPeer) -> Iterator[tuple[OfferedService, tuple[str, ...]]]:
    """Each offered service that some import names, with the namespaces that may know of it."""
    for offer in news.offers.services:
        to = {
            namespace
            for each in peer.imports
            if each.namespace == offer.namespace and each.name in (ALL, offer.name)
            for namespace in each.to
        }
        if to:
            yield offer, tuple(sorted(to))


def _not_offered(peer: MeshPeer, news: HeardPeer | None, cluster: ClusterId) -> Iterator[Issue]:
    """Asked only of a peer that can be heard: else that is what is wrong."""
    if news is None or news.state is not ImportState.LIVE:
        return
    offered = {(offer.namespace, offer.name) for offer in news.offers.services}
    for index, each in enumerate(peer.imports):
        if each.name != ALL and (each.namespace, each.name) not in offered:
            what = f"{peer.mesh} does not offer {each.namespace}/{each.name}"
            fix = f"ask for an export in {peer.mesh}, or take the entry out"
            yield _issue(peer, cluster, "ISM0905", what, fix, f"spec.imports.services[{index}]")


def _foreign(offer: OfferedService, peer: MeshPeer, to: tuple[str, ...]) -> Service:
    name = mesh_name(offer.name, offer.namespace, peer.mesh)
    return Service(
        namespace=foreign_namespace(offer.namespace, peer.mesh),
        hostname=name,
        name=name,
        ports=tuple(port for port in offer.ports if port.protocol is not Protocol.UDP),
        virtual_ips=(),
        headless=False,
        cluster_local=False,
        declared_in=(),
        export_to=to,
        registry="External",
        entry=peer.name,
        mesh=peer.mesh,
    )


def _endpoint(place: Place, service: Service, mesh: MeshId) -> Endpoint:
    """All that is behind one network's gateways in one locality with one identity. It has no address here, and needs none."""
    return Endpoint(
        service=service.key,
        ip="",
        ports=tuple(sorted((port.name, port.number) for port in service.ports)),
        workload=Workload(
            cluster=foreign_cluster(mesh),
            namespace=service.namespace,
            name="",
            network=foreign_network(place.network, mesh),
            ips=(),
            labels=(),
            locality=place.locality,
            node="",
            identity=place.identity,
            meshed=True,
            mesh=mesh,
        ),
        health=Health.HEALTHY,
        weight=place.weight,
    )


def _gateways_of(peer: MeshPeer, news: HeardPeer) -> dict[NetworkId, tuple[NetworkGateway, ...]]:
    """By network: those that the MeshPeer names, else those that the peer tells."""
    networks = {place.network for offer in news.offers.services for place in offer.places}
    found: dict[NetworkId, tuple[NetworkGateway, ...]] = {}
    for network in sorted(networks):
        written = [each for each in peer.gateways if each.network in ("", network)]
        told = [each for each in news.offers.gateways if each.network == network]
        name = foreign_network(network, peer.mesh)
        used = {replace(each, network=name, cluster=foreign_cluster(peer.mesh)) for each in written or told}
        if used:
            found[name] = tuple(sorted(used))
    return found


def _misplaced_gateways(peer: MeshPeer, news: HeardPeer, cluster: ClusterId) -> Iterator[Issue]:
    """Written for networks that the peer has nothing on, as far as it is heard: its own gateways are used then, which somebody did not want."""
    networks = {place.network for offer in news.offers.services for place in offer.places}
    if news.state is not ImportState.LIVE or not networks:
        return
    for network in sorted({each.network for each in peer.gateways} - networks - {""}):
        what = f"the gateways for network {network} are not used: {peer.mesh} offers services on {', '.join(sorted(networks))}"
        fix = "write the network as the peer does, or leave it empty for all"
        yield _issue(peer, cluster, "ISM0907", what, fix, "spec.gateways")


def _issue(peer: MeshPeer, cluster: ClusterId, code: str, what: str, fix: str, field: str) -> Issue:
    subject = Subject(cluster, "MeshPeer", "", peer.name)
    return Issue(subject=subject, code=code, severity=Severity.WARNING, what=what, fix=fix, field=field)
