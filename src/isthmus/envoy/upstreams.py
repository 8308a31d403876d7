"""Upstreams (Envoy calls them clusters): how each service port is connected to.

What an Envoy cluster says does not depend on which endpoints there are, so endpoints come and go without it; and it is encoded once for all
the proxies and moments that agree on its facts.

The failover defaults are measured. Three of Envoy's own would spoil it: updates merged for a second, three concurrent retries at most,
and 25 ms before the first retry.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from envoy.config.cluster.v3 import circuit_breaker_pb2, cluster_pb2, outlier_detection_pb2
from envoy.config.core.v3 import address_pb2, base_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2
from envoy.type.v3 import percent_pb2

from isthmus.envoy import hashing, tls
from isthmus.envoy.common import (
    BLACK_HOLE,
    INBOUND_PASSTHROUGH,
    PASSTHROUGH,
    from_ads,
    istio_metadata,
    packed,
    seconds,
    struct,
    uint32,
)
from isthmus.envoy.endpoints import endpoints_of
from isthmus.envoy.resources import Resource
from isthmus.model.identity import SpiffeId
from isthmus.model.names import ServiceKey
from isthmus.model.origins import Origin
from isthmus.model.services import Protocol, Resolution, ServicePort
from isthmus.model.traffic import Balancing, ConnectionPool, OutlierDetection, TlsOrigination, TrafficPolicy
from isthmus.model.views import InboundPort, ProxyKind, Upstream

Cluster = cluster_pb2.Cluster

_BALANCING = {
    Balancing.LEAST_REQUEST: Cluster.LEAST_REQUEST,
    Balancing.ROUND_ROBIN: Cluster.ROUND_ROBIN,
    Balancing.RANDOM: Cluster.RANDOM,
}
_UNLIMITED = 2**32 - 1
_CONNECT_SECONDS = 10.0
_LOOPBACK_SOURCE = "127.0.0.6"
"""Source of connections that the sidecar makes to its own workload; capture leaves them alone."""

_REQUESTS_THROUGH_GATEWAY = 100
"""A gateway passes connections, not requests, so it balances the former alone. Without an end to an HTTP/2 connection, a caller's every
request goes to the one workload that its connection met (measured: 1823 to 0; with 100 requests to a connection 923 to 900)."""

_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


@dataclass(frozen=True, slots=True)
class _Facts:
    """All that a service port's Envoy cluster depends on."""

    name: str
    sni: str
    service: ServiceKey
    service_name: str
    port: ServicePort
    identities: tuple[SpiffeId, ...]
    through_gateways: bool
    policy: TrafficPolicy
    locality_weighted: bool
    rule: Origin | None
    subject_names: tuple[str, ...]


def outbound(upstream: Upstream, kind: ProxyKind) -> Resource:
    """A service port as a caller's proxy connects to it: mutual TLS to endpoints that take part in it, plain to others."""
    match upstream.service.resolution:
        case Resolution.DNS:
            return _found_by_dns(upstream)
        case Resolution.NONE:
            return _original_destination(_facts(upstream, upstream.name), mutual_tls=False)
    if has_endpoints(upstream, kind):
        return _balanced(_facts(upstream, upstream.name))
    return _original_destination(_facts(upstream, upstream.name), mutual_tls=upstream.ways.direct_are_meshed)


def passed_through(upstream: Upstream) -> Resource:
    """A service port as a network gateway connects to it: the bytes of the caller's own TLS, under the SNI as the name."""
    return _passed_through(_facts(upstream, upstream.sni))


def has_endpoints(upstream: Upstream, kind: ProxyKind) -> bool:
    """Whether the proxy chooses among endpoints that it is told. Of a headless service the application has chosen one already."""
    if upstream.service.resolution is not Resolution.ENDPOINTS or upstream.policy.balancing is Balancing.PASSTHROUGH:
        return False
    return kind is ProxyKind.ROUTER or not upstream.service.headless


@lru_cache(maxsize=4096)
def inbound(port: InboundPort) -> Resource:
    """The proxy's own workload, at the address that the caller connected to."""
    cluster = _to_own_workload(f"inbound|{port.target_port}||")
    if port.forward_to is not None:
        _forward(cluster, port.forward_to)
    cluster.metadata.CopyFrom(istio_metadata({"services": [{"host": port.hostname}]}))
    if port.protocol.is_http2:
        _set_http2(cluster)
    elif port.protocol.is_http or port.protocol is Protocol.AUTO:
        _set_as_downstream(cluster)
    return Resource.of(cluster.name, cluster)


@cache
def passthrough() -> Resource:
    """Destinations that nobody declares, as they are."""
    cluster = Cluster(
        name=PASSTHROUGH,
        type=Cluster.ORIGINAL_DST,
        lb_policy=Cluster.CLUSTER_PROVIDED,
        connect_timeout=seconds(_CONNECT_SECONDS),
        circuit_breakers=_no_limits(),
    )
    _set_as_downstream(cluster)
    return Resource.of(cluster.name, cluster)


@cache
def inbound_passthrough() -> Resource:
    """The proxy's own workload, on ports that no service declares."""
    cluster = _to_own_workload(INBOUND_PASSTHROUGH)
    _set_as_downstream(cluster)
    return Resource.of(cluster.name, cluster)


@cache
def black_hole() -> Resource:
    """No endpoints: whatever is sent there ends."""
    return Resource.of(
        BLACK_HOLE, Cluster(name=BLACK_HOLE, type=Cluster.STATIC, connect_timeout=seconds(_CONNECT_SECONDS))
    )


def _facts(upstream: Upstream, name: str) -> _Facts:
    return _Facts(
        name,
        upstream.sni,
        upstream.service.key,
        upstream.service.name,
        upstream.port,
        upstream.expected_identities,
        upstream.ways.through_gateways,
        upstream.policy,
        upstream.locality_weighted,
        upstream.rule,
        upstream.service.subject_names,
    )


@lru_cache(maxsize=65536)
def _balanced(facts: _Facts) -> Resource:
    cluster = _service_cluster(facts)
    _set_protocol(cluster, facts)
    if facts.policy.origination:
        cluster.transport_socket.CopyFrom(_originating(facts, facts.policy.origination))
        return Resource.of(cluster.name, cluster)
    client = tls.client_socket(facts.sni, facts.identities, facts.port.protocol)
    cluster.transport_socket_matches.extend(
        [
            Cluster.TransportSocketMatch(
                name="tlsMode-istio", match=struct({"tlsMode": "istio"}), transport_socket=client
            ),
            Cluster.TransportSocketMatch(
                name="tlsMode-disabled", match=struct({}), transport_socket=tls.plain_socket()
            ),
        ]
    )
    return Resource.of(cluster.name, cluster)


def _found_by_dns(upstream: Upstream) -> Resource:
    """Host names, which Envoy resolves; each of their addresses takes its part."""
    cluster = Cluster.FromString(_balanced(_facts(upstream, upstream.name)).body)
    cluster.type = Cluster.STRICT_DNS
    cluster.ClearField("eds_cluster_config")
    cluster.dns_lookup_family = Cluster.V4_ONLY
    cluster.respect_dns_ttl = True
    cluster.load_assignment.ParseFromString(endpoints_of(upstream, upstream.name).body)
    return Resource.of(cluster.name, cluster)


@lru_cache(maxsize=65536)
def _passed_through(facts: _Facts) -> Resource:
    cluster = _service_cluster(facts)
    return Resource.of(cluster.name, cluster)


@lru_cache(maxsize=65536)
def _original_destination(facts: _Facts, *, mutual_tls: bool) -> Resource:
    """A headless service: the application chose the endpoint, so TLS is for all of them or for none."""
    cluster = Cluster(
        name=facts.name,
        alt_stat_name=f"{facts.name};",
        type=Cluster.ORIGINAL_DST,
        lb_policy=Cluster.CLUSTER_PROVIDED,
        connect_timeout=_connect_timeout(facts.policy),
        circuit_breakers=_limits(facts.policy.pool),
        metadata=_service_metadata(facts),
    )
    _set_protocol(cluster, facts)
    if facts.policy.origination:
        cluster.transport_socket.CopyFrom(_originating(facts, facts.policy.origination))
    elif mutual_tls:
        cluster.transport_socket.CopyFrom(tls.client_socket(facts.sni, facts.identities, facts.port.protocol))
    return Resource.of(cluster.name, cluster)


def _originating(facts: _Facts, said: TlsOrigination) -> base_pb2.TransportSocket:
    """The name to ask for, and to be shown, is the service's own unless a rule says another."""
    sni = said.sni or facts.service.hostname
    names = said.names or facts.subject_names or (sni,)
    return tls.originating_socket(said, sni, names, facts.port.protocol)


def _service_cluster(facts: _Facts) -> Any:
    cluster = Cluster(
        name=facts.name,
        alt_stat_name=f"{facts.name};",
        type=Cluster.EDS,
        eds_cluster_config=Cluster.EdsClusterConfig(eds_config=from_ads(), service_name=facts.name),
        connect_timeout=_connect_timeout(facts.policy),
        lb_policy=_BALANCING.get(facts.policy.balancing or Balancing.LEAST_REQUEST, Cluster.LEAST_REQUEST),
        circuit_breakers=_limits(facts.policy.pool),
        outlier_detection=_outliers(facts.policy.outliers),
        common_lb_config=Cluster.CommonLbConfig(
            locality_weighted_lb_config=_weighted() if facts.locality_weighted else None,
            healthy_panic_threshold=percent_pb2.Percent(value=_min_health(facts.policy.outliers)),
            update_merge_window=seconds(0),
        ),
        upstream_connection_options=cluster_pb2.UpstreamConnectionOptions(
            tcp_keepalive=address_pb2.TcpKeepalive(
                keepalive_probes=uint32(3), keepalive_time=uint32(30), keepalive_interval=uint32(5)
            )
        ),
        metadata=_service_metadata(facts),
    )
    if facts.policy.hash:
        hashing.balance(cluster, facts.policy.hash)
    return cluster


def _to_own_workload(name: str) -> Any:
    """From an address that capture leaves alone, whether or not the proxy may mark its sockets."""
    return Cluster(
        name=name,
        alt_stat_name=f"{name};",
        type=Cluster.ORIGINAL_DST,
        lb_policy=Cluster.CLUSTER_PROVIDED,
        connect_timeout=seconds(_CONNECT_SECONDS),
        circuit_breakers=_no_limits(),
        upstream_bind_config=address_pb2.BindConfig(
            source_address=address_pb2.SocketAddress(address=_LOOPBACK_SOURCE, port_value=0),
        ),
    )


def _forward(cluster: Any, to: tuple[str, int] | str) -> None:
    """To one place of the workload's own, whatever address the caller connected to."""
    place = address_pb2.Address()
    if isinstance(to, str):
        place.pipe.path = to
        cluster.ClearField("upstream_bind_config")
    else:
        place.socket_address.address, place.socket_address.port_value = to
    cluster.type, cluster.lb_policy = Cluster.STATIC, Cluster.ROUND_ROBIN
    cluster.load_assignment.cluster_name = cluster.name
    cluster.load_assignment.endpoints.add().lb_endpoints.add().endpoint.address.CopyFrom(place)


def _set_protocol(cluster: Any, facts: _Facts) -> None:
    said = facts.policy.pool.max_requests_per_connection if facts.policy.pool else None
    if facts.port.protocol.is_http2:
        _set_http2(
            cluster, requests_per_connection=said or (_REQUESTS_THROUGH_GATEWAY if facts.through_gateways else None)
        )
    elif facts.port.protocol is Protocol.AUTO:
        _set_as_downstream(cluster)
    elif said and facts.port.protocol.is_http:
        options = http_protocol_options_pb2.HttpProtocolOptions()
        options.explicit_http_config.http_protocol_options.SetInParent()
        options.common_http_protocol_options.max_requests_per_connection.value = said
        cluster.typed_extension_protocol_options[_HTTP_OPTIONS].CopyFrom(packed(options))


def _set_http2(cluster: Any, *, requests_per_connection: int | None = None) -> None:
    options = http_protocol_options_pb2.HttpProtocolOptions()
    options.explicit_http_config.http2_protocol_options.SetInParent()
    if requests_per_connection is not None:
        options.common_http_protocol_options.max_requests_per_connection.value = requests_per_connection
    cluster.typed_extension_protocol_options[_HTTP_OPTIONS].CopyFrom(packed(options))


def _set_as_downstream(cluster: Any) -> None:
    """HTTP/1.1 or HTTP/2, as the request came."""
    options = http_protocol_options_pb2.HttpProtocolOptions()
    options.use_downstream_protocol_config.http_protocol_options.SetInParent()
    options.use_downstream_protocol_config.http2_protocol_options.SetInParent()
    cluster.typed_extension_protocol_options[_HTTP_OPTIONS].CopyFrom(packed(options))


def _weighted() -> Any:
    return Cluster.CommonLbConfig.LocalityWeightedLbConfig()


def _min_health(rule: OutlierDetection | None) -> int:
    return rule.min_health_percent or 0 if rule else 0


def _connect_timeout(policy: TrafficPolicy) -> Any:
    said = policy.pool.connect_seconds if policy.pool else None
    return seconds(_CONNECT_SECONDS if said is None else said)


def _no_limits() -> circuit_breaker_pb2.CircuitBreakers:
    return _limits(None)


def _limits(pool: ConnectionPool | None) -> circuit_breaker_pb2.CircuitBreakers:
    """Without a rule none, as Istio: Envoy's default of three concurrent retries would defeat failover.

    Nor is there a retry budget: when a cluster is lost, every request in flight is a retry at once. Two retries for each request bound it.
    """
    pool = pool or ConnectionPool()

    def limit(said: int | None) -> Any:
        return uint32(_UNLIMITED if said is None else said)

    return circuit_breaker_pb2.CircuitBreakers(
        thresholds=[
            circuit_breaker_pb2.CircuitBreakers.Thresholds(
                max_connections=limit(pool.max_connections),
                max_pending_requests=limit(pool.max_pending_requests),
                max_requests=limit(pool.max_requests),
                max_retries=limit(pool.max_retries),
                track_remaining=True,
            )
        ]
    )


def _outliers(rule: OutlierDetection | None) -> outlier_detection_pb2.OutlierDetection:
    """Without a rule an address that refuses connections is left out for a while; what answers, with whatever status, is not.

    99 percent, because the last address is never ejected: it has nothing to fail over to, and may be back in a moment.
    """
    found = outlier_detection_pb2.OutlierDetection(
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
        max_ejection_percent=uint32(99),
    )
    if rule is not None:
        _as_the_rule_says(found, rule)
    return found


def _as_the_rule_says(found: outlier_detection_pb2.OutlierDetection, rule: OutlierDetection) -> None:
    """Istio's meaning, and its defaults where the rule is silent: five errors, ten seconds, thirty seconds, ten percent."""
    errors = 5 if rule.consecutive_errors is None else rule.consecutive_errors
    if errors:
        found.consecutive_5xx.value, found.enforcing_consecutive_5xx.value = errors, 100
    if rule.consecutive_gateway_errors:
        found.consecutive_gateway_failure.value = rule.consecutive_gateway_errors
        found.enforcing_consecutive_gateway_failure.value = 100
    found.interval.CopyFrom(seconds(10 if rule.interval_seconds is None else rule.interval_seconds))
    ejected = 30 if rule.base_ejection_seconds is None else rule.base_ejection_seconds
    found.base_ejection_time.CopyFrom(seconds(ejected))
    found.max_ejection_time.CopyFrom(seconds(max(ejected, 300)))
    found.max_ejection_percent.value = 10 if rule.max_ejection_percent is None else rule.max_ejection_percent


def _service_metadata(facts: _Facts) -> base_pb2.Metadata:
    service = {"host": facts.service.hostname, "name": facts.service_name, "namespace": facts.service.namespace}
    of_rule = {"config": facts.rule.path} if facts.rule else {}
    return istio_metadata({"services": [service], "default_original_port": facts.port.number} | of_rule)
