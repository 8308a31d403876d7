"""From a View to resources: what is shared by a scope once, what is one proxy's own each time."""

from __future__ import annotations

from collections.abc import Iterable
from types import MappingProxyType
from typing import Any

from isthmus.envoy import endpoints, inbound, name_table, network_gateway, outbound, routes, upstreams
from isthmus.envoy.resources import CLUSTER, ENDPOINTS, LISTENER, NAME_TABLE, ROUTES, Resource, ResourceSet
from isthmus.model.services import Protocol
from isthmus.model.views import OutboundView, ProxyKind, View


def compile_outbound(view: OutboundView) -> ResourceSet:
    """Everything that all proxies of the view's scope share."""
    clusters, assignments = _upstreams(view)
    listeners: list[Any] = []
    tables: list[Any] = []
    if view.scope.kind is ProxyKind.SIDECAR:
        clusters += upstreams.own()
        listeners, tables = _capture_listeners(view)
    else:
        clusters.append(upstreams.black_hole())
        listeners = network_gateway.listeners(view.exposed)
    return ResourceSet(
        MappingProxyType(
            {
                CLUSTER: _by_name(clusters),
                ENDPOINTS: _by_name(assignments, "cluster_name"),
                LISTENER: _by_name(listeners),
                ROUTES: _by_name(tables),
                NAME_TABLE: MappingProxyType({"": name_table.encode(view.names)}),
            }
        )
    )


def compile_view(view: View, shared: ResourceSet) -> ResourceSet:
    """`shared` is what `compile_outbound` gave for the view's scope; added is what depends on the proxy itself."""
    if view.proxy.scope.kind is ProxyKind.ROUTER:
        return shared
    listener = inbound.virtual_inbound(view.inbound, view.inbound_tls)
    clusters = _by_name([upstreams.inbound(port) for port in view.inbound])
    return ResourceSet(
        MappingProxyType(
            {
                **shared.by_type,
                CLUSTER: MappingProxyType({**shared.of_type(CLUSTER), **clusters}),
                LISTENER: MappingProxyType({**shared.of_type(LISTENER), **_by_name([listener])}),
            }
        )
    )


def _upstreams(view: OutboundView) -> tuple[list[Any], list[Any]]:
    kind = view.scope.kind
    clusters = [upstreams.outbound(upstream, kind) for upstream in view.upstreams]
    assignments = [
        endpoints.assignment(upstream, upstream.name)
        for upstream in view.upstreams
        if kind is ProxyKind.ROUTER or not upstream.service.headless
    ]
    passed_through = {upstream.sni: upstream for _, upstream in view.exposed}
    clusters += [upstreams.passed_through(upstream) for upstream in passed_through.values()]
    assignments += [endpoints.assignment(upstream, name) for name, upstream in passed_through.items()]
    return clusters, assignments


def _capture_listeners(view: OutboundView) -> tuple[list[Any], list[Any]]:
    listeners = [outbound.virtual_outbound()]
    tables = []
    for number, found in outbound.http_upstreams(view).items():
        listeners.append(outbound.for_http_port(number))
        tables.append(routes.for_port(number, found, view))
    detected = {}
    for ip, upstream in outbound.addressed_upstreams(view):
        listeners.append(outbound.for_address(ip, upstream))
        if upstream.port.protocol is Protocol.AUTO:
            detected[upstream.name] = upstream
    tables += [routes.only(upstream) for upstream in detected.values()]
    return listeners, tables


def _by_name(messages: Iterable[Any], field: str = "name") -> MappingProxyType[str, Resource]:
    resources = (Resource.of(getattr(message, field), message) for message in messages)
    return MappingProxyType({resource.name: resource for resource in sorted(resources, key=lambda r: r.name)})
