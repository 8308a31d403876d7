"""Outbound listeners: what the workload's own connections meet after capture.

15001 receives them all and hands each to the listener of its original destination: `VIP_PORT` for a service that is told apart by its
address, `0.0.0.0_PORT` for all services on a port that are told apart by the host of a request. What no listener has passes through to
where it was going.

TLS services without an address are told apart by the name that a client asks for, services with a range of addresses by that.

Where two services cannot be told apart (equal address and port, or two on one port with neither host, name nor address), the one that the
proxy's own cluster declares wins, then the first by name: see `Plan`. A TCP service without an address on a port with HTTP services gets
what is not HTTP there.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import field, replace
from functools import cache
from typing import Any

from envoy.config.core.v3 import base_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2

from isthmus.envoy import filters, routes, tls
from isthmus.envoy.common import BLACK_HOLE, PASSTHROUGH, boolean, cidr, everywhere, listen_at, pipe, seconds, uint32
from isthmus.envoy.resources import Resource
from isthmus.incremental.while_used import while_used
from isthmus.model.routing import ConnectionRoute
from isthmus.model.services import Protocol, Resolution
from isthmus.model.sidecars import Elsewhere, Place, Placed, Placement, SeenPorts, includes
from isthmus.model.traffic import Treatment
from isthmus.model.values import dataclass
from isthmus.model.views import Scope, Upstream

Chain = listener_components_pb2.FilterChain
Match = listener_components_pb2.FilterChainMatch

OUTBOUND_PORT = 15001
RESERVED_PORTS = frozenset((OUTBOUND_PORT, 15006))
"""A listener there would take the place of capture itself."""

_CONNECT_ATTEMPTS = 3
"""An address that refuses costs a TCP connection nothing: no byte has been sent, so another one is tried."""

_DETECTION_SECONDS = 0.1
"""How long an undeclared protocol may keep silent before it counts as one whose server speaks first. It reaches its service either way."""


@dataclass(frozen=True, slots=True)
class Addressed:
    """A service that has an address and port to itself."""

    ip: str
    port: int
    upstream: Upstream


@dataclass(frozen=True, slots=True)
class OnPort:
    """Services on a port that are told apart by the host of a request, by the name that a TLS client asks for (SNI), or by ranges of
    addresses; and the one, if any, that gets everything else there. `place`, where a Sidecar says one: a socket has `number` 0; else it is
    at every one of `addresses`."""

    number: int
    by_host: tuple[Upstream, ...]
    rest: Upstream | None
    by_name: tuple[Upstream, ...] = ()
    by_range: tuple[Upstream, ...] = ()
    place: Place | None = None
    addresses: tuple[str, ...] = ("0.0.0.0",)

    @property
    def table(self) -> str:
        """The name of its route table."""
        return self.where.name if self.place else str(self.number)

    @property
    def where(self) -> _Where:
        if self.place is None:
            return _Where(self.addresses, self.number)
        return _Where((self.place.address,), self.number, is_bound=self.place.is_bound)

    def elsewhere(self, said: Elsewhere) -> Elsewhere:
        """Where the proxy listens itself, connections were sent to nobody else: what is for nobody there ends."""
        return Elsewhere(registry_only=True) if self.where.is_bound and not said.by_way_of else said


@dataclass(frozen=True, slots=True)
class _Where:
    """Addresses or a socket, and port, of a listener. It is named after the first."""

    addresses: tuple[str, ...]
    port: int
    is_bound: bool = False

    @property
    def name(self) -> str:
        return f"{self.addresses[0]}_{self.port}" if self.port else self.addresses[0]


@dataclass(frozen=True, slots=True)
class Shadowed:
    """A service port that no listener leads to. `by`: who gets its connections, because nothing tells the two apart; nobody does where the
    port is one of the proxy's own."""

    upstream: Upstream
    by: Upstream | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """Who gets which listener, sorted; and who gets none."""

    on_ports: tuple[OnPort, ...]
    addressed: tuple[Addressed, ...]
    shadowed: tuple[Shadowed, ...]
    addresses: tuple[str, ...] = ("0.0.0.0",)
    """Where capture itself listens."""

    def with_rules(self, whole: Callable[[Upstream], Upstream]) -> Plan:
        """The same plan, made of outlines, with the whole of those upstreams whose rules listeners say. What is told apart by host is routed."""
        on_ports = tuple(
            replace(
                each,
                rest=whole(each.rest) if each.rest else None,
                by_name=tuple(map(whole, each.by_name)),
                by_range=tuple(map(whole, each.by_range)),
            )
            for each in self.on_ports
        )
        addressed = tuple(replace(each, upstream=whole(each.upstream)) for each in self.addressed)
        return replace(self, on_ports=on_ports, addressed=addressed)


def plan(upstreams: Iterable[Upstream], scope: Scope, placement: Placement) -> Plan:
    """Decides every conflict, so that writing listeners makes no choices."""
    whole = [upstream for upstream in upstreams if not upstream.subset]
    whole.sort(key=lambda upstream: scope.cluster not in upstream.service.declared_in)
    among = whole if placement.captured is None else _among(placement.captured, whole)
    captured = _at_addresses(among, everywhere(scope.ip_families))
    if not placement.placed:
        return captured
    shadowed = list(captured.shadowed)
    own = [each for placed in placement.placed for each in _at_place(placed, whole, shadowed)]
    planned = replace(captured, on_ports=(*captured.on_ports, *own))
    return replace(planned, shadowed=_nowhere_served(planned, shadowed))


def _nowhere_served(planned: Plan, shadowed: Iterable[Shadowed]) -> tuple[Shadowed, ...]:
    """What has no listener at one place may have one at another."""
    served = {each.upstream.name for each in planned.addressed}
    for on_port in planned.on_ports:
        rest = (on_port.rest,) if on_port.rest else ()
        served |= {each.name for each in (*on_port.by_host, *on_port.by_name, *on_port.by_range, *rest)}
    found = {each.upstream.name: each for each in shadowed if each.upstream.name not in served}
    return tuple(found[name] for name in sorted(found))


def _among(ports: SeenPorts, upstreams: Sequence[Upstream]) -> list[Upstream]:
    by_key = dict(ports)
    return [each for each in upstreams if includes(by_key, each.service.key, each.port.number)]


def _at_place(placed: Placed, upstreams: Sequence[Upstream], shadowed: list[Shadowed]) -> Iterator[OnPort]:
    """The listeners of a place. Bytes go to the first service that is found by nothing else."""
    by_number: dict[int, list[Upstream]] = defaultdict(list)
    for upstream in _among(placed.ports, upstreams):
        by_number[0 if placed.place.is_socket else upstream.port.number].append(upstream)
    for number, found in sorted(by_number.items()):
        if number in RESERVED_PORTS:
            shadowed += map(Shadowed, found)
            continue
        by_host = [each for each in found if each.port.protocol.is_http or each.port.protocol is Protocol.AUTO]
        by_name = [each for each in found if each.port.protocol.is_tls]
        bytes_of = [each for each in found if each not in by_name and not each.port.protocol.is_http]
        by_host.sort(key=lambda each: (each.service.hostname, each.port.number))
        shadowed += (Shadowed(each, bytes_of[0]) for each in bytes_of[1:] if each not in by_host)
        rest = bytes_of[0] if bytes_of else None
        yield OnPort(number, tuple(by_host), rest, by_name=_by_name(by_name), place=placed.place)


def _at_addresses(whole: Sequence[Upstream], addresses: tuple[str, ...]) -> Plan:
    """What is captured on its way to a service's own addresses. Those that the proxy's own cluster declares come first."""
    by_host: dict[int, list[Upstream]] = defaultdict(list)
    by_name: dict[int, list[Upstream]] = defaultdict(list)
    by_range: dict[int, list[Upstream]] = defaultdict(list)
    rest: dict[int, Upstream] = {}
    at: dict[tuple[str, int], Upstream] = {}
    shadowed: list[Shadowed] = []
    for upstream in whole:
        number = upstream.port.number
        places, ranges = list(_places(upstream)), upstream.service.address_ranges
        if upstream.port.protocol.is_http and number not in RESERVED_PORTS:
            by_host[number].append(upstream)
        elif places or upstream.service.headless or (ranges and number not in RESERVED_PORTS):
            won = [place for place in places if at.setdefault(place, upstream) is upstream]
            if places and not won:
                shadowed.append(Shadowed(upstream, at[places[0]]))
            if ranges and number not in RESERVED_PORTS:
                by_range[number].append(upstream)
        elif upstream.port.protocol.is_tls and number not in RESERVED_PORTS:
            by_name[number].append(upstream)
        elif number in RESERVED_PORTS:
            shadowed.append(Shadowed(upstream))
        elif rest.setdefault(number, upstream) is not upstream:
            shadowed.append(Shadowed(upstream, rest[number]))
        elif upstream.port.protocol is Protocol.AUTO:
            by_host[number].append(upstream)
    return Plan(
        on_ports=tuple(
            OnPort(
                number,
                _by_name(by_host.get(number, ())),
                rest.get(number),
                by_name=_by_name(by_name.get(number, ())),
                by_range=tuple(by_range.get(number, ())),
                addresses=addresses,
            )
            for number in sorted(by_host.keys() | rest.keys() | by_name.keys() | by_range.keys())
        ),
        addressed=tuple(Addressed(*place, at[place]) for place in sorted(at)),
        shadowed=tuple(sorted(shadowed, key=lambda each: each.upstream.name)),
        addresses=addresses,
    )


def _places(upstream: Upstream) -> Iterator[tuple[str, int]]:
    """Where applications connect to. For a headless service that is each endpoint itself, on this network, at its own port."""
    if not upstream.service.headless:
        yield from ((ip, upstream.port.number) for ip in upstream.virtual_ips)
        return
    for group in upstream.groups:
        for destination in group.destinations:
            if destination.through is None and destination.port not in RESERVED_PORTS:
                yield destination.address, destination.port


def _by_name(upstreams: Iterable[Upstream]) -> tuple[Upstream, ...]:
    return tuple(sorted(upstreams, key=lambda upstream: upstream.name))


@dataclass(frozen=True, slots=True)
class _To:
    """Upstreams with weights, and what is done with connections on the way."""

    clusters: tuple[tuple[str, int], ...]
    treatment: Treatment


@dataclass(frozen=True, slots=True)
class _Bytes:
    """Where connections go whose requests nobody looks at: as a VirtualService says, else to `cluster`."""

    cluster: str
    routes: tuple[ConnectionRoute, ...] = ()
    treatment: Treatment = field(default_factory=Treatment)

    def itself(self) -> _To:
        return _To(((self.cluster, 1),), self.treatment)

    def by(self, route: ConnectionRoute) -> _To:
        return _To(route.clusters, route.treatment) if route.clusters else self.itself()

    def elsewhere(self) -> _To:
        """Where connections go of which no name is known."""
        return next((self.by(route) for route in self.routes if not route.sni_hosts), self.itself())


def listeners(planned: Plan, elsewhere: Elsewhere) -> Iterator[Resource]:
    """All of a sidecar's but those for what comes in."""
    yield virtual_outbound(_cluster_for(elsewhere), planned.addresses)
    for on_port in planned.on_ports:
        other = _cluster_for(on_port.elsewhere(elsewhere))
        rest = _bytes_to(on_port.rest) if on_port.rest else _Bytes(other)
        yield _for_port(on_port.where, _requests_on(on_port), tuple(_chosen(on_port)), rest)
    for addressed in planned.addressed:
        to = _bytes_to(addressed.upstream)
        if addressed.upstream.port.protocol is Protocol.AUTO:
            yield _detecting(addressed.ip, addressed.port, to, routes.host_and_port(addressed.upstream))
        else:
            yield _forwarding(addressed.ip, addressed.port, to)


def _cluster_for(elsewhere: Elsewhere) -> str:
    return BLACK_HOLE if elsewhere.registry_only else elsewhere.by_way_of or PASSTHROUGH


@dataclass(frozen=True, slots=True)
class _Requests:
    """What the requests on a port need: nothing, where there is no `table`; `resolves`: hosts that are looked up when they are asked for."""

    table: str
    resolves: bool = False


def _requests_on(on_port: OnPort) -> _Requests:
    return _Requests(on_port.table if on_port.by_host else "", any(map(looks_up_hosts, on_port.by_host)))


def looks_up_hosts(upstream: Upstream) -> bool:
    return upstream.service.resolution is Resolution.DNS_OF_REQUEST


@dataclass(frozen=True, slots=True)
class _Chosen:
    """Connections that a name or a range of addresses chooses, and where they go. `looks_up`: to whatever the name leads to."""

    names: tuple[str, ...]
    ranges: tuple[str, ...]
    called: str
    to: _To
    looks_up: bool = False


def _chosen(on_port: OnPort) -> Iterator[_Chosen]:
    """Envoy refuses a listener in which two chains match alike, so the first service that claims a name or range keeps it."""
    claimed: set[str] = set()

    def new(found: Iterable[str]) -> tuple[str, ...]:
        kept = tuple(each for each in dict.fromkeys(found) if each not in claimed)
        claimed.update(kept)
        return kept

    for upstream in on_port.by_range:
        if ranges := new(upstream.service.address_ranges):
            yield _Chosen((), ranges, upstream.name, _bytes_to(upstream).elsewhere())
    for upstream in on_port.by_name:
        to = _bytes_to(upstream)
        for route in to.routes:
            if names := new(route.sni_hosts or (upstream.service.hostname,)):
                yield _Chosen(names, (), upstream.name, to.by(route))
        if names := new((upstream.service.hostname,)):
            yield _Chosen(names, (), upstream.name, to.itself(), looks_up=looks_up_hosts(upstream))


def _bytes_to(upstream: Upstream) -> _Bytes:
    return _Bytes(upstream.name, upstream.connections, upstream.policy.of_bytes)


@cache
def virtual_outbound(other_to: str, addresses: tuple[str, ...]) -> Resource:
    """The listener that capture redirects to; the same for every sidecar with the same policy for what no service is."""
    own_port = Chain(
        name="virtualOutbound-blackhole",
        filter_chain_match=Match(destination_port=uint32(OUTBOUND_PORT)),
        filters=[filters.tcp(BLACK_HOLE, BLACK_HOLE)],
    )
    other = Chain(name="virtualOutbound-catchall-tcp", filters=[filters.tcp(other_to, other_to)])
    listener = listener_pb2.Listener(
        name="virtualOutbound",
        use_original_dst=boolean(True),
        traffic_direction=base_pb2.OUTBOUND,
        filter_chains=[own_port],
        default_filter_chain=other,
    )
    listen_at(listener, addresses, OUTBOUND_PORT)
    return Resource.of(listener.name, listener)


@while_used
def _for_port(where: _Where, requests: _Requests, chosen: tuple[_Chosen, ...], rest: _Bytes) -> Resource:
    """Services on a port that are told apart by host, name or address range.

    A client may wait as long as it likes before its first request: giving up on it would send it past its service.
    """
    listener = _listener(where)
    listener.filter_chains.extend(_chosen_chain(each, where.port) for each in chosen)
    if requests.table:
        listener.listener_filters.append(filters.http_inspector())
        listener.listener_filters_timeout.CopyFrom(seconds(0))
        serve = filters.http_by_rds(f"outbound_{listener.name}", requests.table, resolves=requests.resolves)
        listener.filter_chains.append(_http_chain([serve]))
    _add_bytes(listener, rest)
    return Resource.of(listener.name, listener)


@while_used
def _forwarding(ip: str, port: int, to: _Bytes) -> Resource:
    """One service at one address, whose bytes are not looked at: a server that speaks first is never kept waiting."""
    listener = _captured(ip, port)
    _add_bytes(listener, to)
    return Resource.of(listener.name, listener)


@while_used
def _detecting(ip: str, port: int, to: _Bytes, routes_name: str) -> Resource:
    """One service at one address, of undeclared protocol: HTTP where it looks like it, bytes otherwise."""
    listener = _captured(ip, port)
    listener.listener_filters.append(filters.http_inspector())
    listener.listener_filters_timeout.CopyFrom(seconds(_DETECTION_SECONDS))
    listener.continue_on_listener_filters_timeout = True
    serve = [filters.offering(tls.DETECTED_HTTP), filters.http_by_rds(f"outbound_{listener.name}", routes_name)]
    listener.filter_chains.append(_http_chain(serve))
    _add_bytes(listener, to)
    return Resource.of(listener.name, listener)


def _captured(ip: str, port: int) -> Any:
    return _listener(_Where((ip,), port))


def _listener(where: _Where) -> Any:
    """If it is not bound, 15001 hands over the connections whose original destination this is."""
    listener = listener_pb2.Listener(
        name=where.name,
        bind_to_port=None if where.is_bound else boolean(False),
        traffic_direction=base_pb2.OUTBOUND,
    )
    if where.port:
        listen_at(listener, where.addresses, where.port)
    else:
        listener.address.CopyFrom(pipe(where.addresses[0]))
    return listener


def _add_bytes(listener: Any, to: _Bytes) -> None:
    """A chain for each rule that looks at the SNI; the first rule that does not takes the rest, and so does the service itself."""
    claimed = {name for chain in listener.filter_chains for name in chain.filter_chain_match.server_names}
    for route in itertools.takewhile(lambda route: route.sni_hosts, to.routes):
        names = [name for name in route.sni_hosts if name not in claimed]
        claimed.update(names)
        if names:
            chain = _tcp_chain(to.cluster, to.by(route))
            chain.filter_chain_match.CopyFrom(Match(server_names=names))
            listener.filter_chains.append(chain)
    if any(chain.filter_chain_match.server_names for chain in listener.filter_chains):
        listener.listener_filters.insert(0, filters.tls_inspector())
        if not any(each.name == filters.HTTP_INSPECTOR for each in listener.listener_filters):
            listener.listener_filters_timeout.CopyFrom(seconds(_DETECTION_SECONDS))
            listener.continue_on_listener_filters_timeout = True
    if to.cluster in (PASSTHROUGH, BLACK_HOLE):
        chain = Chain(name="PassthroughFilterChain", filters=[filters.tcp(to.cluster, to.cluster)])
    else:
        chain = _tcp_chain(to.cluster, to.elsewhere())
    listener.default_filter_chain.CopyFrom(chain)


def _chosen_chain(chosen: _Chosen, port: int) -> Any:
    chain = _tcp_chain(chosen.called, chosen.to)
    if chosen.looks_up:
        chain.filters.insert(0, filters.look_up_name(port))
    chain.filter_chain_match.CopyFrom(
        Match(server_names=chosen.names, prefix_ranges=[cidr(each) for each in chosen.ranges])
    )
    return chain


def _tcp_chain(called: str, to: _To) -> Any:
    serve = filters.tcp_to(called, to.clusters, to.treatment, connect_attempts=_CONNECT_ATTEMPTS)
    return Chain(name=called, filters=[serve])


def _http_chain(serve: Sequence[Any]) -> Any:
    """What the inspector took for HTTP. It needs no TLS inspector beside it: a TLS handshake is not HTTP, and goes on as bytes."""
    match = Match(transport_protocol="raw_buffer", application_protocols=filters.PLAIN_HTTP)
    return Chain(filter_chain_match=match, filters=serve)
