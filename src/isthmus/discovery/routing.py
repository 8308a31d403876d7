"""Which routes requests and connections for a service port take: the VirtualService that holds, resolved to upstreams."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from dataclasses import replace

from isthmus.discovery.destination_rules import rule_for
from isthmus.discovery.sight import Sight
from isthmus.model.names import Hostname, covers
from isthmus.model.routing import (
    MESH,
    ConnectionMatch,
    ConnectionRoute,
    ConnectionRule,
    Handling,
    HeaderChanges,
    HttpRule,
    RequestMatch,
    Route,
    Target,
    VirtualService,
)
from isthmus.model.services import Service, ServicePort
from isthmus.model.snapshot import Snapshot
from isthmus.model.traffic import ConsistentHash, TrafficPolicy, Treatment
from isthmus.model.views import ExtraHost, ProxyKind, Scope

_HTTP_PORT = 80


def rules_held(hostname: Hostname, scope: Scope, sight: Sight, snapshot: Snapshot) -> VirtualService | None:
    """The VirtualService that holds in the mesh for requests to the host: the most specific one; of several, routes of the caller's own
    namespace, else the oldest.
    """
    best: tuple[tuple[bool, int, bool], VirtualService] | None = None
    for candidate in snapshot.virtual_services_by_host.get(hostname, ()):
        if not candidate.is_for(MESH) or not sight.holds(candidate):
            continue
        for host in candidate.hosts:
            rank = (host == hostname, len(host), candidate.of_routes and candidate.namespace == scope.namespace)
            if covers(host, hostname) and (best is None or rank > best[0]):
                best = (rank, candidate)
    return best[1] if best else None


def connections_for(
    held: VirtualService, scope: Scope, port: ServicePort, virtual_ips: Sequence[str], snapshot: Snapshot
) -> tuple[ConnectionRoute, ...]:
    """Of connections whose requests are not looked at: by SNI first, then all others."""
    routes = []
    for rule in (*held.tls, *held.tcp):
        for match in rule.matches or (ConnectionMatch(),):
            if not _holds_for(match, held, scope, port.number, MESH):
                continue
            if match.subnets and virtual_ips and not _within(virtual_ips, match.subnets):
                continue
            routes.append(_connections(match, rule, scope, port.number, snapshot))
    return tuple(routes)


def extra_hosts(scope: Scope, sight: Sight, snapshot: Snapshot) -> tuple[ExtraHost, ...]:
    """Hosts of VirtualServices that are no visible service's, on the ports of the services that the same VirtualService has; on port 80
    where it has none (as in Istio).
    """
    if scope.kind is ProxyKind.ROUTER:
        return ()
    found: dict[tuple[Hostname, int], ExtraHost] = {}
    known = {key.hostname for key in sight.ports}
    for rule in sight.virtual_services:
        if not rule.is_for(MESH) or not rule.rules:
            continue
        lonely = [host for host in rule.hosts if host != "*" and not _covers_any(host, known)]
        if not lonely:
            continue
        ports = {
            port.number
            for host in rule.hosts
            for service in _visible(host, sight, snapshot)
            for port in service.ports
            if not port.protocol.is_opaque and sight.sees(service, port)
        } or {_HTTP_PORT}
        for host in lonely:
            for number in sorted(ports):
                routes = http_routes(rule, scope, number, snapshot, MESH)
                if routes:
                    found.setdefault((host, number), ExtraHost(host=host, port=number, routes=routes))
    return tuple(each for _, each in sorted(found.items()))


def _covers_any(host: Hostname, known: set[Hostname]) -> bool:
    """Asked of every host of every rule, for each scope: nothing is read for it."""
    return any(covers(host, each) for each in known) if host.startswith("*") else host in known


def _visible(host: Hostname, sight: Sight, snapshot: Snapshot) -> list[Service]:
    """The visible services that the host, as a rule writes it, covers."""
    if host.startswith("*"):
        return [snapshot.services[key] for key in sight.ports if covers(host, key.hostname)]
    return [snapshot.services[key] for key in snapshot.keys_by_host.get(host, ()) if key in sight.ports]


def http_routes(found: VirtualService, scope: Scope, port: int, snapshot: Snapshot, gateway: str) -> tuple[Route, ...]:
    """The VirtualService's rules for callers of this scope through this gateway (or the mesh)."""
    return tuple(_up_to_catch_all(_routes(found, scope, port, snapshot, gateway)))


def _routes(found: VirtualService, scope: Scope, port: int, snapshot: Snapshot, gateway: str) -> Iterator[Route]:
    for index, rule in enumerate(found.rules):
        matches = rule.matches or (RequestMatch(),)
        for number, match in enumerate(matches):
            if not _holds_for(match, found, scope, port, gateway) or (gateway == MESH and match.asks_for_claims):
                continue
            name = rule.name or (f"{found.name}.{index}" if rule.matches else "default")
            if match.name or len(matches) > 1:
                name = f"{name}.{match.name or number}"
            yield _resolved(rule, match, name, port, scope, snapshot)


def _holds_for(
    match: RequestMatch | ConnectionMatch, found: VirtualService, scope: Scope, port: int, gateway: str
) -> bool:
    """What a match says of the caller is decided here; what it says of a request is left to Envoy."""
    return (
        match.port in (0, port)
        and (not match.source_namespace or match.source_namespace == scope.namespace)
        and gateway in (match.gateways or found.gateways)
        and (not match.source_labels or set(match.source_labels) <= set(scope.labels))
    )


def _resolved(rule: HttpRule, match: RequestMatch, name: str, port: int, scope: Scope, snapshot: Snapshot) -> Route:
    hashes = [_hash(target, port, scope, snapshot) for target, _, _ in rule.targets]
    return Route(
        name=name,
        match=match,
        clusters=tuple(
            (_upstream(target, port, snapshot), weight, headers) for target, weight, headers in rule.targets
        ),
        mirrors=tuple((_upstream(target, port, snapshot), percent) for target, percent in rule.mirrors),
        handling=_with_retries(_at_port(rule.handling, port), snapshot),
        origin=rule.origin,
        hashes=tuple(dict.fromkeys(found for found in hashes if found is not None)),
    )


def route_of_mesh(upstream: str, hashed: ConsistentHash | None, snapshot: Snapshot) -> Route | None:
    """For a host that no rule is about, where the mesh has retries of its own."""
    if snapshot.settings.retries is None:
        return None
    return Route(
        name="default",
        match=RequestMatch(),
        clusters=((upstream, 1, HeaderChanges()),),
        mirrors=(),
        handling=Handling(retries=snapshot.settings.retries),
        hashes=(hashed,) if hashed else (),
    )


def _with_retries(handling: Handling, snapshot: Snapshot) -> Handling:
    asked = snapshot.settings.retries
    return handling if handling.retries or asked is None else replace(handling, retries=asked)


def _at_port(handling: Handling, port: int) -> Handling:
    redirect = handling.redirect
    if redirect is None or not redirect.as_called:
        return handling
    return replace(handling, redirect=replace(redirect, port=port))


def _hash(target: Target, port: int, scope: Scope, snapshot: Snapshot) -> ConsistentHash | None:
    """What the destination's rule has endpoints chosen by."""
    policy = _policy(target, port, scope, snapshot)
    return policy.hash if policy else None


def _policy(target: Target, port: int, scope: Scope, snapshot: Snapshot) -> TrafficPolicy | None:
    service = _service(target.host, snapshot)
    rule = rule_for(scope, service, snapshot) if service else None
    if service is None or rule is None:
        return None
    subset = next((subset for subset in rule.subsets if subset.name == target.subset), None)
    return rule.policy_for(_port_of(target, port, service), subset)


def _connections(
    match: ConnectionMatch, rule: ConnectionRule, scope: Scope, port: int, snapshot: Snapshot
) -> ConnectionRoute:
    return ConnectionRoute(
        sni_hosts=match.sni_hosts,
        subnets=match.subnets,
        clusters=connection_clusters(rule, port, snapshot),
        treatment=connection_treatment(rule, scope, port, snapshot),
    )


def connection_treatment(rule: ConnectionRule, scope: Scope, port: int, snapshot: Snapshot) -> Treatment:
    """As the rule of the destination says. One filter serves all destinations of several: none of them has a tunnel of its own then, the
    shortest time without bytes counts, and the source chooses for all if it does for one.
    """
    policies = [_policy(target, port, scope, snapshot) for target, _ in rule.targets]
    asked = [policy.of_bytes for policy in policies if policy is not None]
    if len(policies) == 1:
        return next(iter(asked), Treatment())
    return Treatment(
        by_source=any(each.by_source for each in asked),
        idle_seconds=min((each.idle_seconds for each in asked if each.idle_seconds), default=0),
    )


def connection_clusters(rule: ConnectionRule, port: int, snapshot: Snapshot) -> tuple[tuple[str, int], ...]:
    """Where connections to the port go that the rule means, with weights."""
    return tuple((_upstream(target, port, snapshot), weight) for target, weight in rule.targets)


def _within(addresses: Sequence[str], subnets: Sequence[str]) -> bool:
    ranges = [ipaddress.ip_network(subnet, strict=False) for subnet in subnets]
    return any(ipaddress.ip_address(address) in subnet for address in addresses for subnet in ranges)


def _upstream(target: Target, port: int, snapshot: Snapshot) -> str:
    """Without a port, the service's only one, else the one that was called. A host that nobody declares keeps its name: 503."""
    number = _port_of(target, port, _service(target.host, snapshot))
    return f"outbound|{number}|{target.subset}|{target.host}"


def _port_of(target: Target, called: int, service: Service | None) -> int:
    if target.port:
        return target.port
    return service.ports[0].number if service and len(service.ports) == 1 else called


def _service(host: Hostname, snapshot: Snapshot) -> Service | None:
    """The one whose namespace is in its name, as Kubernetes has it; else the first by namespace."""
    keys = snapshot.keys_by_host.get(host, ())
    named = [key for key in keys if key.namespace == next(iter(host.split(".", 2)[1:]), "")]
    return snapshot.services[min(named or keys)] if keys else None


def _up_to_catch_all(routes: Iterator[Route]) -> Iterator[Route]:
    """What stands behind a route that takes everything is never asked."""
    for route in routes:
        yield route
        match = route.match
        said = (match.uri, match.method, match.scheme, match.authority)
        if said == (None,) * 4 and not (match.headers or match.without_headers or match.query):
            return
