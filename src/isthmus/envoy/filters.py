"""The two ways in which a connection is served: as requests (HTTP), or as bytes (TCP); and what is looked at before that is decided."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import protocol_pb2
from envoy.config.listener.v3 import listener_components_pb2
from envoy.extensions.common.dynamic_forward_proxy.v3 import dns_cache_pb2
from envoy.extensions.filters.common.set_filter_state.v3 import value_pb2
from envoy.extensions.filters.http.cors.v3 import cors_pb2
from envoy.extensions.filters.http.dynamic_forward_proxy.v3 import (
    dynamic_forward_proxy_pb2 as http_dynamic_forward_proxy_pb2,
)
from envoy.extensions.filters.http.fault.v3 import fault_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.listener.http_inspector.v3 import http_inspector_pb2
from envoy.extensions.filters.listener.original_dst.v3 import original_dst_pb2
from envoy.extensions.filters.listener.proxy_protocol.v3 import proxy_protocol_pb2
from envoy.extensions.filters.listener.tls_inspector.v3 import tls_inspector_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.extensions.filters.network.set_filter_state.v3 import set_filter_state_pb2
from envoy.extensions.filters.network.sni_dynamic_forward_proxy.v3 import sni_dynamic_forward_proxy_pb2
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2
from envoy.type.v3 import range_pb2

from isthmus.envoy import hashing
from isthmus.envoy.common import boolean, from_ads, packed, seconds, uint32
from isthmus.model.proxy_config import ClientCertificates, GatewayTopology
from isthmus.model.security import PathNormalization
from isthmus.model.traffic import Treatment

Hcm = http_connection_manager_pb2.HttpConnectionManager

PLAIN_HTTP = ("http/1.0", "http/1.1", "h2c")
"""What the HTTP inspector calls what it finds."""

HTTP_INSPECTOR = "envoy.filters.listener.http_inspector"

_SERVER_NAME = "istio-envoy"
_HEAD_SECONDS = 30


def tcp(
    stat_prefix: str, cluster: str, *, connect_attempts: int = 1, idle_seconds: float = 0
) -> listener_components_pb2.Filter:
    """Bytes to an upstream. An idle connection is the applications' business, so it is not closed for that unless a rule says when."""
    treatment = Treatment(idle_seconds=idle_seconds)
    return tcp_to(stat_prefix, ((cluster, 1),), treatment, connect_attempts=connect_attempts)


def tcp_to(
    stat_prefix: str,
    clusters: Sequence[tuple[str, int]],
    treatment: Treatment,
    *,
    connect_attempts: int,
) -> listener_components_pb2.Filter:
    """Bytes to one of several upstreams, each in proportion to its weight; inside a tunnel through it, where a rule says so."""
    proxy = tcp_proxy_pb2.TcpProxy(
        stat_prefix=f"{stat_prefix};",
        idle_timeout=seconds(treatment.idle_seconds),
        max_connect_attempts=uint32(connect_attempts),
        hash_policy=[hashing.OF_SOURCE] if treatment.by_source else (),
    )
    match clusters:
        case [(cluster, _)]:
            proxy.cluster = cluster
        case _:
            for cluster, weight in clusters:
                proxy.weighted_clusters.clusters.add(name=cluster, weight=weight)
    if treatment.tunnel:
        proxy.tunneling_config.hostname = treatment.tunnel.target
        proxy.tunneling_config.use_post = treatment.tunnel.by_post
    return listener_components_pb2.Filter(name="envoy.filters.network.tcp_proxy", typed_config=packed(proxy))


def offering(protocols: Sequence[str]) -> listener_components_pb2.Filter:
    """Connections that this one causes offer these protocols in ALPN, whatever their upstream's own configuration says.

    Envoy's well-known filter state does for one chain what Istio has an Envoy filter of its own for.
    """
    value = value_pb2.FilterStateValue(object_key="envoy.network.application_protocols")
    value.format_string.text_format_source.inline_string = ",".join(protocols)
    state = set_filter_state_pb2.Config(on_new_connection=[value])
    return listener_components_pb2.Filter(name="envoy.filters.network.set_filter_state", typed_config=packed(state))


def look_up_name(port: int) -> listener_components_pb2.Filter:
    """Finds out the addresses of the name that a TLS client asks for."""
    config = sni_dynamic_forward_proxy_pb2.FilterConfig(dns_cache_config=dns_cache(), port_value=port)
    return listener_components_pb2.Filter(
        name="envoy.filters.network.sni_dynamic_forward_proxy", typed_config=packed(config)
    )


def dns_cache() -> dns_cache_pb2.DnsCacheConfig:
    """Shared by everything that looks hosts up when they are asked for; Envoy demands that all of them describe it alike."""
    return dns_cache_pb2.DnsCacheConfig(name="hosts-of-requests", dns_lookup_family=cluster_pb2.Cluster.V4_PREFERRED)


def http_by_rds(stat_prefix: str, route_name: str, *, resolves: bool = False) -> listener_components_pb2.Filter:
    """Requests of our own workload, routed by a route configuration that is fetched. Routes may ask for faults, and for CORS; `resolves`:
    some lead to hosts that are looked up only now."""
    cors = http_connection_manager_pb2.HttpFilter(name="envoy.filters.http.cors", typed_config=packed(cors_pb2.Cors()))
    fault = http_connection_manager_pb2.HttpFilter(
        name="envoy.filters.http.fault", typed_config=packed(fault_pb2.HTTPFault())
    )
    look_up = http_connection_manager_pb2.HttpFilter(
        name="envoy.filters.http.dynamic_forward_proxy",
        typed_config=packed(http_dynamic_forward_proxy_pb2.FilterConfig(dns_cache_config=dns_cache())),
    )
    manager = _manager(stat_prefix, [cors, fault, *([look_up] if resolves else [])])
    manager.rds.CopyFrom(http_connection_manager_pb2.Rds(config_source=from_ads(), route_config_name=route_name))
    return _filter(manager)


def http_inbound(
    stat_prefix: str,
    routes: Any,
    *,
    authenticated: bool,
    guards: Sequence[Any] = (),
    paths: PathNormalization = PathNormalization.BASE,
) -> listener_components_pb2.Filter:
    """Requests for our own workload; `guards` are asked first. The caller's identity is told in x-forwarded-client-cert: the proven one, or none.

    Whatever the caller wrote into that header itself is removed in both cases. A head that is begun has to be ended in time, as at a gateway.
    """
    manager = _manager(stat_prefix, guards, paths)
    manager.route_config.CopyFrom(routes)
    manager.request_headers_timeout.CopyFrom(seconds(_HEAD_SECONDS))
    if authenticated:
        manager.forward_client_cert_details = Hcm.SANITIZE_SET
        manager.set_current_client_cert_details.uri = True
    else:
        manager.forward_client_cert_details = Hcm.SANITIZE
    return _filter(manager)


def http_at_gateway(
    stat_prefix: str, route_name: str, topology: GatewayTopology, *, guards: Sequence[Any], paths: PathNormalization
) -> listener_components_pb2.Filter:
    """Requests from beyond the mesh: their address is the connection's, and nobody vouches for a client certificate but this proxy, unless
    `topology` says who stands before it.

    A head that is begun has to be ended in time: whoever sends it slowly holds memory here.
    """
    cors = http_connection_manager_pb2.HttpFilter(name="envoy.filters.http.cors", typed_config=packed(cors_pb2.Cors()))
    fault = http_connection_manager_pb2.HttpFilter(
        name="envoy.filters.http.fault", typed_config=packed(fault_pb2.HTTPFault())
    )
    manager = _manager(stat_prefix, [*guards, cors, fault], paths)
    manager.rds.CopyFrom(http_connection_manager_pb2.Rds(config_source=from_ads(), route_config_name=route_name))
    manager.use_remote_address.value = True
    manager.xff_num_trusted_hops = topology.trusted_proxies
    manager.request_headers_timeout.CopyFrom(seconds(_HEAD_SECONDS))
    manager.forward_client_cert_details = Hcm.ForwardClientCertDetails.Value(topology.client_certificates)
    if topology.client_certificates in (ClientCertificates.SANITIZE_SET, ClientCertificates.APPEND_FORWARD):
        manager.set_current_client_cert_details.subject.value = True
        manager.set_current_client_cert_details.uri = True
        manager.set_current_client_cert_details.dns = True
    return _filter(manager)


def proxy_protocol() -> listener_components_pb2.ListenerFilter:
    """Who is calling is said in front of each connection. One that does not say it is ended."""
    return _listener_filter("envoy.filters.listener.proxy_protocol", proxy_protocol_pb2.ProxyProtocol())


def tls_inspector() -> listener_components_pb2.ListenerFilter:
    return _listener_filter("envoy.filters.listener.tls_inspector", tls_inspector_pb2.TlsInspector())


def http_inspector(*, except_ports: Iterable[int] = ()) -> listener_components_pb2.ListenerFilter:
    """Tells HTTP from other bytes. Ports whose protocol is declared need not wait for it."""
    inspector = _listener_filter(HTTP_INSPECTOR, http_inspector_pb2.HttpInspector())
    declared = [_destination_port(port) for port in except_ports]
    if len(declared) == 1:
        inspector.filter_disabled.CopyFrom(declared[0])
    elif declared:
        inspector.filter_disabled.or_match.rules.extend(declared)
    return inspector


def _destination_port(port: int) -> Any:
    return listener_components_pb2.ListenerFilterChainMatchPredicate(
        destination_port_range=range_pb2.Int32Range(start=port, end=port + 1)
    )


def original_destination() -> listener_components_pb2.ListenerFilter:
    return _listener_filter("envoy.filters.listener.original_dst", original_dst_pb2.OriginalDst())


def _listener_filter(name: str, message: Any) -> listener_components_pb2.ListenerFilter:
    return listener_components_pb2.ListenerFilter(name=name, typed_config=packed(message))


def _filter(manager: Any) -> listener_components_pb2.Filter:
    return listener_components_pb2.Filter(
        name="envoy.filters.network.http_connection_manager", typed_config=packed(manager)
    )


def _manager(stat_prefix: str, guards: Sequence[Any] = (), paths: PathNormalization = PathNormalization.BASE) -> Any:
    """Path normalization is on unless the mesh says otherwise, because policies compare paths."""
    router = http_connection_manager_pb2.HttpFilter(
        name="envoy.filters.http.router", typed_config=packed(router_pb2.Router())
    )
    decodes = paths is PathNormalization.DECODE_AND_MERGE_SLASHES
    return Hcm(
        stat_prefix=f"{stat_prefix};",
        server_name=_SERVER_NAME,
        codec_type=Hcm.AUTO,
        http_filters=[*guards, router],
        normalize_path=boolean(paths is not PathNormalization.NONE),
        merge_slashes=decodes or paths is PathNormalization.MERGE_SLASHES,
        path_with_escaped_slashes_action=Hcm.UNESCAPE_AND_FORWARD if decodes else Hcm.IMPLEMENTATION_SPECIFIC_DEFAULT,
        use_remote_address=boolean(False),
        stream_idle_timeout=seconds(0),
        upgrade_configs=[Hcm.UpgradeConfig(upgrade_type="websocket")],
        http_protocol_options=protocol_pb2.Http1ProtocolOptions(accept_http_10=True),
    )
