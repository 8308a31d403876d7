"""Upstreams (Envoy calls them clusters): how each service port is connected to.

The failover defaults are measured. Three of Envoy's own would spoil it: updates merged for a second, three concurrent retries at most,
and 25 ms before the first retry.
"""

from __future__ import annotations

from typing import Any

from envoy.config.cluster.v3 import circuit_breaker_pb2, cluster_pb2, outlier_detection_pb2
from envoy.config.core.v3 import address_pb2, base_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2
from envoy.type.v3 import percent_pb2
from google.protobuf import struct_pb2

from isthmus.envoy import tls
from isthmus.envoy.common import (
    BLACK_HOLE,
    INBOUND_PASSTHROUGH,
    PASSTHROUGH,
    from_ads,
    mark_option,
    packed,
    seconds,
    uint32,
)
from isthmus.model.services import Protocol
from isthmus.model.views import InboundPort, ProxyKind, Upstream

Cluster = cluster_pb2.Cluster

_UNLIMITED = 2**32 - 1
_CONNECT_SECONDS = 10.0
_LOOPBACK_SOURCE = "127.0.0.6"
"""Source of connections that the sidecar makes to its own workload; capture leaves them alone."""

_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def outbound(upstream: Upstream, kind: ProxyKind) -> Any:
    """A service port as a caller's proxy connects to it: mutual TLS to endpoints that take part in it, plain to others."""
    if upstream.service.headless and kind is ProxyKind.SIDECAR:
        return _original_destination(upstream)
    cluster = _service_cluster(upstream, upstream.name)
    client = tls.client_socket(upstream.sni, upstream.expected_identities, upstream.port.protocol)
    cluster.transport_socket_matches.extend(
        [
            Cluster.TransportSocketMatch(
                name="tlsMode-istio", match=_struct({"tlsMode": "istio"}), transport_socket=client
            ),
            Cluster.TransportSocketMatch(
                name="tlsMode-disabled", match=_struct({}), transport_socket=tls.plain_socket()
            ),
        ]
    )
    _set_http_options(cluster, upstream.port.protocol)
    return cluster


def passed_through(upstream: Upstream) -> Any:
    """A service port as a network gateway connects to it: the bytes of the caller's own TLS, under the SNI as the name."""
    return _service_cluster(upstream, upstream.sni)


def inbound(port: InboundPort) -> Any:
    """The proxy's own workload, at the address that the caller connected to."""
    cluster = _to_own_workload(f"inbound|{port.target_port}||")
    cluster.metadata.CopyFrom(_istio_metadata({"services": [{"host": port.hostname}]}))
    if port.protocol.is_http:
        options = http_protocol_options_pb2.HttpProtocolOptions()
        if port.protocol.is_http2:
            options.explicit_http_config.http2_protocol_options.SetInParent()
        else:
            options.use_downstream_protocol_config.http_protocol_options.SetInParent()
            options.use_downstream_protocol_config.http2_protocol_options.SetInParent()
        cluster.typed_extension_protocol_options[_HTTP_OPTIONS].CopyFrom(packed(options))
    return cluster


def own() -> list[Any]:
    """The upstreams that every sidecar has: unknown destinations pass, or end."""
    return [
        Cluster(
            name=PASSTHROUGH,
            type=Cluster.ORIGINAL_DST,
            lb_policy=Cluster.CLUSTER_PROVIDED,
            connect_timeout=seconds(_CONNECT_SECONDS),
            circuit_breakers=_no_limits(),
        ),
        black_hole(),
        _to_own_workload(INBOUND_PASSTHROUGH),
    ]


def black_hole() -> Any:
    """No endpoints: whatever is sent there ends."""
    return Cluster(name=BLACK_HOLE, type=Cluster.STATIC, connect_timeout=seconds(_CONNECT_SECONDS))


def _service_cluster(upstream: Upstream, name: str) -> Any:
    return Cluster(
        name=name,
        type=Cluster.EDS,
        eds_cluster_config=Cluster.EdsClusterConfig(eds_config=from_ads(), service_name=name),
        connect_timeout=seconds(_CONNECT_SECONDS),
        lb_policy=Cluster.LEAST_REQUEST,
        circuit_breakers=_no_limits(),
        outlier_detection=_ejects_what_refuses(),
        common_lb_config=Cluster.CommonLbConfig(
            healthy_panic_threshold=percent_pb2.Percent(value=0),
            update_merge_window=seconds(0),
        ),
        upstream_connection_options=cluster_pb2.UpstreamConnectionOptions(
            tcp_keepalive=address_pb2.TcpKeepalive(
                keepalive_probes=uint32(3), keepalive_time=uint32(30), keepalive_interval=uint32(5)
            )
        ),
        metadata=_istio_metadata(
            {
                "services": [
                    {
                        "host": upstream.service.hostname,
                        "name": upstream.service.name,
                        "namespace": upstream.service.namespace,
                    }
                ],
                "default_original_port": upstream.port.number,
            }
        ),
    )


def _original_destination(upstream: Upstream) -> Any:
    """A headless service: the application chose the endpoint, so TLS is for all of them or for none."""
    destinations = [destination for group in upstream.groups for destination in group.destinations]
    cluster = Cluster(
        name=upstream.name,
        type=Cluster.ORIGINAL_DST,
        lb_policy=Cluster.CLUSTER_PROVIDED,
        connect_timeout=seconds(_CONNECT_SECONDS),
        circuit_breakers=_no_limits(),
    )
    if destinations and all(destination.mutual_tls for destination in destinations):
        socket = tls.client_socket(upstream.sni, upstream.expected_identities, upstream.port.protocol)
        cluster.transport_socket.CopyFrom(socket)
    _set_http_options(cluster, upstream.port.protocol)
    return cluster


def _to_own_workload(name: str) -> Any:
    """A bind configuration of a cluster's own replaces the global one, so the mark is said again."""
    return Cluster(
        name=name,
        type=Cluster.ORIGINAL_DST,
        lb_policy=Cluster.CLUSTER_PROVIDED,
        connect_timeout=seconds(_CONNECT_SECONDS),
        circuit_breakers=_no_limits(),
        upstream_bind_config=address_pb2.BindConfig(
            source_address=address_pb2.SocketAddress(address=_LOOPBACK_SOURCE, port_value=0),
            socket_options=[mark_option()],
        ),
    )


def _set_http_options(cluster: Any, protocol: Protocol) -> None:
    options = http_protocol_options_pb2.HttpProtocolOptions()
    if protocol.is_http2:
        options.explicit_http_config.http2_protocol_options.SetInParent()
    elif protocol.is_http:
        options.explicit_http_config.http_protocol_options.SetInParent()
    elif protocol is Protocol.AUTO:
        options.use_downstream_protocol_config.http_protocol_options.SetInParent()
        options.use_downstream_protocol_config.http2_protocol_options.SetInParent()
    else:
        return
    cluster.typed_extension_protocol_options[_HTTP_OPTIONS].CopyFrom(packed(options))


def _no_limits() -> circuit_breaker_pb2.CircuitBreakers:
    """As Istio: limits are the user's to set. Envoy's default of three concurrent retries would defeat failover."""
    return circuit_breaker_pb2.CircuitBreakers(
        thresholds=[
            circuit_breaker_pb2.CircuitBreakers.Thresholds(
                max_connections=uint32(_UNLIMITED),
                max_pending_requests=uint32(_UNLIMITED),
                max_requests=uint32(_UNLIMITED),
                max_retries=uint32(_UNLIMITED),
                track_remaining=True,
            )
        ]
    )


def _ejects_what_refuses() -> outlier_detection_pb2.OutlierDetection:
    """An address that refuses connections is left out for a while; what answers, with whatever status, is not."""
    return outlier_detection_pb2.OutlierDetection(
        split_external_local_origin_errors=True,
        consecutive_local_origin_failure=uint32(2),
        enforcing_consecutive_local_origin_failure=uint32(100),
        enforcing_local_origin_success_rate=uint32(0),
        enforcing_consecutive_5xx=uint32(0),
        enforcing_consecutive_gateway_failure=uint32(0),
        enforcing_success_rate=uint32(0),
        interval=seconds(1),
        base_ejection_time=seconds(2),
        max_ejection_time=seconds(10),
        max_ejection_percent=uint32(100),
    )


def _struct(value: dict[str, Any]) -> struct_pb2.Struct:
    struct = struct_pb2.Struct()
    struct.update(value)
    return struct


def _istio_metadata(value: dict[str, Any]) -> base_pb2.Metadata:
    return base_pb2.Metadata(filter_metadata={"istio": _struct(value)})
