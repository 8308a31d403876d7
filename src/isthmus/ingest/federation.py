"""Federation of services: what MeshPeers, and what peers have told, make of the mesh's services.

A service that is exported gets a mesh name here, too, with its own endpoints: the same name means the same service in every mesh. What a
peer offers and is imported becomes a service behind the peer's gateways, under its mesh name, in a namespace that no cluster can have; so
nothing that is said of a local service of that name and namespace is said of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from isthmus.ingest.allocation import mesh_name_addresses_at, places_of
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
    is_label,
    mesh_name,
)
from isthmus.model.issues import Issue, Severity, Subject
from isthmus.model.names import ClusterId, MeshId, NetworkId, ServiceKey
from isthmus.model.services import Protocol, Service
from isthmus.model.snapshot import MeshSettings
from isthmus.model.topology import ImportState, NetworkGateway
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
) -> Federated:
    """Adds mesh names to both, in place. Peers are those that can be told apart, the oldest first."""
    trusted = [peer for peer in peers if peer.trust_domain in settings.peer_trust_domains]
    issues: list[Issue] = []
    exported: dict[ServiceKey, list[Guests]] = defaultdict(list)
    for peer in trusted:
        found, wrong = _exported(peer, heard.get(peer.mesh), services, settings, config_cluster)
        issues += wrong
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
            for offer, to in _imported(peer, news):
                service = _foreign(offer, peer.mesh, to)
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
    peer: MeshPeer, news: HeardPeer | None, services: Services, settings: MeshSettings, cluster: ClusterId
) -> tuple[dict[ServiceKey, Guests], list[Issue]]:
    """Services with those who may call them: whom the exports name, as far as the peer says that they call."""
    found: dict[ServiceKey, Guests] = {}
    issues: list[Issue] = []
    callers_told = news.offers.identities if news is not None else ()
    if peer.exports and not is_label(settings.mesh):
        what = f"nothing is exported: this mesh's own id, {settings.mesh!r}, cannot be part of a DNS name"
        return {}, [
            _issue(peer, cluster, "ISM0903", what, "set MESH_ID to lower-case letters, digits and '-'", "spec.exports")
        ]
    for index, export in enumerate(peer.exports):
        named = [
            service
            for service in services.values()
            if service.namespace == export.namespace and export.name in (ALL, service.name) and _is_own(service)
        ]
        able = [service for service in named if not _kept_here(service, settings)]
        if export.name != ALL and not able:
            what = f"{export.namespace}/{export.name} is not exported: " + (
                _kept_here(named[0], settings) if named else "there is no such Service"
            )
            fix = "create it, or take the entry out"
            issues.append(_issue(peer, cluster, "ISM0904", what, fix, f"spec.exports.services[{index}]"))
        shared = {both for one in export.callers for other in callers_told if (both := one.shared(other)) is not None}
        for service in able:
            before = found[service.key].callers if service.key in found else ()
            callers = tuple(sorted({*before, *shared}))
            found[service.key] = Guests(mesh=peer.mesh, trust_domain=peer.trust_domain, callers=callers)
    return found, issues


def _is_own(service: Service) -> bool:
    """Declared by a Service, under its first name."""
    first = f"{service.name}.{service.namespace}.svc."
    return service.registry == "Kubernetes" and service.hostname.startswith(first) and not service.pod_of


def _kept_here(service: Service, settings: MeshSettings) -> str:
    """Why a service cannot be exported; nothing if it can."""
    if service.headless:
        return "it is headless: its callers choose Pods by addresses, which mean nothing elsewhere"
    if service.cluster_local:
        return "it is local to each cluster"
    if "~" in (service.export_to or settings.service_export_to):
        return "its exportTo hides it from everybody"
    return ""


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


def _foreign(offer: OfferedService, mesh: MeshId, to: tuple[str, ...]) -> Service:
    name = mesh_name(offer.name, offer.namespace, mesh)
    return Service(
        namespace=foreign_namespace(offer.namespace, mesh),
        hostname=name,
        name=name,
        ports=tuple(port for port in offer.ports if port.protocol is not Protocol.UDP),
        virtual_ips=(),
        headless=False,
        cluster_local=False,
        declared_in=(),
        export_to=to,
        registry="External",
        mesh=mesh,
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


def _issue(peer: MeshPeer, cluster: ClusterId, code: str, what: str, fix: str, field: str) -> Issue:
    subject = Subject(cluster, "MeshPeer", "", peer.name)
    return Issue(subject=subject, code=code, severity=Severity.WARNING, what=what, fix=fix, field=field)
