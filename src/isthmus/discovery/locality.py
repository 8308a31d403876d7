"""Near before far: which endpoints come first for a caller, and how a caller's place shares out its requests.

Istio's locality load balancing. Priorities are given to endpoints, before gateways stand in for them, so a gateway that has near and far
endpoints behind it is there once for each: what is known of a workload is not lost behind its gateway.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from isthmus.discovery.callers import labels_of_place
from isthmus.discovery.kinds import HOSTNAME, Kind
from isthmus.model.services import Service
from isthmus.model.snapshot import Snapshot
from isthmus.model.topology import Locality
from isthmus.model.traffic import LocalityPreference, Nearness, TrafficPolicy
from isthmus.model.views import LocalityGroup, Scope

_REGION, _ZONE, _SUBZONE = "topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone"
_NETWORK = "topology.istio.io/network"
_CLOSE = {
    "PreferClose": (_NETWORK, _REGION, _ZONE),
    "PreferSameZone": (_NETWORK, _REGION, _ZONE),
    "PreferSameNode": (_NETWORK, _REGION, _ZONE, _SUBZONE, HOSTNAME),
}


def preference_for(service: Service, policy: TrafficPolicy, snapshot: Snapshot) -> LocalityPreference | None:
    """What holds: the DestinationRule's, the Service's trafficDistribution, the mesh's. None where all endpoints are alike.

    Failover needs outlier detection, as in Istio, because a mesh that had none has its requests spread evenly until somebody asks for
    more. A Service's own trafficDistribution asks, and so does a wish (of the rule, else of the service, else of the mesh); what notices
    that the near ones are gone is then this mesh's own default.
    """
    wishes = policy.wishes.over(service.wishes).over(snapshot.settings.wishes)
    found = _by_place(service, policy, snapshot, asked=bool(wishes.fails_over))
    if not wishes.own_cluster_first:
        return found
    return replace(found or LocalityPreference(nearness=Nearness.NONE), own_cluster_first=True)


def _by_place(service: Service, policy: TrafficPolicy, snapshot: Snapshot, *, asked: bool) -> LocalityPreference | None:
    said = policy.locality
    if said is None and service.traffic_distribution in _CLOSE:
        return LocalityPreference(failover_priority=_CLOSE[service.traffic_distribution])
    found = said or snapshot.settings.locality
    if not found.enabled:
        return None
    noticed = asked or policy.outliers is not None or found.nearness is Nearness.REGION
    return found if found.distribute or noticed else None


def priorities(
    scope: Scope, kinds: Sequence[Kind], preference: LocalityPreference | None, lateness: Sequence[int]
) -> list[int]:
    """Of each kind: 0 comes first; the numbers have no gaps, as Envoy demands. Whatever their places, the later kinds by `lateness` come
    after the earlier; among themselves they keep their order.
    """
    if preference is None or _shares(scope, preference):
        if not any(lateness):
            return [0] * len(kinds)
        ranks = [(late, (False, 0)) for late in lateness]
    else:
        ranks = [(late, _rank(scope, kind, preference)) for kind, late in zip(kinds, lateness, strict=True)]
    order = {rank: priority for priority, rank in enumerate(sorted(set(ranks)))}
    return [order[rank] for rank in ranks]


def asks_for_nodes(preference: LocalityPreference | None) -> bool:
    """Whether it matters on which node an endpoint is."""
    return preference is not None and any(label.startswith(HOSTNAME) for label in preference.failover_priority)


def shared_out(
    scope: Scope, groups: tuple[LocalityGroup, ...], preference: LocalityPreference | None
) -> tuple[LocalityGroup, ...]:
    """Groups with the shares that `distribute` gives to their places. A place that gets nothing is not in the answer."""
    shares = _shares(scope, preference) if preference else ()
    if not shares:
        return groups
    found: dict[int, int] = {}
    for place, percent in shares:
        there = [index for index, group in enumerate(groups) if index not in found and _is_in(group.locality, place)]
        whole = sum(groups[index].weight for index in there)
        for index in there:
            # In tenths of a percent, so that small places of a large share do not vanish.
            found[index] = max(1, round(percent * 10 * groups[index].weight / whole))
    kept = sorted({groups[index].priority for index in found})
    return tuple(
        replace(groups[index], weight=weight, priority=kept.index(groups[index].priority))
        for index, weight in sorted(found.items())
    )


def _shares(scope: Scope, preference: LocalityPreference) -> tuple[tuple[str, int], ...]:
    """Of the first entry that the caller's place is in."""
    return next((shares for place, shares in preference.distribute if _is_in(scope.locality, place)), ())


def _rank(scope: Scope, kind: Kind, preference: LocalityPreference) -> tuple[bool, int]:
    elsewhere = preference.own_cluster_first and kind.cluster != scope.cluster
    return elsewhere, _distance(scope, kind, preference)


def _distance(scope: Scope, kind: Kind, preference: LocalityPreference) -> int:
    if preference.nearness is Nearness.NONE:
        return 0
    here, there = scope.locality, kind.locality
    if preference.failover_priority:
        elsewhere = preference.nearness is Nearness.REGION and here.region != there.region
        labels = preference.failover_priority
        return _by_labels(scope, kind, labels) + (2 * len(labels) if elsewhere else 0)
    distance = 3
    if here.region == there.region and preference.nearness is Nearness.REGION:
        distance = 0
    elif here.region == there.region:
        distance = 2 if here.zone != there.zone else 1 if here.subzone != there.subzone else 0
    wanted = dict(preference.failover).get(here.region)
    return 4 if distance == 3 and wanted is not None and there.region != wanted else distance


def _by_labels(scope: Scope, kind: Kind, labels: Sequence[str]) -> int:
    """The more of the leading labels are the caller's own, the nearer. Where the network comes first, another one comes after everything
    nearby, and there the other labels still tell near from far.
    """
    own = labels_of_place(scope)
    theirs = kind.all_labels()

    def is_own(label: str) -> bool:
        name, said, value = label.partition("=")
        return theirs.get(name, "") == (value if said else own.get(name, ""))

    elsewhere = labels[0].partition("=")[0] == _NETWORK and not is_own(labels[0])
    compared = labels[1:] if elsewhere else labels
    matching = next((index for index, label in enumerate(compared) if not is_own(label)), len(labels))
    distance = 0 if matching == len(labels) else len(labels) - matching
    return distance + (len(labels) if elsewhere else 0)


def _is_in(locality: Locality, place: str) -> bool:
    """`*`, `region`, `region/*`, `region/zone`, … ."""
    parts = place.split("/")
    own = (locality.region, locality.zone, locality.subzone)
    for index, part in enumerate(parts):
        if part == "*":
            return True
        if index >= len(own) or own[index] != part:
            return False
    return True
