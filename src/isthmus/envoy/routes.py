"""Routes: which upstream a request goes to, by its host.

One route configuration for each port that speaks HTTP, named by the port. Hosts that no service has pass through to where they were sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from envoy.config.route.v3 import route_components_pb2, route_pb2
from envoy.extensions.retry.host.previous_hosts.v3 import previous_hosts_pb2

from isthmus.envoy.common import PASSTHROUGH, boolean, packed, seconds, uint32
from isthmus.model.views import OutboundView, Upstream

_RETRY_ON = "connect-failure,refused-stream,reset-before-request,unavailable,cancelled,retriable-status-codes"
_RETRIES = 2


def for_port(number: int, upstreams: Sequence[Upstream], view: OutboundView) -> Any:
    """Every HTTP service on the port. A domain that two services claim (an address that two clusters gave) stays with the first."""
    taken: set[str] = set()
    hosts = []
    for upstream in _own_cluster_first(upstreams, view):
        domains = [domain for domain in _domains(upstream, view) if domain not in taken]
        taken.update(domains)
        if domains:
            hosts.append(_virtual_host(f"{upstream.service.hostname}:{number}", domains, upstream))
    hosts.sort(key=lambda host: str(host.name))
    return route_pb2.RouteConfiguration(
        name=str(number),
        virtual_hosts=[*hosts, _pass_through()],
        validate_clusters=boolean(False),
        ignore_port_in_host_matching=True,
    )


def only(upstream: Upstream) -> Any:
    """Everything to one upstream: for a listener that already knows the service by its address."""
    return route_pb2.RouteConfiguration(
        name=f"{upstream.service.hostname}:{upstream.port.number}",
        virtual_hosts=[_virtual_host(f"{upstream.service.hostname}:{upstream.port.number}", ["*"], upstream)],
        validate_clusters=boolean(False),
    )


def to_own_workload(cluster: str, service_port: int) -> Any:
    """The inbound side: every request to the workload itself, for as long as it takes."""
    action = route_components_pb2.RouteAction(cluster=cluster, timeout=seconds(0))
    route = route_components_pb2.Route(name="default", match=route_components_pb2.RouteMatch(prefix="/"), route=action)
    host = route_components_pb2.VirtualHost(name=f"inbound|http|{service_port}", domains=["*"], routes=[route])
    return route_pb2.RouteConfiguration(name=cluster, virtual_hosts=[host], validate_clusters=boolean(False))


def _own_cluster_first(upstreams: Sequence[Upstream], view: OutboundView) -> list[Upstream]:
    return sorted(upstreams, key=lambda upstream: view.scope.cluster not in upstream.service.declared_in)


def _domains(upstream: Upstream, view: OutboundView) -> Iterable[str]:
    """Every spelling of the service's name that reaches it from this namespace, and its addresses."""
    service = upstream.service
    yield service.hostname
    yield f"{service.hostname}."
    if service.hostname.endswith(f".svc.{view.dns_domain}"):
        if service.namespace == view.scope.namespace:
            yield service.name
        yield f"{service.name}.{service.namespace}"
        yield f"{service.name}.{service.namespace}.svc"
    if service.headless:
        yield f"*.{service.hostname}"
    yield from upstream.virtual_ips


def _virtual_host(name: str, domains: Sequence[str], upstream: Upstream) -> route_components_pb2.VirtualHost:
    action = route_components_pb2.RouteAction(cluster=upstream.name, timeout=seconds(0), retry_policy=_retries())
    route = route_components_pb2.Route(
        name="default",
        match=route_components_pb2.RouteMatch(prefix="/"),
        route=action,
        decorator=route_components_pb2.Decorator(operation=f"{upstream.service.hostname}:{upstream.port.number}/*"),
    )
    return route_components_pb2.VirtualHost(
        name=name, domains=domains, routes=[route], include_request_attempt_count=True
    )


def _retries() -> route_components_pb2.RetryPolicy:
    """Retries of what cannot have run, on another host, at once: Envoy's 25 ms before the first would be felt (measured)."""
    return route_components_pb2.RetryPolicy(
        retry_on=_RETRY_ON,
        retriable_status_codes=[503],
        num_retries=uint32(_RETRIES),
        retry_host_predicate=[
            route_components_pb2.RetryPolicy.RetryHostPredicate(
                name="envoy.retry_host_predicates.previous_hosts",
                typed_config=packed(previous_hosts_pb2.PreviousHostsPredicate()),
            )
        ],
        host_selection_retry_max_attempts=5,
        retry_back_off=route_components_pb2.RetryPolicy.RetryBackOff(
            base_interval=seconds(0.002), max_interval=seconds(0.02)
        ),
    )


def _pass_through() -> route_components_pb2.VirtualHost:
    action = route_components_pb2.RouteAction(cluster=PASSTHROUGH, timeout=seconds(0))
    route = route_components_pb2.Route(
        name="allow_any", match=route_components_pb2.RouteMatch(prefix="/"), route=action
    )
    return route_components_pb2.VirtualHost(name="allow_any", domains=["*"], routes=[route])
