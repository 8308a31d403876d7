"""Outbound listeners: what the workload's own connections meet after capture.

15001 receives them all and hands each to the listener of its original destination: `VIP_PORT` for a service that is told apart by its
address, `0.0.0.0_PORT` for all services on a port that are told apart by the host of a request. What no listener has passes through to
where it was going.

Where two services cannot be told apart (equal address and port, or two on one port with neither host nor address), the one that the proxy's
own cluster declares wins, then the first by name: see `Plan`. A TCP service without an address on a port with HTTP services gets
what is not HTTP there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from envoy.config.core.v3 import base_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2

from isthmus.envoy import filters, routes, tls
from isthmus.envoy.common import BLACK_HOLE, PASSTHROUGH, address, boolean, seconds, uint32
from isthmus.envoy.resources import Resource
from isthmus.model.routing import ConnectionRoute
from isthmus.model.services import Protocol
from isthmus.model.views import OutboundView, Upstream

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
    """Services on a port that are told apart by host, and the one, if any, that gets what is not HTTP there."""

    number: int
    by_host: tuple[Upstream, ...]
    rest: Upstream | None


@dataclass(frozen=True, slots=True)
class Plan:
    """Who gets which listener, sorted. `shadowed` are services that nothing tells apart from another one: they get none."""

    on_ports: tuple[OnPort, ...]
    addressed: tuple[Addressed, ...]
    shadowed: tuple[Upstream, ...]


def plan(view: OutboundView) -> Plan:
    """Decides every conflict, so that writing listeners makes no choices."""
    by_host: dict[int, list[Upstream]] = defaultdict(list)
    rest: dict[int, Upstream] = {}
    at: dict[tuple[str, int], Upstream] = {}
    shadowed: list[Upstream] = []
    whole = [upstream for upstream in view.upstreams if not upstream.subset]
    for upstream in sorted(whole, key=lambda upstream: view.scope.cluster not in upstream.service.declared_in):
        number = upstream.port.number
        places = list(_places(upstream))
        if upstream.port.protocol.is_http and number not in RESERVED_PORTS:
            by_host[number].append(upstream)
        elif places or upstream.service.headless:
            won = [place for place in places if at.setdefault(place, upstream) is upstream]
            if places and not won:
                shadowed.append(upstream)
        elif number in RESERVED_PORTS or rest.setdefault(number, upstream) is not upstream:
            shadowed.append(upstream)
        elif upstream.port.protocol is Protocol.AUTO:
            by_host[number].append(upstream)
    return Plan(
        on_ports=tuple(
            OnPort(number, _by_name(by_host.get(number, ())), rest.get(number))
            for number in sorted(by_host.keys() | rest.keys())
        ),
        addressed=tuple(Addressed(*place, at[place]) for place in sorted(at)),
        shadowed=_by_name(shadowed),
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
class _Bytes:
    """Where connections go whose requests nobody looks at: as a VirtualService says, else to `cluster`."""

    cluster: str
    routes: tuple[ConnectionRoute, ...] = ()


def listeners(planned: Plan, *, registry_only: bool = False) -> Iterator[Resource]:
    """All of a sidecar's but the inbound one. `registry_only`: what no service is ends here."""
    other = BLACK_HOLE if registry_only else PASSTHROUGH
    yield virtual_outbound(other)
    for on_port in planned.on_ports:
        rest = _bytes_to(on_port.rest) if on_port.rest else _Bytes(other)
        yield _for_port(on_port.number, bool(on_port.by_host), rest)
    for addressed in planned.addressed:
        to = _bytes_to(addressed.upstream)
        if addressed.upstream.port.protocol is Protocol.AUTO:
            yield _detecting(addressed.ip, addressed.port, to, routes.host_and_port(addressed.upstream))
        else:
            yield _forwarding(addressed.ip, addressed.port, to)


def _bytes_to(upstream: Upstream) -> _Bytes:
    return _Bytes(upstream.name, upstream.connections)


@cache
def virtual_outbound(other_to: str) -> Resource:
    """The listener that capture redirects to; the same for every sidecar with the same policy for what no service is."""
    own_port = Chain(
        name="virtualOutbound-blackhole",
        filter_chain_match=Match(destination_port=uint32(OUTBOUND_PORT)),
        filters=[filters.tcp(BLACK_HOLE, BLACK_HOLE)],
    )
    other = Chain(name="virtualOutbound-catchall-tcp", filters=[filters.tcp(other_to, other_to)])
    listener = listener_pb2.Listener(
        name="virtualOutbound",
        address=address("0.0.0.0", OUTBOUND_PORT),
        use_original_dst=boolean(True),
        traffic_direction=base_pb2.OUTBOUND,
        filter_chains=[own_port],
        default_filter_chain=other,
    )
    return Resource.of(listener.name, listener)


@lru_cache(maxsize=4096)
def _for_port(number: int, by_host: bool, rest: _Bytes) -> Resource:
    """Services on a port that are told apart by host.

    A client may wait as long as it likes before its first request: giving up on it would send it past its service.
    """
    name = f"0.0.0.0_{number}"
    listener = _captured("0.0.0.0", number)
    if by_host:
        listener.listener_filters.append(filters.http_inspector())
        listener.listener_filters_timeout.CopyFrom(seconds(0))
        listener.filter_chains.append(_http_chain([filters.http_by_rds(f"outbound_{name}", str(number))]))
    _add_bytes(listener, rest)
    return Resource.of(name, listener)


@lru_cache(maxsize=65536)
def _forwarding(ip: str, port: int, to: _Bytes) -> Resource:
    """One service at one address, whose bytes are not looked at: a server that speaks first is never kept waiting."""
    listener = _captured(ip, port)
    _add_bytes(listener, to)
    return Resource.of(listener.name, listener)


@lru_cache(maxsize=65536)
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
    """Never bound: 15001 hands over the connections whose original destination this is."""
    return listener_pb2.Listener(
        name=f"{ip}_{port}",
        address=address(ip, port),
        bind_to_port=boolean(False),
        traffic_direction=base_pb2.OUTBOUND,
    )


def _add_bytes(listener: Any, to: _Bytes) -> None:
    """A chain for each rule that looks at the SNI; the first rule that does not takes the rest, and so does the service itself."""
    rest: Sequence[tuple[str, int]] = ((to.cluster, 1),)
    for route in to.routes:
        if not route.sni_hosts:
            rest = route.clusters or rest
            break
        chain = _tcp_chain(to.cluster, route.clusters)
        chain.filter_chain_match.CopyFrom(Match(server_names=route.sni_hosts))
        listener.filter_chains.append(chain)
    if any(chain.filter_chain_match.server_names for chain in listener.filter_chains):
        listener.listener_filters.insert(0, filters.tls_inspector())
        listener.listener_filters_timeout.CopyFrom(seconds(_DETECTION_SECONDS))
        listener.continue_on_listener_filters_timeout = True
    if to.cluster in (PASSTHROUGH, BLACK_HOLE):
        chain = Chain(name="PassthroughFilterChain", filters=[filters.tcp(to.cluster, to.cluster)])
    else:
        chain = _tcp_chain(to.cluster, rest)
    listener.default_filter_chain.CopyFrom(chain)


def _tcp_chain(name: str, clusters: Sequence[tuple[str, int]]) -> Any:
    return Chain(name=name, filters=[filters.tcp_to(name, clusters, connect_attempts=_CONNECT_ATTEMPTS)])


def _http_chain(serve: Sequence[Any]) -> Any:
    """What the inspector took for HTTP. It needs no TLS inspector beside it: a TLS handshake is not HTTP, and goes on as bytes."""
    match = Match(transport_protocol="raw_buffer", application_protocols=filters.PLAIN_HTTP)
    return Chain(filter_chain_match=match, filters=serve)
