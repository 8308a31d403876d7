"""Where requests for one service port may go from one scope, and how much of them: every endpoint reached or left out.

The functions here are given nothing about the caller but its scope, and nothing about other services, so that what they answer is shared by
all the callers and rules for which it is the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from isthmus.discovery.balancing import Reached, groups_of, scale_of
from isthmus.discovery.destination_rules import is_in
from isthmus.discovery.locality import behind, preference_for, priorities, shared_out
from isthmus.discovery.reachability import reach, standing_of
from isthmus.discovery.security import takes_mutual_tls
from isthmus.model.services import Service, ServicePort
from isthmus.model.snapshot import Snapshot
from isthmus.model.topology import Standing
from isthmus.model.traffic import Subset, TrafficPolicy
from isthmus.model.views import LeftOut, LocalityGroup, Reason, Scope, Unreachable
from isthmus.model.workloads import Endpoint


@dataclass(frozen=True, slots=True)
class Spread:
    """`groups` and `left_out` partition the service's endpoints. `locality_weighted`: places are weighed against each other."""

    groups: tuple[LocalityGroup, ...]
    left_out: tuple[LeftOut, ...]
    locality_weighted: bool


def spread(
    scope: Scope,
    service: Service,
    port: ServicePort,
    policy: TrafficPolicy,
    subset: Subset | None,
    snapshot: Snapshot,
) -> Spread:
    """For callers in the mesh."""
    return _spread(scope, _partition(scope, service, port, snapshot, policy, subset), snapshot)


def spread_passed_through(
    scope: Scope,
    service: Service,
    port: ServicePort,
    policy: TrafficPolicy,
    subset: Subset | None,
    snapshot: Snapshot,
) -> Spread:
    """For a gateway that passes TLS through. It cannot start TLS itself, so only to endpoints that take part in the mesh's."""
    return _spread(scope, _partition(scope, service, port, snapshot, policy, subset).only_mutual_tls(), snapshot)


@dataclass(frozen=True, slots=True)
class _Partition:
    """Every endpoint of a service port: reached, or left out with its reason."""

    service: Service
    port: ServicePort
    policy: TrafficPolicy
    reached: tuple[Reached, ...]
    left_out: tuple[LeftOut, ...]
    mutual: frozenset[Endpoint]
    """Those to which callers start mutual TLS."""

    def only_mutual_tls(self) -> _Partition:
        plain = tuple(LeftOut(e, _why_plain(e)) for e, _ in self.reached if e not in self.mutual)
        meshed = tuple((endpoint, how) for endpoint, how in self.reached if endpoint in self.mutual)
        return replace(self, reached=meshed, left_out=(*self.left_out, *plain))


def _why_plain(endpoint: Endpoint) -> Unreachable:
    if endpoint.workload.meshed:
        return Unreachable(Reason.MUTUAL_TLS_DISABLED, "a rule turns mutual TLS off, which the gateway passes through")
    return Unreachable(Reason.NOT_MESHED, "no proxy to take part in mutual TLS, which the gateway passes through")


def _partition(
    scope: Scope,
    service: Service,
    port: ServicePort,
    snapshot: Snapshot,
    policy: TrafficPolicy,
    subset: Subset | None,
) -> _Partition:
    reached: list[Reached] = []
    left_out: list[LeftOut] = []
    for endpoint in snapshot.endpoints.get(service.key, ()):
        how = reach(scope, service, port, endpoint, snapshot, policy.tls)
        if subset is not None and not is_in(subset, endpoint):
            how = Unreachable(Reason.NOT_IN_SUBSET, f"its labels are not those of subset {subset.name}")
        if isinstance(how, Unreachable):
            left_out.append(LeftOut(endpoint, how))
        else:
            reached.append((endpoint, how))
    mutual = frozenset(e for e, _ in reached if takes_mutual_tls(e, e.port_named(port.name) or 0, snapshot, policy.tls))
    return _Partition(service, port, policy, tuple(reached), tuple(left_out), mutual)


def _spread(scope: Scope, partition: _Partition, snapshot: Snapshot) -> Spread:
    preference = preference_for(partition.service, partition.policy, snapshot)
    demoted = frozenset(e for e, _ in partition.reached if standing_of(scope, e, snapshot) is Standing.DEMOTED)
    near = behind(priorities(scope, (endpoint for endpoint, _ in partition.reached), preference), demoted)
    groups = groups_of(partition.reached, partition.port, scale_of(snapshot.gateways), partition.mutual, near)
    shared = shared_out(scope, groups, preference)
    return Spread(
        groups=shared,
        left_out=(*partition.left_out, *_without_share(partition.reached, shared)),
        locality_weighted=preference is not None,
    )


def _without_share(reached: tuple[Reached, ...], groups: tuple[LocalityGroup, ...]) -> Iterator[LeftOut]:
    given = {endpoint for group in groups for to in group.destinations for endpoint in to.stands_for}
    why = Unreachable(Reason.NO_SHARE, "its locality gets no share of the requests from here (distribute)")
    return (LeftOut(endpoint, why) for endpoint, _ in reached if endpoint not in given)
