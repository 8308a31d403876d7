"""How much goes where: destinations, their weights, and the localities they are grouped by.

Weights are proportional to endpoints, however many gateways stand in front of them: every endpoint counts `scale`, the least common
multiple of the gateway counts of all networks (of clusters within them, and of those that a caller with IPv4 or IPv6 alone can use), so
that an endpoint's share of each of its gateways is whole.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from math import lcm

from isthmus.discovery.families import family_of
from isthmus.discovery.kinds import Kind
from isthmus.model.names import ClusterId, NetworkId
from isthmus.model.topology import Locality, NetworkGateway
from isthmus.model.values import dataclass
from isthmus.model.views import Destination, Direct, LocalityGroup, ThroughGateways
from isthmus.model.workloads import Endpoint, Health

_WEIGHT_MAX = 2**32 - 1


@dataclass(frozen=True, slots=True, eq=False)
class Lot:
    """How endpoints of one kind are reached. `mutual`: callers start mutual TLS. `port` is the number that it has there. `gates`: behind how many
    gateways callers find them, where that differs among what a gateway passes through to; at each they count for their part.
    """

    kind: Kind
    how: Direct | ThroughGateways
    port: int
    mutual: bool
    gates: int = 1


Reached = tuple[Endpoint, Lot]


@dataclass(frozen=True, slots=True)
class Scales:
    """What one endpoint weighs: `whole`, times the share of its cluster where clusters have different ones (percent)."""

    whole: int
    shares: Mapping[ClusterId, int] = field(default_factory=dict)

    def weight(self, endpoint: Endpoint) -> int:
        return endpoint.weight * self.whole * self.shares.get(endpoint.cluster, 1)


def scale_of(gateways: Mapping[NetworkId, tuple[NetworkGateway, ...]]) -> int:
    """What one endpoint weighs: divisible by the number of gateways of any network, and of any cluster in it, in any family."""
    counts: set[int] = set()
    for found in gateways.values():
        families = [family_of(gateway.address) for gateway in found]
        clusters = [gateway.cluster for gateway in found]
        counts.add(len(found))
        for kind in (families, clusters, zip(clusters, families, strict=True)):
            counts |= set(Counter[object](kind).values())
    return lcm(*counts)


def groups_of(
    reached: Sequence[Reached],
    scales: Scales,
    priorities: Mapping[Lot, int],
) -> tuple[LocalityGroup, ...]:
    """Destinations by priority and locality, sorted; in each the direct ones in order, then the gateways by address and port."""
    by_place: dict[tuple[int, Locality], list[Reached]] = defaultdict(list)
    places = {lot: by_place[priority, lot.kind.locality] for lot, priority in priorities.items()}
    for each in reached:
        places[each[1]].append(each)
    groups = []
    for priority, locality in sorted(by_place):
        destinations = _destinations(by_place[priority, locality], scales)
        groups.append(_group(locality, priority, destinations))
    return _within_bounds(groups)


def _group(locality: Locality, priority: int, destinations: tuple[Destination, ...]) -> LocalityGroup:
    weight = sum(destination.weight for destination in destinations)
    return LocalityGroup(locality=locality, priority=priority, weight=weight, destinations=destinations)


def _within_bounds(groups: Sequence[LocalityGroup]) -> tuple[LocalityGroup, ...]:
    """Envoy refuses weights that are more than 2^32 - 1 together: then all become smaller alike, and none becomes 0."""
    whole = sum(group.weight for group in groups)
    if whole <= _WEIGHT_MAX:
        return tuple(groups)
    room = _WEIGHT_MAX - sum(len(group.destinations) for group in groups)

    def smaller(to: Destination) -> Destination:
        return replace(to, weight=max(1, to.weight * room // whole))

    return tuple(_group(group.locality, group.priority, tuple(map(smaller, group.destinations))) for group in groups)


def _destinations(reached: Sequence[Reached], scales: Scales) -> tuple[Destination, ...]:
    direct: list[Destination] = []
    behind: dict[NetworkGateway, list[Endpoint]] = defaultdict(list)
    weights: dict[NetworkGateway, int] = defaultdict(int)
    for endpoint, lot in reached:
        weight = scales.weight(endpoint)
        if isinstance(lot.how, Direct):
            direct.append(_direct(endpoint, lot, max(1, weight // lot.gates)))
        else:
            gateways = lot.how.gateways
            for gateway in gateways:
                behind[gateway].append(endpoint)
                weights[gateway] += weight // len(gateways)
    through = [_through(gateway, tuple(behind[gateway]), weights[gateway]) for gateway in sorted(behind)]
    return tuple(direct + through)


def _direct(endpoint: Endpoint, lot: Lot, weight: int) -> Destination:
    kind = lot.kind
    return Destination(
        address=endpoint.ip,
        port=lot.port,
        weight=weight,
        mutual_tls=lot.mutual,
        health=kind.health,
        cluster=kind.cluster,
        network=kind.network,
        through=None,
        stands_for=(endpoint,),
    )


def _through(gateway: NetworkGateway, behind: tuple[Endpoint, ...], weight: int) -> Destination:
    return Destination(
        address=gateway.address,
        port=gateway.port,
        weight=weight,
        mutual_tls=True,
        health=Health.HEALTHY,
        cluster=gateway.cluster or behind[0].cluster,
        network=gateway.network,
        through=gateway,
        stands_for=behind,
    )
