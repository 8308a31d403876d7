"""Where requests for one service port may go from one scope, and how much of them: every endpoint reached or left out.

The functions here are given nothing about the caller but its scope, and nothing about other services, so that what they answer is shared by
all the callers and rules for which it is the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from isthmus.discovery.balancing import Lot, Reached, Scales, groups_of, scale_of
from isthmus.discovery.destination_rules import is_in
from isthmus.discovery.kinds import HOSTNAME, Kind, kind_of
from isthmus.discovery.locality import asks_for_nodes, preference_for, priorities, shared_out
from isthmus.discovery.reachability import gateways_for, is_last, is_left_to_others, reach
from isthmus.discovery.security import takes_mutual_tls
from isthmus.model.names import ClusterId, ServiceKey
from isthmus.model.origins import Origin
from isthmus.model.services import Protocol, Service, ServicePort
from isthmus.model.snapshot import Snapshot
from isthmus.model.traffic import DestinationRule, LocalityPreference, Subset, TrafficPolicy
from isthmus.model.values import dataclass
from isthmus.model.views import (
    Direct,
    LeftOut,
    LocalityGroup,
    ProxyKind,
    Reason,
    Scope,
    Unreachable,
    Ways,
    sni_name,
    upstream_name,
)
from isthmus.model.workloads import Endpoint


@dataclass(frozen=True, slots=True)
class Use:
    """A service port as some callers use it: under one policy, all of it or one subset.

    `passed_through`: by a network gateway, which cannot start TLS itself, so only endpoints that take part in the mesh's count.
    """

    service: ServiceKey
    port: ServicePort
    policy: TrafficPolicy
    subset: Subset | None
    rule: Origin | None = None
    """The DestinationRule that policy and subset are of."""
    passed_through: bool = False

    def __hash__(self) -> int:
        """By what tells most uses apart: a policy is large."""
        return hash((self.service.hostname, self.port.number, self.subset.name if self.subset else ""))

    @property
    def name(self) -> str:
        """Of the upstream that it becomes; of what is passed through, the SNI."""
        name = sni_name if self.passed_through else upstream_name
        return name(self.port.number, self.subset.name if self.subset else "", self.service.hostname)


@dataclass(frozen=True, slots=True)
class Spread:
    """`groups` and `left_out` partition the service's endpoints. `locality_weighted`: places are weighed against each other."""

    groups: tuple[LocalityGroup, ...]
    left_out: tuple[LeftOut, ...]
    ways: Ways
    locality_weighted: bool


def uses_of(
    service: Service,
    ports: Iterable[ServicePort],
    rule: DestinationRule | None,
    mesh: TrafficPolicy,
    *,
    passed_through: bool = False,
) -> Iterator[Use]:
    """Each of the ports whole and then by subset, as the rule has them, else the mesh. UDP is never one."""
    for port in ports:
        if port.protocol is not Protocol.UDP:
            for subset in (None, *(rule.subsets if rule else ())):
                own = rule.policy_for(port.number, subset) if rule else TrafficPolicy()
                policy = own.with_defaults(mesh)
                yield Use(service.key, port, policy, subset, rule.origin if rule else None, passed_through)


def spread(scope: Scope, use: Use, snapshot: Snapshot, scales: Scales) -> Spread:
    """Every endpoint of the service has its place, or a reason. `scales` are what `scales_of` says of the snapshot."""
    service = snapshot.services[use.service]
    preference = preference_for(service, use.policy, snapshot)
    partition = _partition(scope, service, use, snapshot, by_node=_asks_for_nodes(service, use, preference))
    if use.passed_through:
        partition = partition.only_mutual_tls().by_gates(snapshot)
    elif scope.kind is ProxyKind.PROXYLESS:
        partition = partition.all_alike()
    lots = list(dict.fromkeys([lot for _, lot in partition.reached]))
    kinds = [lot.kind for lot in lots]
    lateness = [_lateness(scope, use, kind, snapshot) for kind in kinds]
    near = dict(zip(lots, priorities(scope, kinds, preference, lateness), strict=True))
    own = replace(scales, whole=scale_for(service, snapshot)) if service.mesh else scales
    groups = groups_of(partition.reached, own, near)
    shared = shared_out(scope, groups, preference)
    return Spread(
        groups=shared,
        left_out=(*partition.left_out, *(_without_share(partition.reached, shared) if shared is not groups else ())),
        ways=Ways.of(shared),
        locality_weighted=preference is not None,
    )


def _lateness(scope: Scope, use: Use, kind: Kind, snapshot: Snapshot) -> int:
    """What is drained, or not heard of for long, comes after what is another gateway's to pass through to."""
    is_others = use.passed_through and is_left_to_others(scope, kind, snapshot)
    return 2 * is_last(scope, kind, snapshot) + is_others


def _asks_for_nodes(service: Service, use: Use, preference: LocalityPreference | None) -> bool:
    """Whether it matters on which node an endpoint is. Where it does not, endpoints of all nodes are decided for together."""
    of_subset = use.subset is not None and any(key == HOSTNAME for key, _ in use.subset.labels)
    return bool(service.node_local_in) or of_subset or asks_for_nodes(preference)


def scales_of(snapshot: Snapshot) -> Scales:
    """What endpoints of this mesh's services weigh: the same for all of them."""
    return Scales(scale_of(snapshot.gateways), _shares(snapshot))


def scale_for(service: Service, snapshot: Snapshot) -> int:
    """What one endpoint of the service weighs. How many gateways another mesh has is no matter of this mesh's own weights."""
    if not service.mesh:
        return scale_of(snapshot.gateways)
    networks = {endpoint.network for endpoint in snapshot.endpoints.get(service.key, ())}
    return scale_of({network: snapshot.foreign_gateways.get(network, ()) for network in networks})


def _shares(snapshot: Snapshot) -> dict[ClusterId, int]:
    """Of every cluster, while some are on their way to being drained, or back."""
    partly = any(0 < cluster.share < 100 for cluster in snapshot.clusters.values())
    return {cluster.id: cluster.share or 100 for cluster in snapshot.clusters.values()} if partly else {}


@dataclass(frozen=True, slots=True)
class _Partition:
    """Every endpoint of a service port: reached, or left out with its reason."""

    reached: tuple[Reached, ...]
    left_out: tuple[LeftOut, ...]

    def only_mutual_tls(self) -> _Partition:
        plain = tuple(LeftOut(endpoint, _why_plain(endpoint)) for endpoint, lot in self.reached if not lot.mutual)
        meshed = tuple(each for each in self.reached if each[1].mutual)
        return _Partition(meshed, (*self.left_out, *plain))

    def by_gates(self, snapshot: Snapshot) -> _Partition:
        """For a network gateway: behind how many gateways callers find each, where it is not the same number."""
        lots = {lot for _, lot in self.reached if isinstance(lot.how, Direct)}
        gates = {lot: len(gateways_for(lot.kind, snapshot)) or 1 for lot in lots}
        if len(set(gates.values())) < 2:
            return self
        counted = {lot: replace(lot, gates=count) for lot, count in gates.items()}
        return replace(self, reached=tuple((endpoint, counted.get(lot, lot)) for endpoint, lot in self.reached))

    def all_alike(self) -> _Partition:
        """For a caller that does mutual TLS with all or with none. With none it cannot pass a gateway, which goes by TLS."""
        if all(lot.mutual for _, lot in self.reached):
            return self
        lots = {lot: replace(lot, mutual=False) for _, lot in self.reached if isinstance(lot.how, Direct)}
        why = Unreachable(
            Reason.MIXED_TLS, "other network, and a client without a proxy does mutual TLS with all or none"
        )
        behind = tuple(LeftOut(endpoint, why) for endpoint, lot in self.reached if lot not in lots)
        direct = tuple((endpoint, lots[lot]) for endpoint, lot in self.reached if lot in lots)
        return _Partition(direct, (*self.left_out, *behind))


def _why_plain(endpoint: Endpoint) -> Unreachable:
    if endpoint.workload.meshed:
        return Unreachable(Reason.MUTUAL_TLS_DISABLED, "a rule turns mutual TLS off, which the gateway passes through")
    return Unreachable(Reason.NOT_MESHED, "no proxy to take part in mutual TLS, which the gateway passes through")


def _partition(scope: Scope, service: Service, use: Use, snapshot: Snapshot, *, by_node: bool) -> _Partition:
    decided: dict[Kind, Lot | Unreachable] = {}
    reached: list[Reached] = []
    left_out: list[LeftOut] = []
    for endpoint in snapshot.endpoints.get(service.key, ()):
        kind = kind_of(endpoint, by_node=by_node)
        found = decided.get(kind)
        if found is None:
            found = decided[kind] = _lot(scope, service, use, kind, snapshot)
        if isinstance(found, Lot):
            reached.append((endpoint, found))
        else:
            left_out.append(LeftOut(endpoint, found))
    return _Partition(tuple(reached), tuple(left_out))


def _lot(scope: Scope, service: Service, use: Use, kind: Kind, snapshot: Snapshot) -> Lot | Unreachable:
    tls = use.policy.tls
    how = reach(scope, service, use.port, kind, snapshot, tls, passed_through=use.passed_through)
    if use.subset is not None and not is_in(use.subset, kind):
        return Unreachable(Reason.NOT_IN_SUBSET, f"its labels are not those of subset {use.subset.name}")
    if isinstance(how, Unreachable):
        return how
    port = kind.port_named(use.port.name) or 0
    return Lot(kind, how, port, takes_mutual_tls(kind, port, snapshot, tls))


def _without_share(reached: tuple[Reached, ...], groups: tuple[LocalityGroup, ...]) -> Iterator[LeftOut]:
    given = {endpoint for group in groups for to in group.destinations for endpoint in to.stands_for}
    why = Unreachable(Reason.NO_SHARE, "its locality gets no share of the requests from here (distribute)")
    return (LeftOut(endpoint, why) for endpoint, _ in reached if endpoint not in given)
