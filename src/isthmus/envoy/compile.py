"""From a View to resources: what is shared by a scope once, what is one proxy's own each time.

Laws, held by tests/envoy/test_laws.py: equal views give equal bytes, in any process; every name that a resource refers to is there; a change
of endpoints changes no resource but theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from types import MappingProxyType
from typing import assert_never

from isthmus.envoy import (
    endpoints,
    guards,
    inbound,
    ingress,
    name_table,
    network_gateway,
    outbound,
    proxyless,
    requested_secrets,
    route_tables,
    tokens,
    upstreams,
)
from isthmus.envoy.bundles import bundles
from isthmus.envoy.own_trust import own_trust
from isthmus.envoy.patches.applying import added, patched, side_of
from isthmus.envoy.reporting import reported
from isthmus.envoy.resources import (
    BUNDLES,
    CLUSTER,
    ENDPOINTS,
    EXTENSION,
    LISTENER,
    NAME_TABLE,
    OWN_TRUST,
    ROUTES,
    SECRET,
    Resource,
    ResourceSet,
)
from isthmus.envoy.upstreams import has_endpoints
from isthmus.envoy.upstreams import outbound as cluster_of
from isthmus.envoy.upstreams import passed_through as cluster_of_exposed
from isthmus.model.envoy_filters import Context
from isthmus.model.sidecars import Elsewhere
from isthmus.model.views import InboundView, LocalityGroup, OutboundView, ProxyKind, Upstream, View

Typed = tuple[str, Resource]
"""A resource with its type URL."""


def compile_outbound(view: OutboundView) -> ResourceSet:
    """Everything that all proxies of the view's scope share."""
    told = ((ENDPOINTS, endpoints.endpoints_of(groups, name)) for name, groups in endpoints_told(view))
    return _resources([*_shared(view), *told])


def compile_but_endpoints(view: OutboundView) -> ResourceSet:
    """The same without endpoints: whoever prints them needs no encoding of them."""
    return _resources(_shared(view))


def endpoints_told(view: OutboundView) -> Iterator[tuple[str, Sequence[LocalityGroup]]]:
    """Among which endpoints the view's proxies choose, by the name of what they ask for."""
    kind = view.scope.kind
    yield from ((u.name, u.groups) for u in view.upstreams if has_endpoints(u.service, u.policy, kind))
    yield from ((upstream.sni, upstream.groups) for _, upstream in view.exposed)


def _shared(view: OutboundView) -> Iterator[Typed]:
    clusters = [cluster_for(upstream, view.scope.kind) for upstream in view.upstreams]
    clusters += [cluster_for_exposed(upstream) for _, upstream in view.exposed]
    yield from ((CLUSTER, each) for each in clusters if each is not None)
    for upstream in view.upstreams:
        yield from ((SECRET, each) for each in requested_secrets.of_policy(upstream.policy))
    yield from frame(view, names_of_clusters(view))


def compile_view(view: View, outbound: ResourceSet) -> ResourceSet:
    """`outbound` is what `compile_outbound` gave for the view's scope; added is what depends on the proxy itself."""
    own = _resources(of_proxy(view.proxy.scope.kind, view.inbound, names_of_clusters(view.outbound)))
    both = {kind: MappingProxyType({**outbound.of_type(kind), **found}) for kind, found in own.by_type.items()}
    return ResourceSet(MappingProxyType({**outbound.by_type, **both}))


def cluster_for(upstream: Upstream, kind: ProxyKind) -> Resource | None:
    """As EnvoyFilters leave it; None where one removes it."""
    side = side_of(kind, inbound=False)
    return next((each for _, each in patched([(CLUSTER, cluster_of(upstream, kind))], upstream.patches, side)), None)


def cluster_for_exposed(upstream: Upstream) -> Resource | None:
    """The same for what a network gateway passes through."""
    found = [(CLUSTER, cluster_of_exposed(upstream))]
    return next((each for _, each in patched(found, upstream.patches, Context.GATEWAY)), None)


def frame(view: OutboundView, clusters: frozenset[str]) -> Iterator[Typed]:
    """What is one for all the upstreams: listeners, routes, names. It depends on an upstream's endpoints only where applications choose
    among them by address (see `Service.frame_depends_on_endpoints`)."""
    side = side_of(view.scope.kind, inbound=False)
    yield from patched(reported(_frame(view, clusters), view.reporting, clusters), view.patches, side)
    yield from added(view.patches, side)


def _frame(view: OutboundView, clusters: frozenset[str]) -> Iterator[Typed]:
    yield NAME_TABLE, name_table.encode(view.names)
    yield from bundles(view.peer_authorities)
    yield from own_trust(view.own_trust)
    match view.scope.kind:
        case ProxyKind.ROUTER:
            yield from _frame_of_router(view, clusters)
        case ProxyKind.SIDECAR:
            planned = outbound.plan(view.upstreams, view.scope, view.placement)
            yield from frame_of_sidecar(planned, view.elsewhere)
            tables = route_tables.tables_of(planned, view.scope, view.dns_domain, view.elsewhere)
            namespace, extra = view.scope.namespace, view.extra_hosts
            yield from ((ROUTES, route_tables.encoded(table, namespace, extra)) for table in tables)
        case ProxyKind.PROXYLESS:
            yield from ((LISTENER, each) for each in proxyless.listeners(view))
            yield from ((ROUTES, each) for each in proxyless.tables(view))
        case _:
            assert_never(view.scope.kind)


def frame_of_sidecar(planned: outbound.Plan, elsewhere: Elsewhere) -> Iterator[Typed]:
    """All of a sidecar's that no single service is the reason for, but route tables and names."""
    yield CLUSTER, upstreams.passthrough()
    yield CLUSTER, upstreams.black_hole()
    yield from ((LISTENER, each) for each in outbound.listeners(planned, elsewhere))


def of_proxy(kind: ProxyKind, inbound_view: InboundView, clusters: frozenset[str]) -> Iterator[Typed]:
    """What is one proxy's own. `clusters` are the names of those that it shares."""
    if kind is ProxyKind.PROXYLESS:
        yield from ((LISTENER, each) for each in proxyless.servers(inbound_view))
    if kind is ProxyKind.SIDECAR:
        side = side_of(kind, inbound=True)
        found = reported(_of_sidecar(inbound_view, clusters), inbound_view.reporting, clusters)
        yield from patched(found, inbound_view.patches, side)
        inbound_only = tuple(patch for patch in inbound_view.patches if patch.context is side)
        yield from added(inbound_only, side)


def _of_sidecar(inbound_view: InboundView, clusters: frozenset[str]) -> Iterator[Typed]:
    families = inbound_view.ip_families
    yield CLUSTER, upstreams.inbound_passthrough(families)
    yield from ((CLUSTER, upstreams.inbound(port, families)) for port in inbound_view.ports)
    yield from ((CLUSTER, each) for each in tokens.key_servers(inbound_view.authorization.tokens, clusters))
    yield from ((LISTENER, each) for each in inbound.listeners(inbound_view))
    yield from ((EXTENSION, each) for each in guards.extensions(inbound_view.authorization))
    asked = [port.own_tls for port in inbound_view.ports if port.own_tls is not None]
    yield from ((SECRET, each) for each in requested_secrets.of(asked))


def names_of_clusters(view: OutboundView) -> frozenset[str]:
    """Of the clusters that the view's upstreams become."""
    return frozenset((*(each.name for each in view.upstreams), *(each.sni for _, each in view.exposed)))


def _frame_of_router(view: OutboundView, clusters: frozenset[str]) -> Iterator[Typed]:
    families = view.scope.ip_families
    listeners = network_gateway.listeners(view.exposed, families)
    listeners += ingress.listeners(
        view.gateway_ports, view.authorization, view.topology, families, one_bundle=view.scope.trusts_in_one_bundle
    )
    yield from ((LISTENER, each) for each in listeners)
    yield from ((ROUTES, each) for each in ingress.tables(view.gateway_ports))
    asked = [chain.tls for port in view.gateway_ports for chain in port.chains if chain.tls is not None]
    yield from ((SECRET, each) for each in requested_secrets.of(asked))
    if listeners:
        yield CLUSTER, upstreams.black_hole()
        by_claims = ingress.chooses_by_claims(view.gateway_ports)
        yield from ((EXTENSION, each) for each in guards.extensions(view.authorization, chooses_routes=by_claims))
    yield from ((CLUSTER, each) for each in tokens.key_servers(view.authorization.tokens, clusters))


def _resources(found: Iterable[Typed]) -> ResourceSet:
    """Sorted by name, so that what is sent and printed has one order."""
    kinds = (CLUSTER, ENDPOINTS, EXTENSION, LISTENER, ROUTES, SECRET, NAME_TABLE, BUNDLES, OWN_TRUST)
    by_type: dict[str, dict[str, Resource]] = {kind: {} for kind in kinds}
    for kind, resource in sorted(found, key=lambda each: each[1].name):
        by_type[kind][resource.name] = resource
    return ResourceSet(MappingProxyType({kind: MappingProxyType(each) for kind, each in by_type.items()}))
