"""Where requests for one service port may go from one scope, and how much of them: every endpoint reached or left out.

The functions here are given nothing about the caller but its scope, and nothing about other services, so that what they answer is shared by
all the callers and rules for which it is the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from isthmus.discovery.balancing import Reached, Scales, groups_of, scale_of
from isthmus.discovery.destination_rules import is_in
from isthmus.discovery.locality import behind, preference_for, priorities, shared_out
from isthmus.discovery.reachability import is_last, reach
from isthmus.discovery.security import takes_mutual_tls
from isthmus.model.names import ClusterId, ServiceKey
from isthmus.model.origins import Origin
from isthmus.model.services import Protocol, Service, ServicePort
from isthmus.model.snapshot import Snapshot
from isthmus.model.traffic import DestinationRule, Subset, TrafficPolicy
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
    partition = _partition(scope, service, use, snapshot)
    if use.passed_through:
        partition = partition.only_mutual_tls()
    elif scope.kind is ProxyKind.PROXYLESS:
        partition = partition.all_alike()
    preference = preference_for(service, use.policy, snapshot)
    demoted = frozenset([e for e, _ in partition.reached if is_last(scope, e, snapshot)])
    near = behind(priorities(scope, (endpoint for endpoint, _ in partition.reached), preference), demoted)
    own = replace(scales, whole=scale_for(service, snapshot)) if service.mesh else scales
    groups = groups_of(partition.reached, use.port, own, partition.mutual, near)
    shared = shared_out(scope, groups, preference)
    return Spread(
        groups=shared,
        left_out=(*partition.left_out, *(_without_share(partition.reached, shared) if shared is not groups else ())),
        ways=Ways.of(shared),
        locality_weighted=preference is not None,
    )


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
    mutual: frozenset[Endpoint]
    """Those to which callers start mutual TLS."""

    def only_mutual_tls(self) -> _Partition:
        plain = tuple(LeftOut(e, _why_plain(e)) for e, _ in self.reached if e not in self.mutual)
        meshed = tuple((endpoint, how) for endpoint, how in self.reached if endpoint in self.mutual)
        return replace(self, reached=meshed, left_out=(*self.left_out, *plain))

    def all_alike(self) -> _Partition:
        """For a caller that does mutual TLS with all or with none. With none it cannot pass a gateway, which goes by TLS."""
        if all(endpoint in self.mutual for endpoint, _ in self.reached):
            return self
        direct = tuple((endpoint, how) for endpoint, how in self.reached if isinstance(how, Direct))
        why = Unreachable(
            Reason.MIXED_TLS, "other network, and a client without a proxy does mutual TLS with all or none"
        )
        behind = tuple(LeftOut(endpoint, why) for endpoint, how in self.reached if not isinstance(how, Direct))
        return _Partition(direct, (*self.left_out, *behind), frozenset())


def _why_plain(endpoint: Endpoint) -> Unreachable:
    if endpoint.workload.meshed:
        return Unreachable(Reason.MUTUAL_TLS_DISABLED, "a rule turns mutual TLS off, which the gateway passes through")
    return Unreachable(Reason.NOT_MESHED, "no proxy to take part in mutual TLS, which the gateway passes through")


def _partition(scope: Scope, service: Service, use: Use, snapshot: Snapshot) -> _Partition:
    reached: list[Reached] = []
    left_out: list[LeftOut] = []
    for endpoint in snapshot.endpoints.get(service.key, ()):
        how = reach(scope, service, use.port, endpoint, snapshot, use.policy.tls, passed_through=use.passed_through)
        if use.subset is not None and not is_in(use.subset, endpoint):
            how = Unreachable(Reason.NOT_IN_SUBSET, f"its labels are not those of subset {use.subset.name}")
        if isinstance(how, Unreachable):
            left_out.append(LeftOut(endpoint, how))
        else:
            reached.append((endpoint, how))
    name, tls = use.port.name, use.policy.tls
    mutual = frozenset([e for e, _ in reached if takes_mutual_tls(e, e.port_named(name) or 0, snapshot, tls)])
    return _Partition(tuple(reached), tuple(left_out), mutual)


def _without_share(reached: tuple[Reached, ...], groups: tuple[LocalityGroup, ...]) -> Iterator[LeftOut]:
    given = {endpoint for group in groups for to in group.destinations for endpoint in to.stands_for}
    why = Unreachable(Reason.NO_SHARE, "its locality gets no share of the requests from here (distribute)")
    return (LeftOut(endpoint, why) for endpoint, _ in reached if endpoint not in given)
