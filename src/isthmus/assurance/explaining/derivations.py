"""From which objects each resource of a proxy was made: `isthmus render --explain`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from isthmus.envoy import outbound
from isthmus.envoy.upstreams import has_endpoints
from isthmus.model.origins import Origin
from isthmus.model.views import InboundView, OutboundView, ProxyKind, Upstream, View

Object = dict[str, Any]
_Made = tuple[str, str, str]
"""Kind of resource, its name, an object that it was made from."""


def derivations(view: View) -> Object:
    """Kind of resource → name → the objects that say something in it, sorted."""
    found: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for kind, name, origin in _made(view):
        found[kind][name].add(origin)
    return {kind: {name: sorted(names[name]) for name in sorted(names)} for kind, names in sorted(found.items())}


def _made(view: View) -> Iterator[_Made]:
    for upstream in view.outbound.upstreams:
        yield from _of_upstream(upstream, upstream.name, view.proxy.scope.kind)
    for port, upstream in view.outbound.exposed:
        yield from _of_upstream(upstream, upstream.sni, view.proxy.scope.kind)
        yield "listeners", f"0.0.0.0_{port}", service_of(upstream)
    if view.proxy.scope.kind is ProxyKind.SIDECAR:
        yield from _of_listeners(view.outbound)
        yield from _of_inbound(view.inbound)
    for gateway_port in view.outbound.gateway_ports:
        for chain in gateway_port.chains:
            for host in chain.hosts:
                for route in host.routes:
                    if route.origin:
                        yield "routes", chain.table, str(route.origin)


def _of_upstream(upstream: Upstream, name: str, kind: ProxyKind) -> Iterator[_Made]:
    parts = ["clusters"]
    if name == upstream.sni or has_endpoints(upstream.service, upstream.policy, kind):
        parts.append("endpoints")
    for part in parts:
        yield part, name, service_of(upstream)
        if upstream.rule:
            yield part, name, str(upstream.rule)


def _of_listeners(view: OutboundView) -> Iterator[_Made]:
    planned = outbound.plan(view.upstreams, view.scope, view.placement)
    for on_port in planned.on_ports:
        for upstream in (*on_port.by_host, *((on_port.rest,) if on_port.rest else ())):
            yield "listeners", f"0.0.0.0_{on_port.number}", service_of(upstream)
        for upstream in on_port.by_host:
            yield from _of_table(str(on_port.number), upstream)
    for addressed in planned.addressed:
        yield "listeners", f"{addressed.ip}_{addressed.port}", service_of(addressed.upstream)
    for extra in view.extra_hosts:
        yield from (("routes", str(extra.port), str(route.origin)) for route in extra.routes if route.origin)


def _of_table(name: str, upstream: Upstream) -> Iterator[_Made]:
    yield "routes", name, service_of(upstream)
    yield from (("routes", name, str(route.origin)) for route in upstream.routes if route.origin)


def _of_inbound(view: InboundView) -> Iterator[_Made]:
    origins = [each.tls_origin for each in view.ports] + [view.tls_origin]
    origins += [Origin("AuthorizationPolicy", each.namespace, each.name) for each in view.authorization.policies]
    for origin in origins:
        if origin:
            yield "listeners", "virtualInbound", str(origin)
    for port in view.ports:
        if port.hostname:
            yield "listeners", "virtualInbound", f"Service {port.hostname}"
            yield "clusters", f"inbound|{port.target_port}||", f"Service {port.hostname}"


def service_of(upstream: Upstream) -> str:
    """The Service or ServiceEntry behind an upstream."""
    service = upstream.service
    return str(service.origin)
