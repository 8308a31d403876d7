"""Endpoints: an upstream's destinations as a ClusterLoadAssignment, spliced from hand-encoded parts.

Envoy keeps one host for each address of an upstream: of a gateway listed in two localities, or at two priorities, the first entry counts and
the weight of the others is lost (measured, 1.40). So each address is written once, at its best priority, with the weight that all its
entries there have together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, assert_never

from isthmus.envoy.resources import Resource
from isthmus.envoy.wire import block, number, text, varint
from isthmus.model.names import ClusterId, NetworkId
from isthmus.model.telemetry import canonical_name, canonical_revision
from isthmus.model.topology import Locality, NetworkGateway
from isthmus.model.values import dataclass
from isthmus.model.views import Destination, LocalityGroup
from isthmus.model.workloads import Health

_WEIGHT_MAX = 2**32 - 1
_HEALTHY = 0
_HEALTH_NAMES = {Health.UNHEALTHY: "UNHEALTHY", Health.TERMINATING: "DRAINING"}


@dataclass(frozen=True, slots=True)
class _Group:
    """What is left of a locality group once each address is counted once: destinations with their whole weight."""

    locality: Locality
    priority: int
    weighted: tuple[tuple[Destination, int], ...]
    weight: int
    """Of the locality among others of its priority."""


def endpoints_of(groups: Sequence[LocalityGroup], name: str) -> Resource:
    """An upstream's endpoints under the name that its cluster asks for them. Empty, not absent, when there are none."""
    body = text(1, name) + b"".join(block(2, _locality(group)) for group in _each_address_once(groups))
    return Resource.of_bytes(name, body)


def document_of_endpoints(groups: Sequence[LocalityGroup], name: str) -> dict[str, Any]:
    """The same as proto3 JSON, as people read it. A law in tests/envoy/test_endpoints.py holds it equal to what is sent."""
    found: dict[str, Any] = {"clusterName": name}
    localities = [_locality_as_json(group) for group in _each_address_once(groups)]
    return found | {"endpoints": localities} if localities else found


def _locality_as_json(group: _Group) -> dict[str, Any]:
    of, priority = group.locality, group.priority
    named = (("region", of.region), ("zone", of.zone), ("subZone", of.subzone))
    return {
        "locality": {key: value for key, value in named if value},
        "lbEndpoints": [_destination_as_json(destination, weight) for destination, weight in group.weighted],
        "loadBalancingWeight": group.weight,
        **({"priority": priority} if priority else {}),
    }


def _destination_as_json(destination: Destination, weight: int) -> dict[str, Any]:
    told = {"istio": {"workload": _workload(destination)}}
    if destination.mutual_tls:
        told = {"envoy.transport_socket_match": {"tlsMode": "istio"}} | told
    where = {"address": destination.address, "portValue": destination.port}
    health = _HEALTH_NAMES.get(destination.health)
    return {
        "endpoint": {"address": {"socketAddress": where}},
        **({"healthStatus": health} if health else {}),
        "metadata": {"filterMetadata": told},
        "loadBalancingWeight": weight,
    }


class _Place(NamedTuple):
    """A locality group without the addresses of gateways. `share`: the weight that it was given, 0 for that of what is in it."""

    head: bytes
    """Locality and direct destinations."""
    priority: int
    weight: int
    """Of the direct ones."""
    share: int
    through: tuple[tuple[NetworkGateway, ClusterId, int], ...]
    """Stand-ins for gateways, with cluster and weight."""


@dataclass(frozen=True, slots=True)
class Sketch:
    """An upstream's endpoints, encoded up to the addresses of gateways. `direct` are addresses of others."""

    name: str
    places: tuple[_Place, ...]
    direct: tuple[str, ...]
    fits: bool = True
    """Whether addresses are all that is missing: each endpoint has its own, and weights are within Envoy's limit."""

    @property
    def networks(self) -> frozenset[NetworkId]:
        """Whose gateways it takes."""
        return frozenset([gateway.network for place in self.places for gateway, _, _ in place.through])

    def at(self, doors: Mapping[NetworkGateway, NetworkGateway]) -> Resource | None:
        """With gateways in the place of their stand-ins, each written once. None where more than addresses is missing."""
        weights = self._weights(doors) if self.fits else None
        if weights is None:
            return None
        body = [text(1, self.name)]
        for place in self.places:
            found, whole = [place.head], place.weight
            ordered = [((to := doors[stand_in]).address, to.port, cluster) for stand_in, cluster, _ in place.through]
            for address, port, cluster in sorted(ordered) if len(ordered) > 1 else ordered:
                weight = weights.pop((address, port), None)
                if weight is not None:
                    found.append(_gateway(address, port, cluster, weight or 1))
                    whole += weight or 1
            if whole:
                found.append(_tail(place.share or whole, place.priority))
                body.append(block(2, b"".join(found)))
        return Resource.of_bytes(self.name, b"".join(body))

    def _weights(self, doors: Mapping[NetworkGateway, NetworkGateway]) -> dict[tuple[str, int], int] | None:
        """Of each gateway's address, at its best priority. None where an endpoint has it, too."""
        priorities: dict[tuple[str, int], int] = {}
        weights: dict[tuple[str, int], int] = {}
        for place in self.places:
            for stand_in, _, weight in place.through:
                gateway = doors.get(stand_in)
                if gateway is None or gateway.address in self.direct:
                    return None
                where = (gateway.address, gateway.port)
                if priorities.setdefault(where, place.priority) == place.priority:
                    weights[where] = weights.get(where, 0) + weight
        return weights


def sketch_of(groups: Sequence[LocalityGroup], name: str) -> Resource | Sketch:
    """An upstream's endpoints as far as they can be encoded while stand-ins are there for gateways."""
    destinations = [to for group in groups for to in group.destinations]
    direct = [to for to in destinations if to.through is None]
    if len(direct) == len(destinations):
        return endpoints_of(groups, name)
    within = sum([to.weight for to in destinations]) <= _WEIGHT_MAX - len(destinations)
    if not within or len({(to.address, to.port) for to in direct}) < len(direct):
        return Sketch(name, (), (), fits=False)
    ordered = sorted(groups, key=lambda group: (group.priority, group.locality))
    return Sketch(name, tuple([_place(group) for group in ordered]), tuple([to.address for to in direct]))


def _place(group: LocalityGroup) -> _Place:
    direct = [(to, to.weight or 1) for to in group.destinations if to.through is None]
    through = [(to.through, to.cluster, to.weight) for to in group.destinations if to.through is not None]
    share = 0 if group.weight == sum([to.weight for to in group.destinations]) else group.weight
    return _Place(
        _head(group.locality, direct), group.priority, sum([weight for _, weight in direct]), share, tuple(through)
    )


def _each_address_once(groups: Sequence[LocalityGroup]) -> list[_Group]:
    """A group whose weight is not that of its destinations has been given a share, and keeps it."""
    ordered = sorted(groups, key=lambda group: (group.priority, group.locality))
    addresses = [(to.address, to.port) for group in ordered for to in group.destinations]
    if len(set(addresses)) == len(addresses):  # As nearly always: there is nothing to put together.
        return [
            _whole(group, [(to, to.weight) for to in group.destinations]) for group in ordered if group.destinations
        ]
    priority_of: dict[tuple[str, int], int] = {}
    weight_of: dict[tuple[str, int], int] = {}
    for group in ordered:
        for destination in group.destinations:
            where = (destination.address, destination.port)
            if priority_of.setdefault(where, group.priority) == group.priority:
                weight_of[where] = weight_of.get(where, 0) + destination.weight
    merged = []
    for group in ordered:
        weighted = [
            (destination, weight)
            for destination in group.destinations
            if (weight := weight_of.pop((destination.address, destination.port), None)) is not None
        ]
        if weighted:
            merged.append(_whole(group, weighted))
    return merged


def _whole(group: LocalityGroup, weighted: Sequence[tuple[Destination, int]]) -> _Group:
    limited = _within_limit(weighted)
    own = sum([destination.weight for destination in group.destinations])
    given = group.weight != own and own <= _WEIGHT_MAX
    whole = group.weight if given else sum([weight for _, weight in limited])
    return _Group(group.locality, group.priority, limited, whole)


def _within_limit(weighted: Sequence[tuple[Destination, int]]) -> tuple[tuple[Destination, int], ...]:
    """Never 0, which Envoy refuses, and never more in one locality than 32 bits, which it refuses too."""
    weights = [weight for _, weight in weighted]
    total = sum(weights)
    if total <= _WEIGHT_MAX - len(weights):
        return tuple([(destination, weight or 1) for destination, weight in weighted])
    room = _WEIGHT_MAX - len(weighted)
    return tuple((destination, max(weight * room // total, 1)) for destination, weight in weighted)


def _locality(group: _Group) -> bytes:
    """A LocalityLbEndpoints. Envoy reads its weight only where weighting by locality is on; gRPC clients want it always."""
    return _head(group.locality, group.weighted) + _tail(group.weight, group.priority)


def _head(of: Locality, weighted: Iterable[tuple[Destination, int]]) -> bytes:
    locality = text(1, of.region) + text(2, of.zone) + text(3, of.subzone)
    return b"".join([block(1, locality), *[block(2, _destination(to, weight)) for to, weight in weighted]])


@lru_cache(maxsize=256)
def _gateway(address: str, port: int, cluster: ClusterId, weight: int) -> bytes:
    """An LbEndpoint with its field: services behind one gateway have few different ones."""
    return block(2, _at(address, port) + _rest(True, f";;;;{cluster}", _HEALTHY, weight))


@lru_cache(maxsize=256)
def _tail(weight: int, priority: int) -> bytes:
    return block(3, number(1, weight)) + number(5, priority)


def _destination(to: Destination, weight: int) -> bytes:
    """An LbEndpoint: address, health, metadata, weight."""
    return _at(to.address, to.port) + _rest(to.mutual_tls, _workload(to), _health(to.health), weight)


def _at(address: str, port: int) -> bytes:
    socket_address = text(2, address) + b"\x18" + varint(port)
    return block(1, block(1, block(1, socket_address)))


@lru_cache(maxsize=256)
def _rest(mutual_tls: bool, workload: str, health: int, weight: int) -> bytes:
    """What many have alike."""
    named = _filter_metadata("istio", "workload", workload)
    metadata = _MUTUAL_TLS + named if mutual_tls else named
    return number(2, health) + block(3, metadata) + block(4, number(1, weight))


def _health(health: Health) -> int:
    """envoy.config.core.v3.HealthStatus. Healthy is left unset, as Istio does."""
    match health:
        case Health.HEALTHY:
            return _HEALTHY
        case Health.UNHEALTHY:
            return 2
        case Health.TERMINATING:
            return 3
        case _:
            assert_never(health)


def _workload(destination: Destination) -> str:
    """`name;namespace;canonical service;revision;cluster`, as Istio's telemetry reads it. A gateway stands for many: its cluster."""
    if destination.through is not None or not destination.stands_for:
        return f";;;;{destination.cluster}"
    workload = destination.stands_for[0].workload
    canonical, revision = _canonical(workload.labels)
    name = workload.owner or workload.name
    canonical = canonical or name
    return f"{name};{workload.namespace};{canonical};{revision};{destination.cluster}"


@lru_cache(maxsize=256)
def _canonical(of_workload: tuple[tuple[str, str], ...]) -> tuple[str, str]:
    """As labels say it: most workloads of a service have the same."""
    labels = dict(of_workload)
    return canonical_name(labels), canonical_revision(labels)


def _filter_metadata(name: str, key: str, value: str) -> bytes:
    """An entry of Metadata.filter_metadata: a Struct with one string field."""
    struct = block(1, text(1, key) + block(2, block(3, value.encode())))
    return block(1, text(1, name) + block(2, struct))


_MUTUAL_TLS = _filter_metadata("envoy.transport_socket_match", "tlsMode", "istio")
