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

from envoy.config.core.v3 import base_pb2
from envoy.config.route.v3 import route_components_pb2, route_pb2
from envoy.extensions.retry.host.previous_hosts.v3 import previous_hosts_pb2
from envoy.extensions.retry.priority.previous_priorities.v3 import previous_priorities_config_pb2
from envoy.type.matcher.v3 import regex_pb2, string_pb2

from isthmus.envoy import hashing, virtual_services
from isthmus.envoy.common import BLACK_HOLE, PASSTHROUGH, boolean, packed, seconds, uint32
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

_IDEMPOTENT = "GET|HEAD|OPTIONS|PUT|DELETE|TRACE"
"""RFC 9110, section 9.2.2."""

_SAFE_TO_REPEAT = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"
"""Istio's default: the request did not reach an application, or it was answered that it may be repeated."""

REPEATED_ON, ON_RESET = "x-envoy-retry-on", "reset"

D = TypeVar("D")

_DRAWS_MAX = 40
_VIRTUAL_HOSTS_FIELD = 2


def virtual_host_of(upstream: Upstream, domains: tuple[str, ...]) -> Piece:
    """A service port's virtual host, encoded."""
    policy = upstream.policy
    hedge_after = policy.wishes.hedge_after_seconds or 0.0
    return _virtual_host(upstream.name, host_and_port(upstream), domains, upstream.routes, policy.hash, hedge_after)


def rest_of_port(port: int, extra: Sequence[ExtraHost], elsewhere: Elsewhere) -> Iterator[Piece]:
    """Hosts that VirtualServices add, then whatever else. Port 0 is a socket: each host has the routes of its first port."""
    there = {each.host: each for each in reversed(extra) if port in (0, each.port)}
    for each in (each for each in extra if there.get(each.host) is each):
        yield _virtual_host(BLACK_HOLE, f"{each.host}:{each.port}", (each.host,), each.routes)
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
def _virtual_host(
    cluster: str,
    name: str,
    domains: tuple[str, ...],
    routes: tuple[Route, ...],
    hashed: ConsistentHash | None = None,
    hedge_after: float = 0.0,
) -> Piece:
    """What a VirtualService says; else two routes to one upstream: requests that may run twice are also repeated when their
    connection breaks, and, where that is wished, sent a second time while the first has no answer. What is repeated otherwise is said once.
    """
    host = route_components_pb2.VirtualHost(name=name, domains=domains, include_request_attempt_count=True)
    if routes:
        _say(host, routes)
        return _framed(host)
    host.retry_policy.CopyFrom(_retries(_SAFE_TO_REPEAT))
    host.routes.extend(_default_routes(hashed, hedge_after))
    for route in host.routes:
        route.route.cluster = cluster
    return _framed(host)


@lru_cache(maxsize=64)
def _default_routes(hashed: ConsistentHash | None, hedge_after: float) -> tuple[Any, Any]:
    """To copy, and to lead to some upstream. Building them is most of a virtual host's cost."""
    idempotent = _route("", "default")
    idempotent.match.headers.append(_method_is_idempotent())
    if not hedge_after:
        idempotent.request_headers_to_add.append(_also_on_reset())
    else:
        idempotent.route.retry_policy.CopyFrom(_retries(f"{_SAFE_TO_REPEAT},{ON_RESET}"))
        # With hedging, the end of a try's time does not end the try: whichever answers first is the answer.
        idempotent.route.retry_policy.per_try_timeout.CopyFrom(seconds(hedge_after))
        idempotent.route.hedge_policy.hedge_on_per_try_timeout = True
    other = _route("", "default")
    if hashed:
        for route in (idempotent, other):
            route.route.hash_policy.append(hashing.policy_of(hashed))
    return idempotent, other


def _say(host: Any, found: Sequence[Route]) -> None:
    """The routes of rules, and once for all of those that say nothing about retries what holds for them."""
    default = _retries(_SAFE_TO_REPEAT)
    host.routes.extend(virtual_services.encoded(route, default, host_says_them=True) for route in found)
    if any(route.HasField("route") and not route.route.HasField("retry_policy") for route in host.routes):
        host.retry_policy.CopyFrom(default)


@cache
def _allow_any(cluster: str) -> Piece:
    """Hosts that are nobody's. The connection goes on to the address that the application chose, or by way of an egress proxy."""
    host = route_components_pb2.VirtualHost(name="allow_any", domains=["*"], include_request_attempt_count=True)
    host.routes.append(_route(cluster, "allow_any"))
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


@cache
def _method_is_idempotent() -> Any:
    matcher = string_pb2.StringMatcher(safe_regex=regex_pb2.RegexMatcher(regex=_IDEMPOTENT))
    return route_components_pb2.HeaderMatcher(name=":method", string_match=matcher)


@cache
def _also_on_reset() -> Any:
    """Envoy's router takes this header for itself, and adds what it says to the host's policy: a policy of the route's own would replace it."""
    return base_pb2.HeaderValueOption(header=base_pb2.HeaderValue(key=REPEATED_ON, value=ON_RESET))


@cache
def _retries(on: str) -> Any:
    """Elsewhere, and at once: Envoy's own 25 ms before the first retry is longer than most requests.

    The second retry leaves the places that were tried: while nobody has noticed yet that all near endpoints are gone, it goes far.
    """
    farther = previous_priorities_config_pb2.PreviousPrioritiesConfig(update_frequency=2)
    return route_components_pb2.RetryPolicy(
        retry_priority=route_components_pb2.RetryPolicy.RetryPriority(
            name="previous_priorities", typed_config=packed(farther)
        ),
        retry_on=on,
        retriable_status_codes=[503],
        num_retries=uint32(2),
        retry_back_off=route_components_pb2.RetryPolicy.RetryBackOff(
            base_interval=seconds(0.002), max_interval=seconds(0.02)
        ),
        # Of few destinations, one with most of the weight is drawn again and again: with Istio's 5 draws the last try went where the first did.
        host_selection_retry_max_attempts=_DRAWS_MAX,
        retry_host_predicate=[
            route_components_pb2.RetryPolicy.RetryHostPredicate(
                name="previous_hosts",
                typed_config=packed(previous_hosts_pb2.PreviousHostsPredicate()),
            )
        ],
    )
