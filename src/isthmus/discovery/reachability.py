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
from isthmus.discovery.security import takes_mutual_tls
from isthmus.model.names import UNDECLARED_NETWORK
from isthmus.model.services import Resolution, Service, ServicePort
from isthmus.model.snapshot import Snapshot
from isthmus.model.topology import NetworkGateway, Standing
from isthmus.model.traffic import ClientTls
from isthmus.model.views import Direct, Reach, Reason, Scope, ThroughGateways, Unreachable
from isthmus.model.workloads import Endpoint, Health


def reach(
    scope: Scope,
    service: Service,
    port: ServicePort,
    endpoint: Endpoint,
    snapshot: Snapshot,
    tls: ClientTls | None = None,
    *,
    passed_through: bool = False,
) -> Reach:
    """How a proxy of this scope gets to the endpoint, or why it does not. `tls` is what a rule for the destination says, and
    `passed_through` that the proxy is a network gateway, calling for somebody else.
    """
    if endpoint.port_named(port.name) is None:
        return Unreachable(
            Reason.NO_SUCH_PORT, f"it has no port named {port.name!r}: name the port alike in {endpoint.cluster}"
        )
    if service.cluster_local and endpoint.cluster != scope.cluster:
        return Unreachable(Reason.CLUSTER_LOCAL, f"the service is cluster-local, and this is {endpoint.cluster}")
    if endpoint.own_cluster_only and endpoint.cluster != scope.cluster:
        return Unreachable(Reason.NOT_EXPORTED, f"{endpoint.cluster} has no ServiceExport for the service")
    if scope.cluster in service.node_local_in and not passed_through and not _is_on_node(scope, endpoint):
        where = f"{endpoint.workload.node or 'another node'} of {endpoint.cluster}"
        return Unreachable(Reason.NODE_LOCAL, f"callers of the service stay on their own node, and this is on {where}")
    if scope.network_view and endpoint.network not in (*scope.network_view, UNDECLARED_NETWORK):
        return Unreachable(
            Reason.NETWORK_NOT_REQUESTED,
            f"the proxy asked for {', '.join(scope.network_view)} only, not {endpoint.network}",
        )
    if endpoint.health is Health.TERMINATING:
        return Unreachable(Reason.TERMINATING, "its workload is shutting down")
    if endpoint.health is Health.UNHEALTHY and not service.publishes_not_ready:
        return Unreachable(Reason.NOT_READY, "its workload is not ready")
    if standing_of(scope, endpoint, snapshot) is Standing.WITHDRAWN:
        if mesh := endpoint.workload.mesh:
            since = snapshot.heard[mesh].stale_since
            return Unreachable(Reason.PEER_STALE, f"nothing has been heard of mesh {mesh} since {since}")
        since = snapshot.clusters[endpoint.cluster].stale_since
        return Unreachable(Reason.CLUSTER_STALE, f"the API server of {endpoint.cluster} has not answered since {since}")
    return _across_networks(scope, service, port, endpoint, snapshot, tls)


def _is_on_node(scope: Scope, endpoint: Endpoint) -> bool:
    """Nodes of two clusters may have one name. Where a caller's node is not known, nothing is on it."""
    return endpoint.cluster == scope.cluster and scope.node != "" and endpoint.workload.node == scope.node


def standing_of(scope: Scope, endpoint: Endpoint, snapshot: Snapshot) -> Standing:
    """What the endpoint's cluster counts for a caller of this scope. For its own proxies it always counts in full."""
    workload = endpoint.workload
    if workload.mesh:
        heard = snapshot.heard.get(workload.mesh)
        return heard.standing if heard is not None else Standing.FULL
    cluster = snapshot.clusters.get(workload.cluster)
    if cluster is None or cluster.standing is Standing.FULL or workload.cluster == scope.cluster:
        return Standing.FULL
    return cluster.standing


def is_last(scope: Scope, endpoint: Endpoint, snapshot: Snapshot) -> bool:
    """Whether it comes after all others: its cluster has not been heard of for long, or is drained."""
    cluster = snapshot.clusters.get(endpoint.workload.cluster)
    drained = cluster is not None and cluster.share == 0
    return drained or standing_of(scope, endpoint, snapshot) is Standing.DEMOTED


def _across_networks(
    scope: Scope, service: Service, port: ServicePort, endpoint: Endpoint, snapshot: Snapshot, tls: ClientTls | None
) -> Reach:
    gateways = _gateways_for(endpoint, snapshot)
    if _in_network(scope, endpoint) and not (scope.network == UNDECLARED_NETWORK and gateways):
        return _directly(scope, service, endpoint)
    if not gateways:
        if snapshot.settings.unreachable_networks_direct and not endpoint.workload.mesh:
            return _directly(scope, service, endpoint)
        if mesh := endpoint.workload.mesh:
            why = f"mesh {mesh} tells no gateway for it: it needs a Service with a gateway port for peers"
            return Unreachable(Reason.NO_GATEWAY, why)
        return Unreachable(Reason.NO_GATEWAY, f"network {endpoint.network} has no gateway: run one there")
    usable = tuple(gateway for gateway in gateways if family_of(gateway.address) in scope.ip_families)
    if not usable:
        return Unreachable(
            Reason.NO_USABLE_GATEWAY, f"no gateway of {endpoint.network} has an {_families(scope)} address"
        )
    if tls not in (None, ClientTls.ISTIO_MUTUAL):
        why = f"other network, and a DestinationRule has callers use no mutual TLS of the mesh ({tls})"
        return Unreachable(Reason.MUTUAL_TLS_DISABLED, why)
    if tls is not ClientTls.ISTIO_MUTUAL and not endpoint.workload.meshed:
        return Unreachable(Reason.NOT_MESHED, "other network, and no proxy to take part in mutual TLS")
    if not takes_mutual_tls(endpoint, endpoint.port_named(port.name) or 0, snapshot, tls):
        return Unreachable(
            Reason.MUTUAL_TLS_DISABLED, "other network, and a PeerAuthentication turns mutual TLS off there"
        )
    return ThroughGateways(usable)


def _in_network(scope: Scope, endpoint: Endpoint) -> bool:
    """An undeclared network, on either side, is taken to be the same one; but nobody is on a network of another mesh."""
    if endpoint.workload.mesh:
        return False
    return UNDECLARED_NETWORK in (scope.network, endpoint.network) or scope.network == endpoint.network


def _directly(scope: Scope, service: Service, endpoint: Endpoint) -> Reach:
    """Where proxies ask DNS themselves, the address may be a name."""
    family = family_of(endpoint.ip)
    if not endpoint.ip:
        return Unreachable(Reason.NO_ADDRESS, "it has no address of its own, only a network")
    if family in scope.ip_families or (family == NONE and service.resolution in (Resolution.DNS, Resolution.DNS_FIRST)):
        return Direct()
    if family == NONE:
        return Unreachable(Reason.NO_ADDRESS, f"{endpoint.ip!r} is not an IP address")
    return Unreachable(
        Reason.NO_ADDRESS, f"this address of it is IPv{family}, and the proxy has {_families(scope)} only"
    )


def _gateways_for(endpoint: Endpoint, snapshot: Snapshot) -> tuple[NetworkGateway, ...]:
    """Those of the endpoint's network in its own cluster; where it has none there, all of the network's."""
    if endpoint.workload.mesh:
        return snapshot.foreign_gateways.get(endpoint.network, ())
    if endpoint.network == UNDECLARED_NETWORK:
        return ()
    of_network = snapshot.gateways.get(endpoint.network, ())
    own = tuple(gateway for gateway in of_network if gateway.cluster == endpoint.cluster)
    return own or of_network


def _families(scope: Scope) -> str:
    return " and ".join(f"IPv{family}" for family in scope.ip_families)
