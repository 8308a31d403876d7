"""Applications without a proxy: gRPC clients and servers that speak xDS themselves (`xds:///service.namespace:80`).

They ask for less than an Envoy does and refuse what they do not know, so they get resources of their own: a client a listener for each name
that it may dial, a server one for each address that it may listen on. Certificates are files that an agent keeps current; they are
named by `certificate_providers` of gRPC's bootstrap (`PROVIDER`). A client does mutual TLS with all of an upstream's endpoints or with none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from envoy.config.cluster.v3 import circuit_breaker_pb2, cluster_pb2
from envoy.config.core.v3 import base_pb2
from envoy.config.listener.v3 import api_listener_pb2, listener_components_pb2, listener_pb2
from envoy.config.route.v3 import route_components_pb2, route_pb2
from envoy.extensions.filters.http.fault.v3 import fault_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.extensions.transport_sockets.tls.v3 import common_pb2, tls_pb2
from envoy.type.matcher.v3 import string_pb2

from isthmus.envoy import authorization, hashing, routes, tls, virtual_services
from isthmus.envoy.common import address, boolean, from_ads, packed, seconds, uint32
from isthmus.envoy.resources import Resource
from isthmus.incremental.while_used import while_used
from isthmus.model.identity import SpiffeId
from isthmus.model.routing import Route
from isthmus.model.security import Action, Authorization, MutualTlsMode
from isthmus.model.services import Resolution, Service
from isthmus.model.traffic import ConsistentHash
from isthmus.model.views import InboundView, OutboundView, Upstream

Hcm = http_connection_manager_pb2.HttpConnectionManager

PROVIDER = "default"
"""What gRPC's bootstrap calls the provider of certificates."""

LISTENING = "xds.istio.io/grpc/lds/inbound/"
"""Before the address that a server listens on; gRPC's bootstrap says so, too (`server_listener_resource_name_template`)."""

_ANY_ADDRESS = ("0.0.0.0", "[::]")
_RETRIED = "cancelled,unavailable"


def listeners(view: OutboundView) -> Iterator[Resource]:
    """One for each name, with a port, by which a client may dial an upstream."""
    owner: dict[str, str] = {}
    whole = _dialled(view)
    for upstream in whole:
        owner.setdefault(routes.host_and_port(upstream), upstream.name)
    for upstream in whole:
        for short in routes.short_names(upstream, view.scope.namespace, view.dns_domain):
            if not short.startswith("*"):
                owner.setdefault(f"{short}:{upstream.port.number}", upstream.name)
    return (_client(name, table) for name, table in sorted(owner.items()))


def tables(view: OutboundView) -> Iterator[Resource]:
    """The routes of each upstream, under its name."""
    return (_table(upstream.name, upstream.routes, upstream.policy.hash) for upstream in _dialled(view))


def _dialled(view: OutboundView) -> list[Upstream]:
    return [upstream for upstream in view.upstreams if not upstream.subset and may_dial(upstream.service)]


def may_dial(service: Service) -> bool:
    """Whether a client can use the service: one whose endpoints it is told."""
    return service.resolution is Resolution.ENDPOINTS


def cluster(upstream: Upstream) -> Resource:
    pool = upstream.policy.pool
    secured = upstream.ways.direct_are_meshed or upstream.ways.through_gateways
    return _cluster(
        upstream.name,
        upstream.sni,
        upstream.expected_identities if secured else None,
        upstream.policy.hash,
        pool.max_requests if pool else None,
    )


def servers(view: InboundView) -> Iterator[Resource]:
    """For each port that the workload's services declare, at each address that a server may say it listens on."""
    for port in view.ports:
        for host in (*_ANY_ADDRESS, *(f"[{ip}]" if ":" in ip else ip for ip in view.addresses)):
            yield _server(host, port.target_port, port.tls, view.authorization)


@while_used
def _client(name: str, table: str) -> Resource:
    fault = http_connection_manager_pb2.HttpFilter(
        name=virtual_services.FAULT, typed_config=packed(fault_pb2.HTTPFault())
    )
    manager = Hcm(
        rds=http_connection_manager_pb2.Rds(config_source=from_ads(), route_config_name=table),
        http_filters=[fault, _router()],
    )
    return Resource.of(
        name, listener_pb2.Listener(name=name, api_listener=api_listener_pb2.ApiListener(api_listener=packed(manager)))
    )


@while_used
def _table(name: str, found: tuple[Route, ...], hashed: ConsistentHash | None) -> Resource:
    host = route_components_pb2.VirtualHost(name=name, domains=["*"])
    default = route_components_pb2.RetryPolicy(retry_on=_RETRIED, num_retries=uint32(2))
    default.retry_back_off.base_interval.CopyFrom(seconds(0.002))
    default.retry_back_off.max_interval.CopyFrom(seconds(0.02))
    for route in found:
        encoded = virtual_services.encoded(route, default)
        encoded.typed_per_filter_config.pop(virtual_services.CORS, None)
        host.routes.append(encoded)
    if not found:
        route = host.routes.add(name="default")
        route.match.prefix = ""
        route.route.cluster = name
        route.route.retry_policy.CopyFrom(default)
        if hashed:
            route.route.hash_policy.append(hashing.policy_of(hashed))
    return Resource.of(name, route_pb2.RouteConfiguration(name=name, virtual_hosts=[host]))


@while_used
def _cluster(
    name: str,
    sni: str,
    identities: tuple[SpiffeId, ...] | None,
    hashed: ConsistentHash | None,
    max_requests: int | None,
) -> Resource:
    """`identities` None is plaintext."""
    found = cluster_pb2.Cluster(
        name=name,
        type=cluster_pb2.Cluster.EDS,
        eds_cluster_config=cluster_pb2.Cluster.EdsClusterConfig(eds_config=from_ads(), service_name=name),
        lb_policy=cluster_pb2.Cluster.RING_HASH if hashed else cluster_pb2.Cluster.ROUND_ROBIN,
    )
    if max_requests is not None:
        limit = circuit_breaker_pb2.CircuitBreakers.Thresholds(max_requests=uint32(max_requests))
        found.circuit_breakers.thresholds.append(limit)
    if identities is not None:
        context = tls_pb2.UpstreamTlsContext(common_tls_context=_common(tls.expected(identities)), sni=sni)
        found.transport_socket.CopyFrom(_socket(context))
    return Resource.of(name, found)


@while_used
def _server(host: str, port: int, mode: MutualTlsMode, asked: Authorization) -> Resource:
    """The name and the address have to be those that the server listens on."""
    name = f"{LISTENING}{host}:{port}"
    table = route_pb2.RouteConfiguration(name="inbound")
    all_hosts = table.virtual_hosts.add(name="inbound", domains=["*"])
    route = all_hosts.routes.add()
    route.match.prefix = ""
    route.non_forwarding_action.SetInParent()
    manager = Hcm(route_config=table, http_filters=[*_rbac(asked), _router()])
    chain = listener_components_pb2.FilterChain(
        name=name,
        filters=[
            listener_components_pb2.Filter(
                name="envoy.filters.network.http_connection_manager", typed_config=packed(manager)
            )
        ],
    )
    if mode is not MutualTlsMode.DISABLE:
        context = tls_pb2.DownstreamTlsContext(common_tls_context=_common(()), require_client_certificate=boolean(True))
        chain.transport_socket.CopyFrom(_socket(context))
    listener = listener_pb2.Listener(name=name, address=address(host.strip("[]"), port), filter_chains=[chain])
    return Resource.of(name, listener)


def _rbac(asked: Authorization) -> list[Any]:
    """What gRPC can ask itself: who is allowed, who is denied. It neither logs nor asks others, so what a CUSTOM policy matches is denied."""
    policies = tuple(
        replace(policy, action=Action.DENY) if policy.action is Action.CUSTOM else policy
        for policy in asked.policies
        if policy.action is not Action.AUDIT and not policy.dry_run
    )
    known = Authorization(policies=policies, trust_domains=asked.trust_domains, any_trust_domain=asked.any_trust_domain)
    return authorization.http_filters(known)


def _common(identities: Sequence[str]) -> tls_pb2.CommonTlsContext:
    """gRPC 1.85 reads the names to expect from the older list alone."""
    validation = common_pb2.CertificateValidationContext(
        ca_certificate_provider_instance=common_pb2.CertificateProviderPluginInstance(
            instance_name=PROVIDER, certificate_name=tls.TRUST_BUNDLE
        ),
        match_subject_alt_names=[string_pb2.StringMatcher(exact=identity) for identity in identities],
    )
    return tls_pb2.CommonTlsContext(
        tls_certificate_provider_instance=common_pb2.CertificateProviderPluginInstance(
            instance_name=PROVIDER, certificate_name=tls.WORKLOAD_CERTIFICATE
        ),
        combined_validation_context=tls_pb2.CommonTlsContext.CombinedCertificateValidationContext(
            default_validation_context=validation
        ),
    )


def _socket(context: Any) -> base_pb2.TransportSocket:
    return base_pb2.TransportSocket(name="envoy.transport_sockets.tls", typed_config=packed(context))


def _router() -> Any:
    return http_connection_manager_pb2.HttpFilter(
        name="envoy.filters.http.router", typed_config=packed(router_pb2.Router())
    )
