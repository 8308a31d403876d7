"""Routes: which upstream a request's host means.

A virtual host for each service on a port, under every name that applications beside the proxy may use for it. Envoy refuses a whole route
configuration in which two virtual hosts claim one domain, so a domain has one owner: a service's full name always is its own; then its
virtual addresses, those of the proxy's own cluster first (address ranges of clusters may overlap); then the short forms, of which those that
say no namespace come last.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache, lru_cache
from typing import Any, TypeVar

from envoy.config.route.v3 import route_components_pb2, route_pb2

from isthmus.envoy import hashing, repeating, virtual_services
from isthmus.envoy.common import PASSTHROUGH, boolean, seconds, uint32
from isthmus.envoy.resources import Piece, Resource
from isthmus.envoy.wire import block
from isthmus.incremental.while_used import while_used
from isthmus.model.names import Namespace
from isthmus.model.routing import DIRECT_BODY_BYTES_MAX, Route
from isthmus.model.services import Service
from isthmus.model.sidecars import Elsewhere
from isthmus.model.traffic import ConsistentHash
from isthmus.model.values import dataclass
from isthmus.model.views import ExtraHost, Scope, Upstream

D = TypeVar("D")

_VIRTUAL_HOSTS_FIELD = 2


def virtual_host_of(upstream: Upstream, domains: tuple[str, ...]) -> Piece:
    """A service port's virtual host among others, encoded. The filter before their table knows which requests may run twice."""
    return _host_of(upstream, domains, by_method=False)


def only_virtual_host_of(upstream: Upstream) -> Piece:
    """One with a table to itself, before which there is no such filter: it would be larger than the route that it saves."""
    return _host_of(upstream, ("*",), by_method=True)


def _host_of(upstream: Upstream, domains: tuple[str, ...], *, by_method: bool) -> Piece:
    """Hedging has a policy of its own, so there requests are told apart by method in any case."""
    name = host_and_port(upstream)
    if upstream.routes:
        return _by_rules(name, domains, upstream.routes)
    hedge_after = upstream.policy.wishes.hedge_after_seconds or 0.0
    by_method = by_method or bool(hedge_after)
    return _by_default(upstream.name, name, domains, upstream.policy.hash, hedge_after, by_method=by_method)


def rest_of_port(port: int, extra: Sequence[ExtraHost], elsewhere: Elsewhere) -> Iterator[Piece]:
    """Hosts that VirtualServices add, then whatever else. Port 0 is a socket: each host has the routes of its first port."""
    there = {each.host: each for each in reversed(extra) if port in (0, each.port)}
    for each in (each for each in extra if there.get(each.host) is each):
        yield _by_rules(f"{each.host}:{each.port}", (each.host,), each.routes)
    yield _block_all() if elsewhere.registry_only else _allow_any(elsewhere.by_way_of or PASSTHROUGH)


def inbound_routes(cluster: str, port: int) -> Any:
    """For requests to the proxy's own workload. No retries: the caller's proxy may choose another workload, this one cannot."""
    host = route_components_pb2.VirtualHost(name=f"inbound|http|{port}", domains=["*"])
    host.routes.append(_route(cluster, "default"))
    return route_pb2.RouteConfiguration(name=cluster, virtual_hosts=[host], validate_clusters=boolean(False))


def gateway_host(name: str, domain: str, found: tuple[Route, ...], require_tls: Any) -> Piece:
    """A host at an ingress gateway, encoded. `require_tls` redirects plaintext."""
    host = route_components_pb2.VirtualHost(
        name=name, domains=[domain], include_request_attempt_count=True, require_tls=require_tls
    )
    _say(host, found)
    return _framed(host)


def configuration(name: str, hosts: Sequence[Piece]) -> Resource:
    """Spliced from encoded virtual hosts. Upstreams are not validated: they arrive by another path, and a moment apart."""
    head = Piece.of(route_pb2.RouteConfiguration(name=name).SerializeToString(deterministic=True))
    return Resource.of_pieces(name, (head, *hosts, _end()))


@cache
def _end() -> Piece:
    end = route_pb2.RouteConfiguration(
        validate_clusters=boolean(False),
        ignore_port_in_host_matching=True,
        max_direct_response_body_size_bytes=uint32(DIRECT_BODY_BYTES_MAX),
    )
    return Piece.of(end.SerializeToString(deterministic=True))


def _framed(host: Any) -> Piece:
    """A virtual host, encoded as it stands in a route table."""
    return Piece.of(block(_VIRTUAL_HOSTS_FIELD, host.SerializeToString(deterministic=True)))


def host_and_port(upstream: Upstream) -> str:
    """The name of a service port's virtual host, and of the table of one that has listeners to itself."""
    return f"{upstream.service.hostname}:{upstream.port.number}"


@dataclass(frozen=True, slots=True)
class Named:
    """A service port in a route table: the domains that mean it for whoever calls, and further ones for callers in some namespace alone."""

    upstream: Upstream
    domains: tuple[str, ...]
    near: tuple[tuple[Namespace, str], ...] = ()

    def domains_from(self, namespace: Namespace) -> tuple[str, ...]:
        """Those for callers in the namespace."""
        return (*self.domains, *(name for home, name in self.near if home == namespace))


def named(upstreams: Sequence[Upstream], scope: Scope, dns_domain: str) -> Iterator[Named]:
    """Who is meant by which domains, on one port, by host. Of the caller only the cluster matters, so that namespaces share it."""
    own = scope.cluster
    by_closeness = sorted(upstreams, key=lambda upstream: own not in upstream.service.declared_in)
    names = {id(upstream): upstream.name for upstream in upstreams}
    owner: dict[str, str] = {}
    near: dict[tuple[Namespace, str], str] = {}
    for upstream in upstreams:
        owner.setdefault(upstream.service.hostname, names[id(upstream)])
        owner.setdefault(upstream.service.hostname + ".", names[id(upstream)])
    for upstream in by_closeness:
        for ip in upstream.virtual_ips:
            owner.setdefault(f"[{ip}]" if ":" in ip else ip, names[id(upstream)])
    for upstream in by_closeness:
        for short in _shortened(upstream.service, dns_domain):
            owner.setdefault(short, names[id(upstream)])
    for upstream in by_closeness:
        for home, name in _nearest(upstream.service, dns_domain):
            if name not in owner:
                near.setdefault((home, name), names[id(upstream)])
    domains, also = _claimed(owner), _claimed(near)
    for upstream in sorted(upstreams, key=lambda upstream: upstream.service.hostname):
        called = names[id(upstream)]
        if claimed := domains.pop(called, None):
            yield Named(upstream, tuple(claimed), tuple(also.get(called, ())))


def _claimed(owner: Mapping[D, str]) -> dict[str, list[D]]:
    """By who has it."""
    found: dict[str, list[D]] = {}
    for domain, name in owner.items():
        found.setdefault(name, []).append(domain)
    return found


def short_names(upstream: Upstream, namespace: Namespace, dns_domain: str) -> Iterator[str]:
    """What the search domains of a Pod in this namespace complete to the full name; Pods of a headless service; and other names for it."""
    yield from (name for home, name in _nearest(upstream.service, dns_domain) if home == namespace)
    yield from _shortened(upstream.service, dns_domain)


def _shortened(service: Service, dns_domain: str) -> Iterator[str]:
    """Those that every caller has."""
    for home, alias in service.aliases:
        yield f"{alias}.{home}.svc.{dns_domain}"
        yield f"{alias}.{home}.svc"
        yield f"{alias}.{home}"
    if _is_of_cluster(service, dns_domain):
        yield f"{service.name}.{service.namespace}.svc"
        yield f"{service.name}.{service.namespace}"
    if service.headless:
        yield f"*.{service.hostname}"


def _nearest(service: Service, dns_domain: str) -> Iterator[tuple[Namespace, str]]:
    """Those that say no namespace, with the one in which they are said."""
    yield from service.aliases
    if _is_of_cluster(service, dns_domain):
        yield service.namespace, service.name


def _is_of_cluster(service: Service, dns_domain: str) -> bool:
    return service.hostname == f"{service.name}.{service.namespace}.svc.{dns_domain}"


@while_used
def _by_rules(name: str, domains: tuple[str, ...], routes: tuple[Route, ...]) -> Piece:
    """What a VirtualService says."""
    host = route_components_pb2.VirtualHost(name=name, domains=domains, include_request_attempt_count=True)
    _say(host, routes)
    repeating.leave_alone(host)
    return _framed(host)


@while_used
def _by_default(
    cluster: str,
    name: str,
    domains: tuple[str, ...],
    hashed: ConsistentHash | None,
    hedge_after: float,
    *,
    by_method: bool,
) -> Piece:
    """One route to one upstream; `by_method`, two of them: one is for requests that may run twice."""
    host = route_components_pb2.VirtualHost(name=name, domains=domains, include_request_attempt_count=True)
    host.retry_policy.CopyFrom(repeating.policy(repeating.SAFE))
    if by_method:
        host.routes.append(_of_idempotent(hashed, hedge_after))
    host.routes.append(_of_any(hashed))
    for route in host.routes:
        route.route.cluster = cluster
    return _framed(host)


@lru_cache(maxsize=64)
def _of_any(hashed: ConsistentHash | None) -> Any:
    """To copy, and to lead to some upstream. Building it is most of a virtual host's cost."""
    route = _route("", "default")
    if hashed:
        route.route.hash_policy.append(hashing.policy_of(hashed))
    return route


@lru_cache(maxsize=64)
def _of_idempotent(hashed: ConsistentHash | None, hedge_after: float) -> Any:
    """The same for requests that may run twice: they are also repeated when their connection breaks, and, where that is wished, sent a second
    time while the first has no answer.
    """
    route = route_components_pb2.Route.FromString(_of_any(hashed).SerializeToString())
    route.match.headers.append(repeating.is_idempotent())
    if not hedge_after:
        route.request_headers_to_add.append(repeating.also_on_reset())
        return route
    route.route.retry_policy.CopyFrom(repeating.policy(f"{repeating.SAFE},{repeating.ON_RESET}"))
    # With hedging, the end of a try's time does not end the try: whichever answers first is the answer.
    route.route.retry_policy.per_try_timeout.CopyFrom(seconds(hedge_after))
    route.route.hedge_policy.hedge_on_per_try_timeout = True
    return route


def _say(host: Any, found: Sequence[Route]) -> None:
    """The routes of rules, and once for all of those that say nothing about retries what holds for them."""
    default = repeating.policy(repeating.SAFE)
    host.routes.extend(virtual_services.encoded(route, default, host_says_them=True) for route in found)
    if any(route.HasField("route") and not route.route.HasField("retry_policy") for route in host.routes):
        host.retry_policy.CopyFrom(default)


@cache
def _allow_any(cluster: str) -> Piece:
    """Hosts that are nobody's. The connection goes on to the address that the application chose, or by way of an egress proxy."""
    host = route_components_pb2.VirtualHost(name="allow_any", domains=["*"], include_request_attempt_count=True)
    host.routes.append(_route(cluster, "allow_any"))
    repeating.leave_alone(host)
    return _framed(host)


@cache
def _block_all() -> Piece:
    """Hosts that are nobody's, where only what is declared may be called."""
    host = route_components_pb2.VirtualHost(name="block_all", domains=["*"], include_request_attempt_count=True)
    route = host.routes.add(name="block_all")
    route.match.prefix = "/"
    route.direct_response.status = 502
    return _framed(host)


def _route(cluster: str, name: str) -> Any:
    """No time limit, as Istio: how long a request may take is its application's to say."""
    route = route_components_pb2.Route(name=name)
    route.match.prefix = "/"
    route.route.cluster = cluster
    route.route.timeout.CopyFrom(seconds(0))
    route.route.max_stream_duration.max_stream_duration.CopyFrom(seconds(0))
    route.route.max_stream_duration.grpc_timeout_header_max.CopyFrom(seconds(0))
    return route
