"""Addresses for names that have none where they are called: one for each name, the same in the whole mesh.

A name's place in the range follows from the name alone, so control planes agree without asking each other. Where two names meet in one
place the older one keeps it and the younger goes on to the next free one: a new name never takes the address of another from under its callers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address
from types import MappingProxyType

from isthmus.ingest.cache import IngestCache
from isthmus.ingest.global_names import GlobalName
from isthmus.ingest.service_entries import ServiceEntry
from isthmus.ingest.services import Declaration
from isthmus.model.issues import Issue, Severity, Subject
from isthmus.model.names import ClusterId, ServiceKey
from isthmus.model.services import Resolution, Service

_FIRST_IPV4 = IPv4Address("240.240.0.0")
_FIRST_IPV6 = IPv6Address("2001:2::f0f0:0")
"""Istio's ranges: of class E, which is nobody's, and of benchmarking (RFC 5180), which no network routes."""

_FIRST_OF_SET_IPV4 = IPv4Address("240.241.0.0")
_FIRST_OF_SET_IPV6 = IPv6Address("2001:2::f0f1:0")
"""The ranges beside them, for the second names that services have in a cluster set: these addresses are written into ServiceImports."""

_FIRST_OF_MESHES_IPV4 = IPv4Address("240.242.0.0")
_FIRST_OF_MESHES_IPV6 = IPv6Address("2001:2::f0f2:0")
"""The ranges beside those, for names that say the mesh: what another mesh offers moves no address of this one's own."""

_PLACES = 2**16 - 2
"""Neither the first nor the last address of the range."""

_FIRST_OF_PODS_IPV4 = IPv4Address("240.248.0.0")
_FIRST_OF_PODS_IPV6 = IPv6Address("2001:2::f0f8:0")
_PLACES_OF_PODS = 2**19 - 2
"""A range of their own, and a large one: Pods come and go, and have no age by which one could be told to stay where it is."""


def apply_allocation(
    services: dict[ServiceKey, Service],
    declarations: Iterable[Declaration],
    entries: Iterable[ServiceEntry],
    names: Iterable[GlobalName],
    clusters: int,
    cache: IngestCache,
) -> frozenset[ServiceKey]:
    """Addresses of the mesh, for names that have none in some cluster. Every name has its place, so that this does not depend on where.

    Returns the names that need one and have none, because the range is used up.
    """
    declared = [declaration for declaration in declarations if not declaration.headless]
    wanting = [entry for entry in entries if entry.wants_addresses]
    derived = tuple((name.created, name.key) for name in names)
    places = cache.once(
        ("places", derived),
        (*declared, *wanting),
        lambda: places_of([*_named(declared, wanting), *derived]),
    )
    for key, place in places.items():
        service = services[key]
        if _needs_one(service, clusters):
            addresses = cache.once(("addresses", place), (), lambda place=place: addresses_at(place))  # type: ignore[misc]
            services[key] = cache.once(
                ("allocated", key),
                (service, addresses),
                lambda service=service, addresses=addresses: replace(service, allocated=addresses),  # type: ignore[misc]
            )
    if len(places) < _PLACES:
        return frozenset()
    named = {key for _, key in (*_named(declared, wanting), *derived)}
    return frozenset(key for key in named - places.keys() if _needs_one(services[key], clusters))


def without_an_address(
    names: Iterable[ServiceKey], entries: Iterable[ServiceEntry], config_cluster: ClusterId
) -> list[Issue]:
    """What is told of these names: on the entry that has them as hosts, else on the Service."""
    entry_of = {service.key: entry for entry in entries for service in entry.services}

    def subject(key: ServiceKey) -> Subject:
        entry = entry_of.get(key)
        if entry is not None:
            return Subject(config_cluster, "ServiceEntry", entry.namespace, entry.name)
        return Subject(config_cluster, "Service", key.namespace, key.hostname.partition(".")[0])

    return [
        Issue(
            subject=subject(key),
            code="ISM0112",
            severity=Severity.ERROR,
            what=f"{key.hostname} resolves to nothing where it has no address: all {_PLACES} of the mesh are given to older names",
            fix="give it an address (spec.addresses), declare the Service in every cluster, or delete names that nobody calls",
        )
        for key in sorted(names)
    ]


def _needs_one(service: Service, clusters: int) -> bool:
    is_everywhere = service.registry == "Kubernetes" and len(service.declared_in) == clusters
    has_its_own = service.registry != "Kubernetes" and (service.virtual_ips or service.address_ranges)
    return not service.headless and not is_everywhere and not has_its_own


def _named(declarations: Sequence[Declaration], entries: Sequence[ServiceEntry]) -> Iterator[tuple[str, ServiceKey]]:
    """Each name once, with the oldest time. A pattern for names is none, and where applications choose addresses themselves, none is missing."""
    oldest: dict[ServiceKey, str] = {}
    for declaration in declarations:
        oldest[declaration.key] = min(declaration.created, oldest.get(declaration.key, declaration.created))
    for entry in entries:
        for service in entry.services:
            if "*" not in service.hostname and service.resolution is not Resolution.NONE:
                oldest.setdefault(service.key, entry.created)
    return ((created, key) for key, created in oldest.items())


def places_of(
    named: Iterable[tuple[str, ServiceKey]], held: Mapping[ServiceKey, int] = MappingProxyType({})
) -> Mapping[ServiceKey, int]:
    """Of names with the times of their creation. When the range is full, the youngest have none. A name that holds a place keeps it: of
    several in one the oldest.
    """
    return _settled(named, held, _PLACES)


def addresses_of_pods(names: Iterable[ServiceKey]) -> Mapping[ServiceKey, tuple[str, ...]]:
    """Of Pods' names, and of their headless services': IPv4, then IPv6."""
    places = _settled((("", name) for name in names), {}, _PLACES_OF_PODS)
    return {
        key: (str(_FIRST_OF_PODS_IPV4 + place + 1), str(_FIRST_OF_PODS_IPV6 + place + 1))
        for key, place in places.items()
    }


def _settled(
    named: Iterable[tuple[str, ServiceKey]], held: Mapping[ServiceKey, int], places: int
) -> Mapping[ServiceKey, int]:
    taken: dict[int, ServiceKey] = {}
    by_age = sorted(named)
    for _, key in by_age:
        if key in held:
            taken.setdefault(held[key], key)
    settled = set(taken.values())
    for _, key in by_age:
        if key in settled:
            continue
        if len(taken) >= places:
            break
        first = _digest(key)
        for step in range(places):
            if taken.setdefault((first + step) % places, key) is key:
                break
    return {key: place for place, key in taken.items()}


def addresses_at(place: int) -> tuple[str, ...]:
    """IPv4, then IPv6."""
    return str(_FIRST_IPV4 + place + 1), str(_FIRST_IPV6 + place + 1)


def set_addresses_at(place: int) -> tuple[str, str]:
    """Of a name of a cluster set: IPv4, then IPv6."""
    return str(_FIRST_OF_SET_IPV4 + place + 1), str(_FIRST_OF_SET_IPV6 + place + 1)


def mesh_name_addresses_at(place: int) -> tuple[str, str]:
    """Of a name that says the mesh: IPv4, then IPv6."""
    return str(_FIRST_OF_MESHES_IPV4 + place + 1), str(_FIRST_OF_MESHES_IPV6 + place + 1)


def place_of_set_address(text: str) -> int | None:
    """The place that an address stands for; None if it is none of a cluster set's."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    first = _FIRST_OF_SET_IPV4 if isinstance(address, IPv4Address) else _FIRST_OF_SET_IPV6
    place = int(address) - int(first) - 1
    return place if 0 <= place < _PLACES else None


def _digest(key: ServiceKey) -> int:
    return int.from_bytes(hashlib.blake2b(str(key).encode(), digest_size=8).digest(), "big")
