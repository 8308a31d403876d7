"""What a rule says of a destination, as Envoy's cluster has it: limits, ejection of what fails, balancing, and the protocol that is spoken.

The failover defaults are measured. Three of Envoy's own would spoil it: updates merged for a second, three concurrent retries at most, and 25
ms before the first retry.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

from envoy.config.cluster.v3 import circuit_breaker_pb2, cluster_pb2, outlier_detection_pb2
from envoy.config.core.v3 import address_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2
from google.protobuf import any_pb2

from isthmus.envoy import hashing
from isthmus.envoy.common import packed, seconds, uint32
from isthmus.model.services import Protocol
from isthmus.model.traffic import Balancing, ConnectionPool, OutlierDetection, TrafficPolicy, Upgrade, Warmup

Cluster = cluster_pb2.Cluster

_BALANCING = {
    Balancing.LEAST_REQUEST: Cluster.LEAST_REQUEST,
    Balancing.ROUND_ROBIN: Cluster.ROUND_ROBIN,
    Balancing.RANDOM: Cluster.RANDOM,
}
_UNLIMITED = 2**32 - 1
CONNECT_SECONDS = 10.0
CONNECT_SECONDS_AMONG_OTHERS = 2.0
"""Where another endpoint can take the request: longer than a lost first packet, which the kernel sends again after one second."""
CONNECT_SECONDS_WITHIN_A_NETWORK = 0.3
"""From a network's gateway to what is behind it: the kernel's answer alone, over a short way. TLS is the caller's, who waits meanwhile; so a lost
first packet costs less than the second after which the kernel would send it again."""

_REQUESTS_THROUGH_GATEWAY, _STREAMS_THROUGH_GATEWAY, _SECONDS_THROUGH_GATEWAY = 50, 100, 60.0
"""A gateway passes connections, not requests, so it balances the former alone. Without an end to a connection, a caller's every request goes
to the one workload that it met (docs/decisions/0115). A request of HTTP/2 costs less, so a renewal is to be rarer for the same part of it."""

_AHEAD_OF_REQUESTS, _AHEAD_OF_STREAMS = 1.1, 3.0
"""How much more than what is asked now should find a connection: of HTTP/1.1 one more, of HTTP/2 the next one when the last is nearly used up.
So no request waits for a renewal. Envoy takes no more than 3."""

_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def balance(cluster: Any, policy: TrafficPolicy) -> None:
    """How one of the endpoints is chosen. Requests are weighed by default: the endpoint with the fewer of two open ones."""
    if policy.hash:
        hashing.balance(cluster, policy.hash)
        return
    cluster.lb_policy = _BALANCING.get(policy.balancing or Balancing.LEAST_REQUEST, Cluster.LEAST_REQUEST)
    if policy.warmup and cluster.lb_policy == Cluster.ROUND_ROBIN:
        cluster.round_robin_lb_config.slow_start_config.CopyFrom(_slow_start(policy.warmup))
    elif policy.warmup and cluster.lb_policy == Cluster.LEAST_REQUEST:
        cluster.least_request_lb_config.slow_start_config.CopyFrom(_slow_start(policy.warmup))


def _slow_start(said: Warmup) -> Any:
    found = Cluster.SlowStartConfig(slow_start_window=seconds(said.seconds))
    if said.aggression is not None:
        found.aggression.default_value = said.aggression
        found.aggression.runtime_key = "isthmus.slow_start.aggression"
    if said.least_percent is not None:
        found.min_weight_percent.value = said.least_percent
    return found


def keepalive(policy: TrafficPolicy) -> Any:
    """Half a minute of silence, unless a rule says otherwise: a peer whose machine is gone is noticed before its connection is needed."""
    said = policy.pool.keepalive if policy.pool else None
    if said is None:
        return address_pb2.TcpKeepalive(
            keepalive_probes=uint32(3), keepalive_time=uint32(30), keepalive_interval=uint32(5)
        )
    found = address_pb2.TcpKeepalive()
    if said.probes is not None:
        found.keepalive_probes.value = said.probes
    if said.time_seconds is not None:
        found.keepalive_time.value = max(1, round(said.time_seconds))
    if said.interval_seconds is not None:
        found.keepalive_interval.value = max(1, round(said.interval_seconds))
    return found


def speak(cluster: Any, protocol: Protocol, pool: ConnectionPool | None, *, through_gateways: bool) -> None:
    """What the port says, unless a rule has HTTP/1.1 go on as HTTP/2; and how connections with requests are used."""
    pool = pool or ConnectionPool()
    options = _worth_saying(protocol, pool, through_gateways=through_gateways)
    if options is not None:
        cluster.typed_extension_protocol_options[_HTTP_OPTIONS].CopyFrom(options)
    if through_gateways and not protocol.is_opaque and pool.max_requests_per_connection is None:
        ahead = _AHEAD_OF_STREAMS if _is_http2_always(protocol, pool) else _AHEAD_OF_REQUESTS
        cluster.preconnect_policy.per_upstream_preconnect_ratio.value = ahead


@lru_cache(maxsize=256)
def _worth_saying(protocol: Protocol, pool: ConnectionPool, *, through_gateways: bool) -> any_pb2.Any | None:
    """None where it is what Envoy does anyway."""
    options = _spoken(protocol, pool, through_gateways=through_gateways)
    is_plain = options.explicit_http_config.HasField("http_protocol_options")
    is_said = not is_plain or options.HasField("common_http_protocol_options")
    return packed(options) if options.WhichOneof("upstream_protocol_options") and is_said else None


def speak_to_named_hosts(cluster: Any, protocol: Protocol, pool: ConnectionPool | None) -> None:
    """The same, with hosts that requests name: if by TLS, these have to show that name."""
    options = _spoken(protocol, pool or ConnectionPool(), through_gateways=False)
    if not options.WhichOneof("upstream_protocol_options"):
        options.explicit_http_config.http_protocol_options.SetInParent()
    options.upstream_http_protocol_options.auto_sni = True
    options.upstream_http_protocol_options.auto_san_validation = True
    cluster.typed_extension_protocol_options[_HTTP_OPTIONS].CopyFrom(packed(options))


def _spoken(protocol: Protocol, pool: ConnectionPool, *, through_gateways: bool) -> Any:
    options = http_protocol_options_pb2.HttpProtocolOptions()
    if _is_http2_always(protocol, pool):
        _http2(options.explicit_http_config.http2_protocol_options, pool)
    elif protocol is Protocol.AUTO or (protocol.is_http and pool.upgrade is Upgrade.AS_CALLED):
        options.use_downstream_protocol_config.http_protocol_options.SetInParent()
        _http2(options.use_downstream_protocol_config.http2_protocol_options, pool)
    elif protocol.is_http:
        options.explicit_http_config.http_protocol_options.SetInParent()
    common = options.common_http_protocol_options
    requests, seconds_at_most = pool.max_requests_per_connection, pool.max_connection_seconds
    if through_gateways:
        often = _STREAMS_THROUGH_GATEWAY if _is_http2_always(protocol, pool) else _REQUESTS_THROUGH_GATEWAY
        requests = requests or often
        seconds_at_most = _SECONDS_THROUGH_GATEWAY if seconds_at_most is None else seconds_at_most
    if requests:
        common.max_requests_per_connection.value = requests
    if pool.idle_seconds is not None:
        common.idle_timeout.CopyFrom(seconds(pool.idle_seconds))
    if seconds_at_most is not None:
        common.max_connection_duration.CopyFrom(seconds(seconds_at_most))
    return options


def _is_http2_always(protocol: Protocol, pool: ConnectionPool) -> bool:
    """Whatever callers speak: the port says so, or a rule has HTTP/1.1 go on as HTTP/2."""
    if not protocol.is_http or pool.upgrade is Upgrade.AS_CALLED:
        return False
    return protocol.is_http2 or pool.upgrade is Upgrade.YES


def _http2(options: Any, pool: ConnectionPool) -> None:
    options.SetInParent()
    if pool.max_concurrent_streams is not None:
        options.max_concurrent_streams.value = pool.max_concurrent_streams
    if pool.pings is not None:
        options.connection_keepalive.interval.CopyFrom(seconds(pool.pings.interval_seconds))
        options.connection_keepalive.timeout.CopyFrom(seconds(pool.pings.timeout_seconds))


def speak_as_called(cluster: Any, protocol: Protocol, pool: ConnectionPool | None) -> None:
    """To the proxy's own workload: HTTP/2 where the port says so, else as the request came."""
    if not (protocol.is_http or protocol is Protocol.AUTO):
        return
    spoken = protocol if protocol.is_http2 else Protocol.AUTO
    options = _spoken(spoken, replace(pool or ConnectionPool(), upgrade=None), through_gateways=False)
    cluster.typed_extension_protocol_options[_HTTP_OPTIONS].CopyFrom(packed(options))


def speak_as_downstream(cluster: Any) -> None:
    """HTTP/1.1 or HTTP/2, as the request came."""
    options = http_protocol_options_pb2.HttpProtocolOptions()
    options.use_downstream_protocol_config.http_protocol_options.SetInParent()
    options.use_downstream_protocol_config.http2_protocol_options.SetInParent()
    cluster.typed_extension_protocol_options[_HTTP_OPTIONS].CopyFrom(packed(options))


def least_health(rule: OutlierDetection | None) -> int:
    """Below which percentage of healthy endpoints Envoy takes all for healthy ("panic"). Never, unless a rule says so."""
    return rule.min_health_percent or 0 if rule else 0


def connect_timeout(policy: TrafficPolicy, seconds_otherwise: float) -> Any:
    """As a rule says. What is not connected when a second try is due is tried elsewhere: until there is a connection, Envoy begins no second try."""
    said = policy.pool.connect_seconds if policy.pool else None
    otherwise = min(seconds_otherwise, policy.wishes.hedge_after_seconds or seconds_otherwise)
    return seconds(otherwise if said is None else said)


def limits(policy: TrafficPolicy) -> circuit_breaker_pb2.CircuitBreakers:
    """Without a rule none, as Istio: Envoy's default of three concurrent retries would defeat failover.

    Nor is there a retry budget: when a cluster is lost, every request in flight is a retry at once. Two retries for each request bound it.
    """
    pool, budget = policy.pool or ConnectionPool(), policy.retry_budget

    def limit(said: int | None) -> Any:
        return uint32(_UNLIMITED if said is None else said)

    found = circuit_breaker_pb2.CircuitBreakers.Thresholds(
        max_connections=limit(pool.max_connections),
        max_pending_requests=limit(pool.max_pending_requests),
        max_requests=limit(pool.max_requests),
        max_retries=limit(pool.max_retries),
        track_remaining=True,
    )
    if budget:
        found.retry_budget.budget_percent.value = budget.percent
        found.retry_budget.min_retry_concurrency.value = budget.least
    return circuit_breaker_pb2.CircuitBreakers(thresholds=[found])


def outliers(rule: OutlierDetection | None) -> outlier_detection_pb2.OutlierDetection:
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
    if rule.split:
        failures = 5 if rule.consecutive_local_failures is None else rule.consecutive_local_failures
        found.enforcing_consecutive_local_origin_failure.value = 100 if failures else 0
        if failures:
            found.consecutive_local_origin_failure.value = failures
    found.max_ejection_percent.value = 10 if rule.max_ejection_percent is None else rule.max_ejection_percent
