"""View: composes sameness, visibility, reachability, balancing and naming into what one proxy is to know.

Laws, held by tests/discovery/test_laws.py: the destinations' endpoints and the left-out ones partition a service's endpoints; a service
that a proxy does not see changes nothing for it; equal meshes give equal views, in whatever order their objects came.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from isthmus.discovery.callers import scope_for
from isthmus.discovery.destination_rules import rule_for
from isthmus.discovery.inbound import inbound_view
from isthmus.discovery.ingress import gateway_ports
from isthmus.discovery.naming import name_table, virtual_ips
from isthmus.discovery.routing import connections_for, extra_hosts, routes_for
from isthmus.discovery.security import authorization_for
from isthmus.discovery.sight import Sight, sight_of
from isthmus.discovery.spreading import Spread, spread, spread_passed_through
from isthmus.discovery.visibility import exposes, exposures_for
from isthmus.model.identity import SpiffeId
from isthmus.model.routing import ConnectionRoute, Route
from isthmus.model.security import Authorization
from isthmus.model.services import Protocol, Service, ServicePort
from isthmus.model.snapshot import Exposure, MeshSettings, Snapshot
from isthmus.model.traffic import Subset, TrafficPolicy
from isthmus.model.views import (
    OutboundView,
    Proxy,
    ProxyKind,
    Scope,
    Upstream,
    View,
)
from isthmus.model.workloads import Endpoint


def view_for(proxy: Proxy, snapshot: Snapshot) -> View:
    """Everything that this proxy is to know."""
    return View(
        proxy=proxy,
        outbound=outbound_view(scope_for(proxy, snapshot), snapshot),
        inbound=inbound_view(proxy, snapshot),
    )


def outbound_view(scope: Scope, snapshot: Snapshot) -> OutboundView:
    """What all proxies of one scope share. It is given nothing else about a proxy, so it cannot depend on more."""
    sight = sight_of(scope, snapshot)
    exposures = exposures_for(scope, snapshot)
    services = [service for _, service in sorted(snapshot.services.items())]
    seen = [service for service in services if sight.sees(service)]
    return OutboundView(
        scope=scope,
        trust_domain=snapshot.settings.trust_domain,
        dns_domain=snapshot.settings.dns_domain,
        upstreams=tuple(each for service in seen for each in upstreams_of(scope, service, sight, snapshot)),
        names=name_table(scope, sight, snapshot),
        registry_only=sight.registry_only,
        extra_hosts=extra_hosts(scope, sight, snapshot),
        gateway_ports=gateway_ports(scope, snapshot),
        authorization=authorization_for(scope.namespace, scope.labels, snapshot)
        if scope.kind is ProxyKind.ROUTER
        else Authorization(),
        exposed=tuple(
            each for service in services if exposures for each in exposed_of(scope, service, exposures, snapshot)
        ),
    )


def upstreams_of(scope: Scope, service: Service, sight: Sight, snapshot: Snapshot) -> Iterator[Upstream]:
    """A seen service's ports, by number, each whole and then by subset."""
    rule = rule_for(scope, service, snapshot)
    for port in _ports(service):
        if sight.sees(service, port):
            for subset in (None, *(rule.subsets if rule else ())):
                policy = rule.policy_for(port.number, subset) if rule else TrafficPolicy()
                found = spread(scope, service, port, policy, subset, snapshot)
                upstream = _upstream(scope, service, port, policy, subset, found, snapshot)
                yield upstream if subset else _routed(scope, upstream, sight, snapshot)


def exposed_of(
    scope: Scope, service: Service, exposures: Sequence[Exposure], snapshot: Snapshot
) -> Iterator[tuple[int, Upstream]]:
    """What a network gateway passes through to the service, and on which of its own ports.

    Also to one that its own namespace does not see: whoever calls it through there does.
    """
    numbers = sorted({exposure.port for exposure in exposures if exposes(exposure, service, snapshot.settings)})
    rule = rule_for(scope, service, snapshot) if numbers else None
    for port in _ports(service) if numbers else ():
        for subset in (None, *(rule.subsets if rule else ())):
            policy = rule.policy_for(port.number, subset) if rule else TrafficPolicy()
            found = spread_passed_through(scope, service, port, policy, subset, snapshot)
            upstream = _upstream(scope, service, port, policy, subset, found, snapshot)
            yield from ((number, upstream) for number in numbers)


def _ports(service: Service) -> Iterator[ServicePort]:
    """Every port that can be an upstream, by number. UDP is never one."""
    return (port for port in service.ports if port.protocol is not Protocol.UDP)


def _upstream(
    scope: Scope,
    service: Service,
    port: ServicePort,
    policy: TrafficPolicy,
    subset: Subset | None,
    found: Spread,
    snapshot: Snapshot,
) -> Upstream:
    return Upstream(
        service=service,
        port=port,
        subset=subset.name if subset else "",
        virtual_ips=virtual_ips(scope, service),
        groups=found.groups,
        left_out=found.left_out,
        expected_identities=_identities(snapshot.endpoints.get(service.key, ()), snapshot.settings),
        policy=policy,
        locality_weighted=found.locality_weighted,
    )


def _routed(scope: Scope, upstream: Upstream, sight: Sight, snapshot: Snapshot) -> Upstream:
    """With what a VirtualService says of its requests, and of connections whose requests nobody looks at."""
    service, port = upstream.service, upstream.port
    routes: tuple[Route, ...] = ()
    connections: tuple[ConnectionRoute, ...] = ()
    if not port.protocol.is_opaque:
        routes = routes_for(scope, service, port, sight, snapshot)
    if not port.protocol.is_http:
        connections = connections_for(scope, service, port, upstream.virtual_ips, sight, snapshot)
    return replace(upstream, routes=routes, connections=connections)


def _identities(endpoints: tuple[Endpoint, ...], settings: MeshSettings) -> tuple[SpiffeId, ...]:
    """Of every workload of the service, in all clusters, under each name of the mesh's trust domain: what a caller may meet."""
    found = {e.workload.identity for e in endpoints if e.workload.identity is not None and e.workload.meshed}
    own = [identity for identity in found if identity.trust_domain == settings.trust_domain]
    also = {replace(identity, trust_domain=alias) for identity in own for alias in settings.trust_domain_aliases}
    return tuple(sorted(found | also))
