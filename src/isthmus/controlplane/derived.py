"""What stands between the snapshot and resources: the values that derivations give each other.

Several are keys, too: what follows from one of them is computed once for all the scopes that have an equal one. They know their hash, because they
are long and are looked up often.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from weakref import WeakValueDictionary
from zlib import crc32

from isthmus.discovery.sight import Sight
from isthmus.discovery.spreading import Use
from isthmus.discovery.stand_ins import Doors
from isthmus.envoy.endpoints import Sketch
from isthmus.envoy.resources import Resource
from isthmus.envoy.route_tables import Remainder, RouteTable
from isthmus.envoy.routes import Named
from isthmus.incremental.while_used import while_used
from isthmus.model.names import Hostname, Namespace, ServiceKey
from isthmus.model.views import LocalityGroup, Proxy, Upstream, Ways

_BLOCK_HOSTS = 32


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Host:
    """A host name as a scope sees it: the services that have it, in order, each with the ports that are seen, or None for not at all."""

    name: Hostname
    services: tuple[tuple[ServiceKey, frozenset[int] | None], ...]

    def __hash__(self) -> int:
        """By what tells most hosts apart: they are looked up for each scope."""
        return hash(self.name)


@while_used
def host_of(name: Hostname, services: tuple[tuple[ServiceKey, frozenset[int] | None], ...]) -> Host:
    """One object for all the scopes that see it alike: comparing what they see is then comparing addresses."""
    return Host(name, services)


@dataclass(frozen=True, eq=False)
class Hosts:
    """All the hosts that a scope sees, in the order of services, and `seen`: how it sees them, without rules."""

    all: tuple[Host, ...]
    seen: Sight

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Hosts):
            return NotImplemented
        return self is other or (self._hash, self.all, self.seen) == (other._hash, other.all, other.seen)

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash(self.all)

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """All of them, in an order that depends on nothing but their names."""
        found: dict[Namespace, list[Host]] = {}
        for host in self.all:
            found.setdefault(host.services[0][0].namespace, []).append(host)
        return tuple(block_of(tuple(part)) for _, hosts in sorted(found.items()) for part in _in_parts(hosts))

    @cached_property
    def of_service(self) -> Mapping[ServiceKey, Host]:
        return {key: host for host in self.all for key, _ in host.services}

    @cached_property
    def are_mixed(self) -> bool:
        """Whether the order of services is another one than that of hosts: some have several, which others stand between."""
        return any(len(host.services) > 1 for host in self.all)


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class Block:
    """Some hosts of one namespace, as many as are looked at together. Equal ones are one object."""

    hosts: tuple[Host, ...]


@while_used
def block_of(hosts: tuple[Host, ...]) -> Block:
    return Block(hosts)


def _in_parts(hosts: list[Host]) -> Iterator[list[Host]]:
    """By a hash of the name: a host that comes or goes changes one part, and a namespace of many hosts is no more to look at than others."""
    count = 1 << ((len(hosts) - 1) // _BLOCK_HOSTS).bit_length()
    parts: list[list[Host]] = [[] for _ in range(count)]
    for host in hosts:
        parts[crc32(host.name.encode()) % count].append(host)
    return (part for part in parts if part)


@dataclass(frozen=True, slots=True)
class Filled:
    """A shelf, the gateways whose addresses are in it, and what they were put into."""

    shelf: Shelf
    doors: Doors
    sketches: tuple[Sketch, ...]


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class Shelf:
    """What the hosts of a block add to a scope. Equal ones are one object, wherever they come from: names are unique in each kind."""

    clusters: tuple[Resource, ...]
    endpoints: tuple[Resource, ...]
    secrets: tuple[Resource, ...]
    """Stand-ins for those that the clusters name. Other shelves may have the same."""


def shelf_of(clusters: tuple[Resource, ...], endpoints: tuple[Resource, ...], secrets: tuple[Resource, ...]) -> Shelf:
    """By names and versions: to hash resources costs as much as to find out what is on the shelf."""
    kinds = clusters, endpoints, secrets
    key = tuple([tuple([text for each in kind for text in (each.name, each.version)]) for kind in kinds])
    known = _SHELVES.get(key)
    if known is None:
        known = _SHELVES[key] = Shelf(clusters, endpoints, secrets)
    return known


_SHELVES: WeakValueDictionary[tuple[tuple[str, ...], ...], Shelf] = WeakValueDictionary()


def refilled(filled: Filled, changes: Sequence[tuple[Told | Doors, Told | Doors]]) -> Filled | None:
    """After callers are told otherwise of some uses, or gateways have other addresses. None where endpoints come to be known otherwise, or where
    it takes more than addresses.
    """
    sketches = {sketch.name: sketch for sketch in filled.sketches}
    doors, fresh, again = dict(filled.doors), dict[str, Resource](), set[str]()
    for before, now in changes:
        if isinstance(before, Told) and isinstance(now, Told):
            found = now.endpoints
            if type(before.endpoints) is not type(found):
                return None
            if isinstance(found, Sketch):
                sketches[found.name] = found
                again.add(found.name)
            elif found is not None:
                fresh[found.name] = found
        elif not isinstance(before, Told) and not isinstance(now, Told):
            doors = {**{stand_in: real for stand_in, real in doors.items() if stand_in not in before}, **now}
            again.update(sketches)
    for name in again:
        placed = sketches[name].at(doors)
        if placed is None:
            return None
        fresh[name] = placed
    shelf = filled.shelf
    endpoints = tuple([fresh.get(each.name, each) for each in shelf.endpoints])
    return Filled(shelf_of(shelf.clusters, endpoints, shelf.secrets), doors, tuple(sketches.values()))


def one_of(hosts: Hosts) -> Hosts:
    """One object for all the scopes that see the same, with what it knows of itself."""
    known = _KNOWN.get(hash(hosts))
    if known == hosts:
        return known
    _KNOWN[hash(hosts)] = hosts
    return hosts


_KNOWN: WeakValueDictionary[int, Hosts] = WeakValueDictionary()
"""By their hash: as keys they would keep themselves."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a use's cluster, listeners and routes depend on of its endpoints. `groups` only where these need them."""

    ways: Ways
    locality_weighted: bool
    groups: tuple[LocalityGroup, ...]


@dataclass(frozen=True, slots=True)
class Told:
    """What callers are told of a use: the encoded endpoints (absent where they find them otherwise), up to addresses of gateways, and the shape."""

    endpoints: Resource | Sketch | None
    shape: Shape


@dataclass(frozen=True, slots=True)
class Part:
    """What a host adds to a scope: clusters, and the uses whose endpoints go with them. Names are unique; `faces` are for the frame."""

    clusters: tuple[Resource, ...]
    secrets: tuple[Resource, ...]
    """Stand-ins for those that the clusters name."""
    uses: tuple[Use, ...]
    faces: Faces


@dataclass(frozen=True, slots=True)
class Faces:
    """A host's upstreams without their endpoints, and those that are passed through, each with the gateway's port."""

    upstreams: tuple[Upstream, ...]
    exposed: tuple[tuple[int, Upstream], ...]


@dataclass(frozen=True, slots=True)
class Failure:
    """A derivation that raised. `about`: the host or the proxy; empty where it is about all of a scope."""

    what: str
    about: str
    error: BaseException


def about(key: object) -> str:
    """In a word, what a derivation was asked for."""
    match key:
        case Host(name=name) | Hosted(host=Host(name=name)):
            return name
        case Block(hosts=(Host(name=name), *_)):
            return name
        case Use(service=ServiceKey(hostname=name)) | ServiceKey(hostname=name):
            return name
        case Proxy(id=name):
            return name
        case _:
            return key if isinstance(key, str) else ""


NO_FACES = Faces((), ())


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Hosted:
    """A service port in a route table, under its domains."""

    host: Host
    service: ServiceKey
    port: int
    domains: tuple[str, ...]

    def __hash__(self) -> int:
        return hash((self.host.name, self.port, len(self.domains)))


@while_used
def hosted(host: Host, service: ServiceKey, port: int, domains: tuple[str, ...]) -> Hosted:
    """One object for all the tables that have it."""
    return Hosted(host, service, port, domains)


@dataclass(frozen=True, eq=False)
class Stretch:
    """A section of a route table before its virtual hosts are encoded."""

    hosted: tuple[Hosted, ...]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Stretch):
            return NotImplemented
        return self is other or (self._hash == other._hash and self.hosted == other.hosted)

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash(self.hosted)


@dataclass(frozen=True, slots=True)
class Layout:
    """The route table of a port before its virtual hosts are encoded. `near`: for callers in some namespaces some sections, by position, are
    others."""

    name: str
    sections: tuple[Stretch, ...]
    near: Mapping[Namespace, Mapping[int, Stretch]]
    remainder: Remainder


@dataclass(frozen=True, slots=True)
class DetectedLayout:
    """The same of a service that has a table to itself."""

    name: str
    stretch: Stretch


@dataclass(frozen=True, slots=True)
class Layouts:
    on_ports: tuple[Layout, ...]
    detected: tuple[DetectedLayout, ...]


def layouts_of(tables: Iterable[RouteTable], hosts: Hosts) -> Layouts:
    on_ports, detected = [], []
    for table in tables:
        sections = tuple(_stretch(section, None, hosts) for section in table.sections)
        if table.remainder is None:
            detected.append(DetectedLayout(table.name, *sections))
        else:
            on_ports.append(Layout(table.name, sections, _near(table, hosts), table.remainder))
    return Layouts(tuple(on_ports), tuple(detected))


def _near(table: RouteTable, hosts: Hosts) -> Mapping[Namespace, Mapping[int, Stretch]]:
    found: dict[Namespace, dict[int, Stretch]] = {}
    for at, section in enumerate(table.sections):
        for caller in {home for each in section for home, _ in each.near}:
            found.setdefault(caller, {})[at] = _stretch(section, caller, hosts)
    return found


def _stretch(section: Iterable[Named], caller: Namespace | None, hosts: Hosts) -> Stretch:
    return Stretch(
        tuple(
            hosted(
                hosts.of_service[each.upstream.service.key],
                each.upstream.service.key,
                each.upstream.port.number,
                each.domains if caller is None else each.domains_from(caller),
            )
            for each in section
        )
    )
