"""View: composes sameness, visibility, reachability, balancing and naming into what one proxy is to know.

Laws, held by tests/discovery/test_laws.py: the destinations' endpoints and the left-out ones partition a service's endpoints; a service
that a proxy does not see changes nothing for it; equal meshes give equal views, in whatever order their objects came.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from isthmus.discovery.balancing import Scales
from isthmus.discovery.callers import scope_for
from isthmus.discovery.destination_rules import rule_for
from isthmus.discovery.envoy_filters import cluster_patches_for, patches_for
from isthmus.discovery.federation import with_guests
from isthmus.discovery.headless import as_called
from isthmus.discovery.inbound import inbound_view
from isthmus.discovery.ingress import gateway_ports, topology_for
from isthmus.discovery.naming import name_table, virtual_ips
from isthmus.discovery.routing import connections_for, extra_hosts, http_routes, route_of_mesh, rules_held
from isthmus.discovery.security import authorization_for
from isthmus.discovery.sight import Sight, sight_of
from isthmus.discovery.spreading import Spread, Use, scales_of, spread, uses_of
from isthmus.discovery.telemetry import reporting_for
from isthmus.discovery.visibility import exposes, exposures_for
from isthmus.model.identity import SpiffeId
from isthmus.model.names import ServiceKey
from isthmus.model.routing import MESH, ConnectionRoute, Route, VirtualService
from isthmus.model.security import Authorization
from isthmus.model.services import Service
from isthmus.model.snapshot import Exposure, Snapshot
from isthmus.model.telemetry import Mode
from isthmus.model.traffic import TrafficPolicy
from isthmus.model.views import (
    OutboundView,
    Proxy,
    ProxyKind,
    Scope,
    Upstream,
    View,
)


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
    upstreams = tuple(
        each for service in services if sight.sees(service) for each in upstreams_of(scope, service, sight, snapshot)
    )
    exposed = tuple(
        each for service in services if exposures for each in exposed_of(scope, service, exposures, snapshot)
    )
    return whole_view(scope, sight, upstreams, exposed, snapshot)


def whole_view(
    scope: Scope,
    sight: Sight,
    upstreams: tuple[Upstream, ...],
    exposed: tuple[tuple[int, Upstream], ...],
    snapshot: Snapshot,
) -> OutboundView:
    """With what is one for all upstreams. Of these it needs nothing."""
    return OutboundView(
        scope=scope,
        trust_domain=snapshot.settings.trust_domain,
        dns_domain=snapshot.settings.dns_domain,
        upstreams=upstreams,
        names=name_table(scope, sight, snapshot),
        elsewhere=sight.elsewhere,
        placement=sight.placement,
        peer_authorities=snapshot.settings.peer_authorities,
        own_trust=snapshot.settings.own_trust,
        extra_hosts=extra_hosts(scope, sight, snapshot),
        gateway_ports=gateway_ports(scope, snapshot),
        authorization=with_guests(authorization_for(scope.namespace, scope.labels, snapshot), {}, snapshot)
        if scope.kind is ProxyKind.ROUTER
        else Authorization(),
        topology=topology_for(scope, snapshot),
        reporting=reporting_for(scope, scope.labels, Mode.CLIENT, snapshot),
        patches=patches_for(scope, snapshot),
        exposed=exposed,
    )


def upstreams_of(scope: Scope, service: Service, sight: Sight, snapshot: Snapshot) -> Iterator[Upstream]:
    """A seen service's ports, by number, each whole and then by subset."""
    held = rules_held(service.hostname, scope, sight, snapshot)
    identities = identities_of(service.key, snapshot)
    scales = scales_of(snapshot)
    seen = [port for port in service.ports if sight.sees(service, port)]
    for use in uses_of(service, seen, rule_for(scope, service, snapshot), snapshot.settings.traffic_policy):
        yield upstream_of(scope, use, spread(scope, use, snapshot, scales), identities, held, snapshot)


def exposed_of(
    scope: Scope, service: Service, exposures: Sequence[Exposure], snapshot: Snapshot
) -> Iterator[tuple[int, Upstream]]:
    """What a network gateway passes through to the service, and on which of its own ports."""
    numbers, uses = uses_exposed(scope, service, exposures, snapshot)
    identities = identities_of(service.key, snapshot) if uses else ()
    scales = scales_of(snapshot) if uses else Scales(1)
    for use in uses:
        upstream = upstream_of(scope, use, spread(scope, use, snapshot, scales), identities, None, snapshot)
        yield from ((number, upstream) for number in numbers)


def uses_exposed(
    scope: Scope, service: Service, exposures: Sequence[Exposure], snapshot: Snapshot
) -> tuple[list[int], list[Use]]:
    """The gateway's own ports, and what is passed through there.

    Also of a service that the gateway's namespace does not see: whoever calls it through there does. A Pod that is not on its network is
    somebody else's to pass through to.
    """
    if service.pod_of and scope.network not in (service.near_in or ()):
        return [], []
    numbers = sorted({exposure.port for exposure in exposures if exposes(exposure, service, snapshot.settings)})
    if not numbers:
        return [], []
    rule = rule_for(scope, service, snapshot)
    return numbers, list(uses_of(service, service.ports, rule, snapshot.settings.traffic_policy, passed_through=True))


def upstream_of(
    scope: Scope,
    use: Use,
    found: Spread,
    identities: tuple[SpiffeId, ...],
    held: VirtualService | None,
    snapshot: Snapshot,
) -> Upstream:
    """With what a VirtualService says of its requests, and of connections whose requests nobody looks at."""
    service, port = as_called(scope, snapshot.services[use.service]), use.port
    ips = virtual_ips(scope, service)
    wishes = use.policy.wishes.over(service.wishes).over(snapshot.settings.wishes)
    routes: tuple[Route, ...] = ()
    connections: tuple[ConnectionRoute, ...] = ()
    if held and not use.subset and not port.protocol.is_opaque:
        routes = http_routes(held, scope, port.number, snapshot, MESH)
    if not routes and not use.subset and not port.protocol.is_opaque:
        of_mesh = route_of_mesh(f"outbound|{port.number}||{service.hostname}", use.policy.hash, snapshot)
        routes = (of_mesh,) if of_mesh else ()
    if held and not use.subset and not port.protocol.is_http:
        connections = connections_for(held, scope, port, ips, snapshot)
    return Upstream(
        service=service,
        port=port,
        subset=use.subset.name if use.subset else "",
        virtual_ips=ips,
        groups=found.groups,
        left_out=found.left_out,
        ways=found.ways,
        expected_identities=identities,
        policy=_as_given(use.policy if wishes == use.policy.wishes else replace(use.policy, wishes=wishes), scope),
        rule=use.rule,
        patches=cluster_patches_for(scope, snapshot),
        locality_weighted=found.locality_weighted,
        judged_by_one_bundle=scope.trusts_in_one_bundle,
        routes=routes,
        connections=connections,
    )


def _as_given(policy: TrafficPolicy, scope: Scope) -> TrafficPolicy:
    """Secrets of rules that do not choose their callers are for gateways alone; a sidecar goes by what the rule has beside them."""
    said = policy.origination
    if scope.kind is ProxyKind.ROUTER or said is None or not said.credential or said.for_sidecars:
        return policy
    return replace(policy, origination=replace(said, credential=""))


def identities_of(service: ServiceKey, snapshot: Snapshot) -> tuple[SpiffeId, ...]:
    """Of every workload of the service, in all clusters, under each name of the mesh's trust domain: what a caller may meet."""
    settings, endpoints = snapshot.settings, snapshot.endpoints.get(service, ())
    found = {e.workload.identity for e in endpoints if e.workload.identity is not None and e.workload.meshed}
    own = [identity for identity in found if identity.trust_domain == settings.trust_domain]
    also = {replace(identity, trust_domain=alias) for identity in own for alias in settings.trust_domain_aliases}
    return tuple(sorted(found | also))
