"""Which endpoints of an upstream take which share of requests: priorities, localities and weights, as Envoy adds them up.

A priority takes 140 % (the overprovisioning factor) of what is healthy in it, up to everything; what remains goes to the next one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from isthmus.model.values import dataclass

Object = Mapping[str, Any]

_OVERPROVISIONING = 140
PLAIN = "plaintext"
_TLS_MATCH = "envoy.transport_socket_match"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """An address of an upstream. `percent` is its share of the upstream's requests; `workload` as its metadata names it."""

    address: str
    port: int
    priority: int
    locality: str
    weight: int
    percent: float
    healthy: bool
    workload: str
    socket: str
    """Which of the upstream's transport sockets it is spoken to by: `tlsMode-istio` is mutual TLS, `PLAIN` none of them; empty, its only one."""


def endpoints_of(upstream: Object, assignments: Mapping[str, Object]) -> list[Object]:
    """The LocalityLbEndpoints of an upstream, by whichever way it has them."""
    if upstream.get("type") == "EDS":
        name = upstream.get("edsClusterConfig", {}).get("serviceName") or upstream["name"]
        return list(assignments.get(name, {}).get("endpoints", ()))
    return list(upstream.get("loadAssignment", {}).get("endpoints", ()))


def shares(upstream: Object, groups: Sequence[Object]) -> tuple[Chosen, ...]:
    """Every endpoint with its share, the busiest first."""
    loads = _priority_loads(groups)
    weighted = "localityWeightedLbConfig" in upstream.get("commonLbConfig", {})
    found: list[Chosen] = []
    for priority, load in sorted(loads.items()):
        here = [group for group in groups if int(group.get("priority", 0)) == priority]
        parts = _locality_parts(here) if weighted else None
        whole = sum(_weight(each) for group in here for each in _healthy(group))
        for index, group in enumerate(here):
            own = sum(map(_weight, _healthy(group)))
            for each in group.get("lbEndpoints", ()):
                part = 0.0
                if _is_healthy(each):
                    part = _weight(each) / whole if parts is None else parts[index] * _weight(each) / own
                found.append(_chosen(upstream, group, each, load * part))
    return tuple(sorted(found, key=lambda each: (each.priority, -each.percent, each.address, each.port)))


def _priority_loads(groups: Sequence[Object]) -> dict[int, float]:
    """Percent for each priority. Where nothing at all is healthy, nothing takes anything: panic is off in every upstream of ours."""
    health: dict[int, float] = {}
    for priority in sorted({int(group.get("priority", 0)) for group in groups}):
        every = [
            e for group in groups if int(group.get("priority", 0)) == priority for e in group.get("lbEndpoints", ())
        ]
        healthy = sum(map(_is_healthy, every))
        health[priority] = min(100, _OVERPROVISIONING * healthy / len(every)) if every else 0
    whole = min(100, sum(health.values()))
    loads, left = {}, 100.0
    for priority, available in health.items():
        loads[priority] = min(left, available * 100 / whole) if whole else 0.0
        left -= loads[priority]
    return loads


def _locality_parts(groups: Sequence[Object]) -> list[float]:
    """Of the localities of one priority: their weights, less what is not healthy in them beyond the overprovisioning."""
    effective = []
    for group in groups:
        every = group.get("lbEndpoints", ())
        available = min(1.0, _OVERPROVISIONING / 100 * len(_healthy(group)) / len(every)) if every else 0.0
        effective.append(int(group.get("loadBalancingWeight", 0)) * available)
    whole = sum(effective)
    return [each / whole if whole else 0.0 for each in effective]


def _healthy(group: Object) -> list[Object]:
    return [each for each in group.get("lbEndpoints", ()) if _is_healthy(each)]


def _is_healthy(endpoint: Object) -> bool:
    return endpoint.get("healthStatus", "UNKNOWN") in ("UNKNOWN", "HEALTHY")


def _weight(endpoint: Object) -> int:
    return int(endpoint.get("loadBalancingWeight", 1))


def _chosen(upstream: Object, group: Object, endpoint: Object, percent: float) -> Chosen:
    address = endpoint.get("endpoint", {}).get("address", {})
    place = address.get("socketAddress", {"address": address.get("pipe", {}).get("path", ""), "portValue": 0})
    metadata = endpoint.get("metadata", {}).get("filterMetadata", {})
    where = group.get("locality", {})
    return Chosen(
        address=str(place.get("address", "")),
        port=int(place.get("portValue", 0)),
        priority=int(group.get("priority", 0)),
        locality="/".join(filter(None, (where.get(key) for key in ("region", "zone", "subZone")))),
        weight=_weight(endpoint),
        percent=percent,
        healthy=_is_healthy(endpoint),
        workload=str(metadata.get("istio", {}).get("workload", "")),
        socket=_socket(upstream, metadata.get(_TLS_MATCH, {})),
    )


def _socket(upstream: Object, said: Object) -> str:
    """The first of the upstream's sockets whose every key the endpoint has; where it has none of several, plaintext."""
    matches = upstream.get("transportSocketMatches", ())
    for each in matches:
        if all(said.get(key) == value for key, value in each.get("match", {}).items()):
            return str(each.get("name", ""))
    return PLAIN if matches else ""
