"""From a View to resources: what is shared by a scope once, what is one proxy's own each time.

Laws, held by tests/envoy/test_laws.py: equal views give equal bytes, in any process; every name that a resource refers to is there; a change
of endpoints changes no resource but theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from isthmus.envoy import endpoints, inbound, ingress, name_table, network_gateway, outbound, routes, tokens, upstreams
from isthmus.envoy.resources import CLUSTER, ENDPOINTS, LISTENER, NAME_TABLE, ROUTES, Resource, ResourceSet
from isthmus.model.services import Protocol
from isthmus.model.views import OutboundView, ProxyKind, View


def compile_outbound(view: OutboundView) -> ResourceSet:
    """Everything that all proxies of the view's scope share."""
    kind = view.scope.kind
    passed_through = {upstream.sni: upstream for _, upstream in view.exposed}
    clusters = [upstreams.outbound(upstream, kind) for upstream in view.upstreams]
    clusters += [upstreams.passed_through(upstream) for upstream in passed_through.values()]
    assignments = [
        endpoints.endpoints_of(upstream, upstream.name)
        for upstream in view.upstreams
        if upstreams.has_endpoints(upstream, kind)
    ]
    assignments += [endpoints.endpoints_of(upstream, sni) for sni, upstream in passed_through.items()]
    listeners: list[Resource] = network_gateway.listeners(view.exposed)
    tables: list[Resource] = []
    if kind is ProxyKind.ROUTER:
        listeners += ingress.listeners(view.gateway_ports, view.authorization)
        tables += ingress.tables(view.gateway_ports)
        if listeners:
            clusters.append(upstreams.black_hole())
        clusters += tokens.key_servers(view.authorization.tokens, frozenset(each.name for each in clusters))
    if kind is ProxyKind.SIDECAR:
        clusters += [upstreams.passthrough(), upstreams.black_hole()]
        planned = outbound.plan(view)
        listeners += outbound.listeners(planned, registry_only=view.registry_only)
        tables += _routes(view, planned)
    return _resources(
        {
            CLUSTER: clusters,
            ENDPOINTS: assignments,
            LISTENER: listeners,
            ROUTES: tables,
            NAME_TABLE: [name_table.encode(view.names)],
        }
    )


def compile_view(view: View, outbound: ResourceSet) -> ResourceSet:
    """`outbound` is what `compile_outbound` gave for the view's scope; added is what depends on the proxy itself."""
    if view.proxy.scope.kind is ProxyKind.ROUTER:
        return outbound
    keys = tokens.key_servers(view.inbound.authorization.tokens, frozenset(outbound.of_type(CLUSTER)))
    own = _resources(
        {
            CLUSTER: [
                upstreams.inbound_passthrough(),
                *(upstreams.inbound(port) for port in view.inbound.ports),
                *keys,
            ],
            LISTENER: [inbound.virtual_inbound(view.inbound)],
        }
    )
    both = {kind: MappingProxyType({**outbound.of_type(kind), **found}) for kind, found in own.by_type.items()}
    return ResourceSet(MappingProxyType({**outbound.by_type, **both}))


def _routes(view: OutboundView, planned: outbound.Plan) -> Iterable[Resource]:
    for on_port in planned.on_ports:
        if on_port.by_host:
            yield routes.port_routes(view, on_port.number, on_port.by_host)
    detected = {
        addressed.upstream.name: addressed.upstream
        for addressed in planned.addressed
        if addressed.upstream.port.protocol is Protocol.AUTO
    }
    for upstream in detected.values():
        yield routes.own_routes(upstream)


def _resources(by_type: Mapping[str, Iterable[Resource]]) -> ResourceSet:
    """Sorted by name, so that what is sent and printed has one order."""
    return ResourceSet(
        MappingProxyType(
            {
                type_url: MappingProxyType({r.name: r for r in sorted(found, key=lambda resource: resource.name)})
                for type_url, found in by_type.items()
            }
        )
    )
