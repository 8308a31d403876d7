"""View: composes sameness, visibility, reachability, balancing and naming into what one proxy is to know.

Laws, held by tests/discovery/test_laws.py: the destinations' endpoints and the left-out ones partition a service's endpoints; a service
that a proxy does not see changes nothing for it; equal meshes give equal views, in whatever order their objects came.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from isthmus.discovery.balancing import Reached, groups_of, scale_of
from isthmus.discovery.callers import scope_for
from isthmus.discovery.destination_rules import is_in, rule_for
from isthmus.discovery.inbound import inbound_view
from isthmus.discovery.ingress import gateway_ports
from isthmus.discovery.locality import behind, preference_for, priorities, shared_out
from isthmus.discovery.naming import name_table, virtual_ips
from isthmus.discovery.reachability import reach, standing_of
from isthmus.discovery.routing import connections_for, extra_hosts, routes_for
from isthmus.discovery.security import authorization_for, takes_mutual_tls
from isthmus.discovery.sight import Sight, sight_of
from isthmus.discovery.visibility import exposes, exposures_for
from isthmus.model.identity import SpiffeId
from isthmus.model.routing import ConnectionRoute, Route
from isthmus.model.security import Authorization
from isthmus.model.services import Protocol, Service, ServicePort
from isthmus.model.snapshot import MeshSettings, Snapshot
from isthmus.model.topology import Standing
from isthmus.model.traffic import Subset, TrafficPolicy
from isthmus.model.views import (
    LeftOut,
    LocalityGroup,
    OutboundView,
    Proxy,
    ProxyKind,
    Reason,
    Scope,
    Unreachable,
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
    scale = scale_of(snapshot.gateways)
    sight = sight_of(scope, snapshot)
    exposures = exposures_for(scope, snapshot)
    upstreams: list[Upstream] = []
    exposed: list[tuple[int, Upstream]] = []
    for service, port in _ports(snapshot):
        is_visible = sight.sees(service, port)
        # A network gateway passes through also what its own namespace does not see: whoever calls it through there does.
        ports = {exposure.port for exposure in exposures if exposes(exposure, service, snapshot.settings)}
        if not is_visible and not ports:
            continue
        rule = rule_for(scope, service, snapshot)
        for subset in (None, *(rule.subsets if rule else ())):
            policy = rule.policy_for(port.number, subset) if rule else TrafficPolicy()
            partition = _partition(scope, service, port, snapshot, policy, subset)
            if is_visible:
                upstream = _upstream(scope, partition, snapshot, scale)
                if subset is None:
                    upstream = _routed(scope, upstream, sight, snapshot)
                upstreams.append(upstream)
            if ports:
                passed_through = _upstream(scope, partition.only_mutual_tls(), snapshot, scale)
                exposed += [(number, passed_through) for number in sorted(ports)]
    return OutboundView(
        scope=scope,
        trust_domain=snapshot.settings.trust_domain,
        dns_domain=snapshot.settings.dns_domain,
        upstreams=tuple(upstreams),
        names=name_table(scope, sight, snapshot),
        registry_only=sight.registry_only,
        extra_hosts=extra_hosts(scope, sight, snapshot),
        gateway_ports=gateway_ports(scope, snapshot),
        authorization=authorization_for(scope.namespace, scope.labels, snapshot)
        if scope.kind is ProxyKind.ROUTER
        else Authorization(),
        exposed=tuple(exposed),
    )


def _ports(snapshot: Snapshot) -> Iterator[tuple[Service, ServicePort]]:
    """Every service port that can be an upstream, in the order of services and port numbers. UDP is never one."""
    for _, service in sorted(snapshot.services.items()):
        for port in service.ports:
            if port.protocol is not Protocol.UDP:
                yield service, port


@dataclass(frozen=True, slots=True)
class _Partition:
    """Every endpoint of a service port: reached, or left out with its reason."""

    service: Service
    port: ServicePort
    subset: str
    policy: TrafficPolicy
    reached: tuple[Reached, ...]
    left_out: tuple[LeftOut, ...]
    mutual: frozenset[Endpoint]
    """Those to which callers start mutual TLS."""

    def only_mutual_tls(self) -> _Partition:
        """What a gateway may pass through: it cannot start TLS itself, so only endpoints that take part in it."""
        plain = tuple(LeftOut(e, _why_plain(e)) for e, _ in self.reached if e not in self.mutual)
        meshed = tuple((endpoint, how) for endpoint, how in self.reached if endpoint in self.mutual)
        return replace(self, reached=meshed, left_out=(*self.left_out, *plain))


def _why_plain(endpoint: Endpoint) -> Unreachable:
    if endpoint.workload.meshed:
        return Unreachable(Reason.MUTUAL_TLS_DISABLED, "a rule turns mutual TLS off, which the gateway passes through")
    return Unreachable(Reason.NOT_MESHED, "no proxy to take part in mutual TLS, which the gateway passes through")


def _partition(
    scope: Scope,
    service: Service,
    port: ServicePort,
    snapshot: Snapshot,
    policy: TrafficPolicy,
    subset: Subset | None,
) -> _Partition:
    reached: list[Reached] = []
    left_out: list[LeftOut] = []
    for endpoint in snapshot.endpoints.get(service.key, ()):
        how = reach(scope, service, port, endpoint, snapshot, policy.tls)
        if subset is not None and not is_in(subset, endpoint):
            how = Unreachable(Reason.NOT_IN_SUBSET, f"its labels are not those of subset {subset.name}")
        if isinstance(how, Unreachable):
            left_out.append(LeftOut(endpoint, how))
        else:
            reached.append((endpoint, how))
    mutual = frozenset(e for e, _ in reached if takes_mutual_tls(e, e.port_named(port.name) or 0, snapshot, policy.tls))
    name = subset.name if subset else ""
    return _Partition(service, port, name, policy, tuple(reached), tuple(left_out), mutual)


def _upstream(scope: Scope, partition: _Partition, snapshot: Snapshot, scale: int) -> Upstream:
    service = partition.service
    preference = preference_for(service, partition.policy, snapshot)
    demoted = frozenset(e for e, _ in partition.reached if standing_of(scope, e, snapshot) is Standing.DEMOTED)
    near = behind(priorities(scope, (endpoint for endpoint, _ in partition.reached), preference), demoted)
    groups = groups_of(partition.reached, partition.port, scale, partition.mutual, near)
    shared = shared_out(scope, groups, preference)
    return Upstream(
        service=service,
        port=partition.port,
        subset=partition.subset,
        virtual_ips=virtual_ips(scope, service),
        groups=shared,
        left_out=(*partition.left_out, *_without_share(partition.reached, shared)),
        expected_identities=_identities(snapshot.endpoints.get(service.key, ()), snapshot.settings),
        policy=partition.policy,
        locality_weighted=preference is not None,
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


def _without_share(reached: tuple[Reached, ...], groups: tuple[LocalityGroup, ...]) -> Iterator[LeftOut]:
    given = {endpoint for group in groups for to in group.destinations for endpoint in to.stands_for}
    why = Unreachable(Reason.NO_SHARE, "its locality gets no share of the requests from here (distribute)")
    return (LeftOut(endpoint, why) for endpoint, _ in reached if endpoint not in given)


def _identities(endpoints: tuple[Endpoint, ...], settings: MeshSettings) -> tuple[SpiffeId, ...]:
    """Of every workload of the service, in all clusters, under each name of the mesh's trust domain: what a caller may meet."""
    found = {e.workload.identity for e in endpoints if e.workload.identity is not None and e.workload.meshed}
    own = [identity for identity in found if identity.trust_domain == settings.trust_domain]
    also = {replace(identity, trust_domain=alias) for identity in own for alias in settings.trust_domain_aliases}
    return tuple(sorted(found | also))
