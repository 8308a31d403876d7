"""What another mesh is told of this one, and who of another mesh is let in. Both follow from exports alone: no export, no word and no way in."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from isthmus.discovery.kinds import kind_of
from isthmus.discovery.security import takes_mutual_tls
from isthmus.model.federation import (
    PLACE_WEIGHT_MAX,
    ClosedPeer,
    Guests,
    Identities,
    MeshPeer,
    OfferedService,
    Offers,
    Place,
    is_exportable,
    is_label,
    kept_at_home,
)
from isthmus.model.identity import SpiffeId, TrustDomain
from isthmus.model.names import ClusterId, Hostname, NetworkId
from isthmus.model.origins import Origin
from isthmus.model.security import Action, Attribute, Authorization, AuthorizationPolicy, Rule
from isthmus.model.services import Protocol, Service, ServicePort
from isthmus.model.snapshot import Snapshot
from isthmus.model.topology import Locality, Standing
from isthmus.model.values import dataclass
from isthmus.model.workloads import Endpoint, Health

POLICY_PREFIX = "MeshPeer/"
"""Before the MeshPeer's name, in the name of the policy that is made of it. No object's own name can begin so."""


def offers_for(peer: MeshPeer, snapshot: Snapshot) -> Offers:
    """All that the peer is to know. Of a mesh that nobody vouches for, nothing is known and nothing told."""
    if peer.trust_domain not in snapshot.settings.peer_trust_domains:
        return Offers()
    keys = [key for key, found in snapshot.guests.items() if any(guests.mesh == peer.mesh for guests in found)]
    services = [snapshot.services[key] for key in keys]
    return Offers(
        services=tuple(sorted(_offer(service, snapshot) for service in services)),
        gateways=tuple(replace(gateway, cluster=ClusterId("")) for gateway in snapshot.peer_gateways),
        identities=peer.identities,
    )


def _offer(service: Service, snapshot: Snapshot) -> OfferedService:
    ports = tuple(port for port in service.ports if port.protocol is not Protocol.UDP)
    weights: dict[tuple[NetworkId, Locality, SpiffeId], int] = defaultdict(int)
    entered = {gateway.network for gateway in snapshot.peer_gateways}
    for endpoint in snapshot.endpoints.get(service.key, ()):
        identity = endpoint.workload.identity
        is_own = identity is not None and identity.trust_domain == snapshot.settings.trust_domain
        if identity and is_own and endpoint.network in entered and _answers(endpoint, service, ports, snapshot):
            weights[endpoint.network, endpoint.workload.locality, identity] += endpoint.weight
    places = (
        Place(network=network, locality=locality, identity=identity, weight=min(weight, PLACE_WEIGHT_MAX))
        for (network, locality, identity), weight in weights.items()
    )
    return OfferedService(namespace=service.namespace, name=service.name, ports=ports, places=tuple(sorted(places)))


def _answers(endpoint: Endpoint, service: Service, ports: Iterable[ServicePort], snapshot: Snapshot) -> bool:
    """Whether calls from beyond this mesh may come to it: ready, not for its own cluster alone, and in mutual TLS on some port."""
    cluster = snapshot.clusters.get(endpoint.cluster)
    if endpoint.own_cluster_only or (
        cluster is not None and (cluster.standing is Standing.WITHDRAWN or not cluster.share)
    ):
        return False
    if endpoint.health is not Health.HEALTHY and not (
        service.publishes_not_ready and endpoint.health is Health.UNHEALTHY
    ):
        return False
    numbers = (endpoint.port_named(port.name) for port in ports)
    kind = kind_of(endpoint, by_node=False)
    return any(number is not None and takes_mutual_tls(kind, number, snapshot) for number in numbers)


@dataclass(frozen=True, slots=True)
class Untold:
    """Why a mesh name means nothing here: the MeshPeer that says so, if there is one, what it lacks, and the edit that would change it."""

    rule: Origin | None
    detail: str
    edit: str


def untold(host: str, snapshot: Snapshot) -> Untold | None:
    """For a name `NAME.NAMESPACE.MESH.mesh` that is no service. None for a host that is no such name, or is a service."""
    parts = host.lower().rstrip(".").split(".")
    if (
        len(parts) != 4
        or parts[-1] != "mesh"
        or Hostname(".".join(parts)) in {key.hostname for key in snapshot.services}
    ):
        return None
    name, namespace, mesh, _ = parts
    if mesh == snapshot.settings.mesh:
        return _unexported(namespace, name, snapshot)
    peer = next((each for each in snapshot.mesh_peers if each.mesh == mesh), None)
    if peer is None:
        return Untold(None, f"no MeshPeer is for mesh {mesh}", f"create one, if {mesh} is to be known here")
    rule, domain, heard = Origin("MeshPeer", "", peer.name), peer.trust_domain, snapshot.heard.get(peer.mesh)
    if domain not in snapshot.settings.peer_trust_domains:
        edit = f"bring its bundle: isthmus trust import BUNDLE --trust-domain {domain}"
        return Untold(rule, f"nobody vouches for {domain}, the trust domain of mesh {mesh}", edit)
    if heard is None:
        edit = f"see `isthmus peers`: one of {', '.join(peer.control_planes) or 'its spec.controlPlanes'} has to answer"
        return Untold(rule, f"nothing has been heard of mesh {mesh} yet", edit)
    if not any((each.namespace, each.name) == (namespace, name) for each in heard.offers.services):
        edit = f"let mesh {mesh} export it: spec.exports.services of its MeshPeer for {snapshot.settings.mesh}"
        return Untold(rule, f"mesh {mesh} does not offer {namespace}/{name}", edit)
    return Untold(
        rule,
        f"mesh {mesh} offers {namespace}/{name}, and nothing imports it",
        f"add it to spec.imports.services of {rule}",
    )


def _unexported(namespace: str, name: str, snapshot: Snapshot) -> Untold:
    """Why a service of our own has no mesh name."""
    what, default = f"{namespace}/{name}", snapshot.settings.service_export_to
    own = (each for each in snapshot.services.values() if (each.namespace, each.name) == (namespace, name))
    service = next(filter(is_exportable, own), None)
    if service is None:
        return Untold(None, f"there is no Service {what}", "create it")
    if not is_label(mesh := snapshot.settings.mesh):
        return Untold(None, f"the mesh's id, {mesh}, cannot be part of a DNS name", "set another MESH_ID")
    rule = service.origin
    if why := kept_at_home(service, default):
        return Untold(rule, f"Service {what} cannot be exported: {why}", "export another Service for the same Pods")
    peers = [peer for peer in snapshot.mesh_peers if any(export.means(service) for export in peer.exports)]
    if not peers:
        edit = "add it to spec.exports.services of a MeshPeer, if it should be"
        return Untold(None, f"no MeshPeer exports {what}", edit)
    domain, rule = peers[0].trust_domain, Origin("MeshPeer", "", peers[0].name)
    edit = f"bring its bundle: isthmus trust import BUNDLE --trust-domain {domain}"
    return Untold(rule, f"{rule} exports {what}, but nobody vouches for {domain}", edit)


def with_guests(
    authorization: Authorization, served: Mapping[int, frozenset[Guests]], snapshot: Snapshot
) -> Authorization:
    """Beside the workload's own policies: of each peer's identities, none may call but those that an export of the port admits.

    `served` are the workload's ports with those that they are exported to. What own policies deny stays denied.
    """
    if not (snapshot.mesh_peers or snapshot.closed_peers):
        return authorization
    guards = [_guard(peer, _admitted(peer, served), snapshot) for peer in sorted(snapshot.mesh_peers)]
    guards += [_guard(peer, {}, snapshot) for peer in snapshot.closed_peers]
    return replace(authorization, policies=(*authorization.policies, *guards))


def _admitted(peer: MeshPeer, served: Mapping[int, frozenset[Guests]]) -> dict[int, list[Identities]]:
    callers = {number: sorted(_callers(peer, found)) for number, found in sorted(served.items())}
    return {number: found for number, found in callers.items() if found}


def _guard(
    peer: MeshPeer | ClosedPeer, admitted: Mapping[int, list[Identities]], snapshot: Snapshot
) -> AuthorizationPolicy:
    return AuthorizationPolicy(
        action=Action.DENY,
        namespace=snapshot.settings.root_namespace,
        name=f"{POLICY_PREFIX}{peer.name}",
        selector=(),
        rules=tuple(_rules(peer.trust_domain, admitted)),
        dry_run=False,
    )


def _callers(peer: MeshPeer, found: Iterable[Guests]) -> set[Identities]:
    return {caller for guests in found if guests.mesh == peer.mesh for caller in guests.callers}


def _rules(trust_domain: TrustDomain, admitted: Mapping[int, list[Identities]]) -> Iterator[Rule]:
    """What is denied: each exported port to all but its guests, every other port to all."""
    domain = Attribute("trust_domains", (str(trust_domain),))
    for number, callers in admitted.items():
        others = Attribute("identities", not_values=tuple(caller.of(trust_domain) for caller in callers))
        yield Rule(sources=((domain, others),), operations=((Attribute("ports", (str(number),)),),))
    elsewhere = Attribute("ports", not_values=tuple(map(str, admitted)))
    yield Rule(sources=((domain,),), operations=((elsewhere,),) if admitted else ())
