"""May this proxy reach that endpoint, and how? The only place where an endpoint is left out.

The rules, in the order in which they are asked (Istio's endpoint filters, with the reason kept):

1. the endpoint has the port, matched by name, because numbers may differ between clusters;
2. a cluster-local service stays in its cluster, and so does an endpoint that its cluster does not export; a service that keeps to nodes
   (internalTrafficPolicy) stays on the caller's, but for what a network gateway passes through: its caller is elsewhere;
3. a proxy that asked for some networks gets no others;
4. an endpoint that is going away, or is not ready, takes no new requests; nor does one of another cluster that nobody has heard of for
   longer than the mesh's policy allows;
5. within a network, directly; to another network through its gateways (those of the endpoint's own cluster first), and only with mutual
   TLS, because a gateway tells connections apart by their SNI.
"""

from __future__ import annotations

from isthmus.discovery.families import NONE, family_of
from isthmus.discovery.kinds import Kind
from isthmus.discovery.security import takes_mutual_tls
from isthmus.model.names import UNDECLARED_NETWORK
from isthmus.model.services import Resolution, Service, ServicePort
from isthmus.model.snapshot import Snapshot
from isthmus.model.topology import NetworkGateway, Standing
from isthmus.model.traffic import ClientTls
from isthmus.model.views import Direct, Reach, Reason, Scope, ThroughGateways, Unreachable
from isthmus.model.workloads import Health


def reach(
    scope: Scope,
    service: Service,
    port: ServicePort,
    kind: Kind,
    snapshot: Snapshot,
    tls: ClientTls | None = None,
    *,
    passed_through: bool = False,
) -> Reach:
    """How a proxy of this scope gets to endpoints of this kind, or why it does not. `tls` is what a rule for the destination says, and
    `passed_through` that the proxy is a network gateway, calling for somebody else.
    """
    if kind.port_named(port.name) is None:
        return Unreachable(
            Reason.NO_SUCH_PORT, f"it has no port named {port.name!r}: name the port alike in {kind.cluster}"
        )
    if service.cluster_local and kind.cluster != scope.cluster:
        return Unreachable(Reason.CLUSTER_LOCAL, f"the service is cluster-local, and this is {kind.cluster}")
    if kind.own_cluster_only and kind.cluster != scope.cluster:
        return Unreachable(Reason.NOT_EXPORTED, f"{kind.cluster} has no ServiceExport for the service")
    if scope.cluster in service.node_local_in and not passed_through and not _is_on_node(scope, kind):
        where = f"{kind.node or 'another node'} of {kind.cluster}"
        return Unreachable(Reason.NODE_LOCAL, f"callers of the service stay on their own node, and this is on {where}")
    if scope.network_view and kind.network not in (*scope.network_view, UNDECLARED_NETWORK):
        return Unreachable(
            Reason.NETWORK_NOT_REQUESTED,
            f"the proxy asked for {', '.join(scope.network_view)} only, not {kind.network}",
        )
    if kind.health is Health.TERMINATING:
        return Unreachable(Reason.TERMINATING, "its workload is shutting down")
    if kind.health is Health.UNHEALTHY and not service.publishes_not_ready:
        return Unreachable(Reason.NOT_READY, "its workload is not ready")
    if standing_of(scope, kind, snapshot) is Standing.WITHDRAWN:
        if mesh := kind.mesh:
            since = snapshot.heard[mesh].stale_since
            return Unreachable(Reason.PEER_STALE, f"nothing has been heard of mesh {mesh} since {since}")
        since = snapshot.clusters[kind.cluster].stale_since
        return Unreachable(Reason.CLUSTER_STALE, f"the API server of {kind.cluster} has not answered since {since}")
    return _across_networks(scope, service, port, kind, snapshot, tls)


def _is_on_node(scope: Scope, kind: Kind) -> bool:
    """Nodes of two clusters may have one name. Where a caller's node is not known, nothing is on it."""
    return kind.cluster == scope.cluster and scope.node != "" and kind.node == scope.node


def standing_of(scope: Scope, kind: Kind, snapshot: Snapshot) -> Standing:
    """What an endpoint's cluster counts for a caller of this scope. For its own proxies it always counts in full."""
    if kind.mesh:
        heard = snapshot.heard.get(kind.mesh)
        return heard.standing if heard is not None else Standing.FULL
    cluster = snapshot.clusters.get(kind.cluster)
    if cluster is None or cluster.standing is Standing.FULL or kind.cluster == scope.cluster:
        return Standing.FULL
    return cluster.standing


def is_last(scope: Scope, kind: Kind, snapshot: Snapshot) -> bool:
    """Whether it comes after all others: its cluster has not been heard of for long, or is drained."""
    cluster = snapshot.clusters.get(kind.cluster)
    drained = cluster is not None and cluster.share == 0
    return drained or standing_of(scope, kind, snapshot) is Standing.DEMOTED


def is_left_to_others(scope: Scope, kind: Kind, snapshot: Snapshot) -> bool:
    """Whether a network gateway of this scope passes through to such endpoints only when nothing else is left: callers find them behind the
    gateways of their own cluster. They have chosen among clusters already, by request; a gateway knows connections alone.
    """
    if kind.cluster == scope.cluster and not kind.mesh:
        return False
    gateways = gateways_for(kind, snapshot)
    # One of which no cluster is known may be this one.
    return bool(gateways) and all(gateway.cluster not in ("", scope.cluster) for gateway in gateways)


def _across_networks(
    scope: Scope, service: Service, port: ServicePort, kind: Kind, snapshot: Snapshot, tls: ClientTls | None
) -> Reach:
    gateways = gateways_for(kind, snapshot)
    if _in_network(scope, kind) and not (scope.network == UNDECLARED_NETWORK and gateways):
        return _directly(scope, service, kind)
    if not gateways:
        if snapshot.settings.unreachable_networks_direct and not kind.mesh:
            return _directly(scope, service, kind)
        if mesh := kind.mesh:
            why = f"mesh {mesh} tells no gateway for it: it needs a Service with a gateway port for peers"
            return Unreachable(Reason.NO_GATEWAY, why)
        return Unreachable(Reason.NO_GATEWAY, f"network {kind.network} has no gateway: run one there")
    usable = tuple(gateway for gateway in gateways if family_of(gateway.address) in scope.ip_families)
    if not usable:
        return Unreachable(Reason.NO_USABLE_GATEWAY, f"no gateway of {kind.network} has an {_families(scope)} address")
    if tls not in (None, ClientTls.ISTIO_MUTUAL):
        why = f"other network, and a DestinationRule has callers use no mutual TLS of the mesh ({tls})"
        return Unreachable(Reason.MUTUAL_TLS_DISABLED, why)
    if tls is not ClientTls.ISTIO_MUTUAL and not kind.meshed:
        return Unreachable(Reason.NOT_MESHED, "other network, and no proxy to take part in mutual TLS")
    if not takes_mutual_tls(kind, kind.port_named(port.name) or 0, snapshot, tls):
        return Unreachable(
            Reason.MUTUAL_TLS_DISABLED, "other network, and a PeerAuthentication turns mutual TLS off there"
        )
    return ThroughGateways(usable)


def _in_network(scope: Scope, kind: Kind) -> bool:
    """An undeclared network, on either side, is taken to be the same one; but nobody is on a network of another mesh."""
    if kind.mesh:
        return False
    return UNDECLARED_NETWORK in (scope.network, kind.network) or scope.network == kind.network


def _directly(scope: Scope, service: Service, kind: Kind) -> Reach:
    """Where proxies ask DNS themselves, the address may be a name."""
    family = kind.family
    if family == NONE and not kind.ip:
        return Unreachable(Reason.NO_ADDRESS, "it has no address of its own, only a network")
    if family in scope.ip_families or (family == NONE and service.resolution in (Resolution.DNS, Resolution.DNS_FIRST)):
        return Direct()
    if family == NONE:
        return Unreachable(Reason.NO_ADDRESS, f"{kind.ip!r} is not an IP address")
    return Unreachable(
        Reason.NO_ADDRESS, f"this address of it is IPv{family}, and the proxy has {_families(scope)} only"
    )


def gateways_for(kind: Kind, snapshot: Snapshot) -> tuple[NetworkGateway, ...]:
    """Those of the endpoint's network in its own cluster; where it has none there, all of the network's."""
    if kind.mesh:
        return snapshot.foreign_gateways.get(kind.network, ())
    if kind.network == UNDECLARED_NETWORK:
        return ()
    of_network = snapshot.gateways.get(kind.network, ())
    own = tuple(gateway for gateway in of_network if gateway.cluster == kind.cluster)
    return own or of_network


def _families(scope: Scope) -> str:
    return " and ".join(f"IPv{family}" for family in scope.ip_families)
