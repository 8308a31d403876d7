"""Upstreams (Envoy calls them clusters): how each service port is connected to.

What an Envoy cluster says does not depend on which endpoints there are, so endpoints come and go without it; and it is encoded once for all
the proxies and moments that agree on its facts.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import address_pb2, base_pb2, proxy_protocol_pb2
from envoy.extensions.clusters.dynamic_forward_proxy.v3 import cluster_pb2 as dynamic_forward_proxy_pb2
from envoy.extensions.transport_sockets.proxy_protocol.v3 import upstream_proxy_protocol_pb2
from envoy.type.v3 import percent_pb2

from isthmus.envoy import filters, proxyless, tls, traffic_policy
from isthmus.envoy.common import (
    BLACK_HOLE,
    INBOUND_PASSTHROUGH,
    PASSTHROUGH,
    from_ads,
    istio_metadata,
    packed,
    seconds,
)
from isthmus.envoy.endpoints import endpoints_of
from isthmus.envoy.resources import Resource
from isthmus.envoy.traffic_policy import (
    CONNECT_SECONDS,
    CONNECT_SECONDS_AMONG_OTHERS,
    CONNECT_SECONDS_WITHIN_A_NETWORK,
)
from isthmus.incremental.while_used import while_used
from isthmus.model.identity import SpiffeId
from isthmus.model.names import ServiceKey
from isthmus.model.origins import Origin
from isthmus.model.services import Resolution, Service, ServicePort
from isthmus.model.traffic import Balancing, TlsOrigination, TrafficPolicy
from isthmus.model.values import dataclass
from isthmus.model.views import InboundPort, ProxyKind, Upstream

Cluster = cluster_pb2.Cluster

_LOOPBACK_SOURCES = {4: "127.0.0.6", 6: "::6"}
"""Sources of connections that the sidecar makes to its own workload, by family; capture leaves them alone."""


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
    one_bundle: bool


def outbound(upstream: Upstream, kind: ProxyKind) -> Resource:
    """A service port as a caller's proxy connects to it: mutual TLS to endpoints that take part in it, plain to others."""
    if kind is ProxyKind.PROXYLESS:
        return proxyless.cluster(upstream)
    match upstream.service.resolution:
        case Resolution.DNS | Resolution.DNS_FIRST:
            return _found_by_dns(upstream)
        case Resolution.DNS_OF_REQUEST:
            return _looked_up(_facts(upstream, upstream.name))
        case Resolution.NONE:
            return _original_destination(_facts(upstream, upstream.name), mutual_tls=False)
    if has_endpoints(upstream.service, upstream.policy, kind):
        return _balanced(_facts(upstream, upstream.name))
    return _original_destination(_facts(upstream, upstream.name), mutual_tls=upstream.ways.direct_are_meshed)


def passed_through(upstream: Upstream) -> Resource:
    """A service port as a network gateway connects to it: the bytes of the caller's own TLS, under the SNI as the name."""
    return _passed_through(_facts(upstream, upstream.sni))


def has_endpoints(service: Service, policy: TrafficPolicy, kind: ProxyKind) -> bool:
    """Whether the proxy chooses among endpoints that it is told. Of a headless service the application has chosen one already."""
    if kind is ProxyKind.PROXYLESS:
        return proxyless.may_dial(service)
    if service.resolution is not Resolution.ENDPOINTS or policy.balancing is Balancing.PASSTHROUGH:
        return False
    return kind is ProxyKind.ROUTER or not service.headless


@while_used
def inbound(port: InboundPort, families: tuple[int, ...]) -> Resource:
    """The proxy's own workload, at the address that the caller connected to."""
    cluster = _to_own_workload(f"inbound|{port.target_port}||", families)
    if port.forward_to is not None:
        _forward(cluster, port.forward_to)
    service = _host(port.hostname)
    whole = ";".join((service["host"], service["name"], service.get("namespace", "")))
    cluster.metadata.CopyFrom(istio_metadata({"services": [service], "service": whole}))
    traffic_policy.speak_as_called(cluster, port.protocol, port.pool)
    if port.pool:
        policy = TrafficPolicy(pool=port.pool)
        cluster.circuit_breakers.CopyFrom(traffic_policy.limits(policy))
        cluster.connect_timeout.CopyFrom(traffic_policy.connect_timeout(policy, CONNECT_SECONDS))
        if port.pool.keepalive:
            cluster.upstream_connection_options.tcp_keepalive.CopyFrom(traffic_policy.keepalive(policy))
    return Resource.of(cluster.name, cluster)


def _host(hostname: str) -> dict[str, str]:
    """What metrics call the service: of Kubernetes' hosts the first two words are its name and namespace."""
    name, _, rest = hostname.partition(".")
    namespace, _, domain = rest.partition(".")
    if not domain.startswith("svc."):
        return {"host": hostname, "name": hostname}
    return {"host": hostname, "name": name, "namespace": namespace}


@cache
def passthrough() -> Resource:
    """Destinations that nobody declares, as they are."""
    cluster = Cluster(
        name=PASSTHROUGH,
        type=Cluster.ORIGINAL_DST,
        lb_policy=Cluster.CLUSTER_PROVIDED,
        connect_timeout=seconds(CONNECT_SECONDS),
        circuit_breakers=traffic_policy.limits(TrafficPolicy()),
    )
    traffic_policy.speak_as_downstream(cluster)
    return Resource.of(cluster.name, cluster)


@cache
def inbound_passthrough(families: tuple[int, ...]) -> Resource:
    """The proxy's own workload, on ports that no service declares."""
    cluster = _to_own_workload(INBOUND_PASSTHROUGH, families)
    traffic_policy.speak_as_downstream(cluster)
    return Resource.of(cluster.name, cluster)


@cache
def black_hole() -> Resource:
    """No endpoints: whatever is sent there ends."""
    return Resource.of(
        BLACK_HOLE, Cluster(name=BLACK_HOLE, type=Cluster.STATIC, connect_timeout=seconds(CONNECT_SECONDS))
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
        upstream.judged_by_one_bundle,
    )


@while_used
def _balanced(facts: _Facts) -> Resource:
    cluster = _service_cluster(facts)
    traffic_policy.speak(cluster, facts.port.protocol, facts.policy.pool, through_gateways=facts.through_gateways)
    if facts.policy.origination:
        cluster.transport_socket.CopyFrom(_told(facts, _originating(facts, facts.policy.origination)))
        return Resource.of(cluster.name, cluster)
    client = _told(facts, _mutual(facts))
    mutual = cluster.transport_socket_matches.add(name="tlsMode-istio", transport_socket=client)
    mutual.match.fields["tlsMode"].string_value = "istio"
    if facts.policy.proxy_protocol:
        cluster.transport_socket.CopyFrom(_told(facts, tls.plain_socket()))
    # Otherwise endpoints that match nothing are spoken to in plaintext, which Envoy does unasked.
    return Resource.of(cluster.name, cluster)


def _found_by_dns(upstream: Upstream) -> Resource:
    """Host names, which Envoy resolves; each of their addresses takes its part, or connections go to the first that is answered."""
    cluster = Cluster.FromString(_balanced(_facts(upstream, upstream.name)).body)
    is_first = upstream.service.resolution is Resolution.DNS_FIRST
    cluster.type = Cluster.LOGICAL_DNS if is_first else Cluster.STRICT_DNS
    cluster.ClearField("eds_cluster_config")
    cluster.dns_lookup_family = Cluster.V4_ONLY
    cluster.respect_dns_ttl = True
    cluster.connect_timeout.CopyFrom(traffic_policy.connect_timeout(upstream.policy, CONNECT_SECONDS))
    cluster.load_assignment.ParseFromString(endpoints_of(upstream.groups, upstream.name).body)
    return Resource.of(cluster.name, cluster)


@while_used
def _looked_up(facts: _Facts) -> Resource:
    """Whatever host a request (or a TLS client) names, looked up when it does. The name that it shows has to be that one."""
    cluster = _service_cluster(facts)
    cluster.ClearField("type")
    for field in ("eds_cluster_config", "common_lb_config"):
        cluster.ClearField(field)
    cluster.lb_policy = Cluster.CLUSTER_PROVIDED
    cluster.ClearField("least_request_lb_config")
    cluster.cluster_type.name = "envoy.clusters.dynamic_forward_proxy"
    config = dynamic_forward_proxy_pb2.ClusterConfig(dns_cache_config=filters.dns_cache())
    cluster.cluster_type.typed_config.CopyFrom(packed(config))
    cluster.connect_timeout.CopyFrom(traffic_policy.connect_timeout(facts.policy, CONNECT_SECONDS))
    traffic_policy.speak_to_named_hosts(cluster, facts.port.protocol, facts.policy.pool)
    if facts.policy.origination:
        cluster.transport_socket.CopyFrom(tls.originating_socket(facts.policy.origination, "", (), facts.port.protocol))
    return Resource.of(cluster.name, cluster)


@while_used
def _passed_through(facts: _Facts) -> Resource:
    cluster = _service_cluster(facts)
    within = traffic_policy.connect_timeout(facts.policy, CONNECT_SECONDS_WITHIN_A_NETWORK)
    cluster.connect_timeout.CopyFrom(within)
    return Resource.of(cluster.name, cluster)


@while_used
def _original_destination(facts: _Facts, *, mutual_tls: bool) -> Resource:
    """A headless service: the application chose the endpoint, so TLS is for all of them or for none."""
    cluster = Cluster(
        name=facts.name,
        alt_stat_name=f"{facts.name};",
        type=Cluster.ORIGINAL_DST,
        lb_policy=Cluster.CLUSTER_PROVIDED,
        connect_timeout=traffic_policy.connect_timeout(facts.policy, CONNECT_SECONDS),
        circuit_breakers=traffic_policy.limits(facts.policy),
        metadata=_service_metadata(facts),
    )
    traffic_policy.speak(cluster, facts.port.protocol, facts.policy.pool, through_gateways=False)
    if facts.policy.origination:
        cluster.transport_socket.CopyFrom(_told(facts, _originating(facts, facts.policy.origination)))
    elif mutual_tls:
        cluster.transport_socket.CopyFrom(_told(facts, _mutual(facts)))
    elif facts.policy.proxy_protocol:
        cluster.transport_socket.CopyFrom(_told(facts, tls.plain_socket()))
    return Resource.of(cluster.name, cluster)


def _told(facts: _Facts, socket: base_pb2.TransportSocket) -> base_pb2.TransportSocket:
    """Behind the PROXY protocol, where a rule has the destination told who called."""
    version = facts.policy.proxy_protocol
    if not version:
        return socket
    config = proxy_protocol_pb2.ProxyProtocolConfig(version=1 if version == "V2" else 0)
    outer = upstream_proxy_protocol_pb2.ProxyProtocolUpstreamTransport(config=config, transport_socket=socket)
    return base_pb2.TransportSocket(name="envoy.transport_sockets.upstream_proxy_protocol", typed_config=packed(outer))


def _mutual(facts: _Facts) -> base_pb2.TransportSocket:
    bundle = tls.TRUST_BUNDLE if facts.one_bundle else tls.bundle_name(facts.identities)
    return tls.client_socket(facts.sni, facts.identities, facts.port.protocol, bundle=bundle)


def _originating(facts: _Facts, said: TlsOrigination) -> base_pb2.TransportSocket:
    """The name to ask for, and to be shown, is the service's own unless a rule says another."""
    sni = said.sni or facts.service.hostname
    names = said.names or facts.subject_names or (sni,)
    return tls.originating_socket(said, sni, names, facts.port.protocol)


def _service_cluster(facts: _Facts) -> Any:
    cluster = Cluster()
    cluster.CopyFrom(_nameless(facts.policy, locality_weighted=facts.locality_weighted))
    cluster.name = facts.name  # Its endpoints are asked for by the same.
    cluster.alt_stat_name = f"{facts.name};"
    cluster.metadata.CopyFrom(_service_metadata(facts))
    return cluster


@lru_cache(maxsize=256)
def _nameless(policy: TrafficPolicy, *, locality_weighted: bool) -> Any:
    """What all service ports under one policy have alike: to copy, not to change. Building it is most of a cluster's cost."""
    cluster = Cluster(
        type=Cluster.EDS,
        eds_cluster_config=Cluster.EdsClusterConfig(eds_config=from_ads()),
        connect_timeout=traffic_policy.connect_timeout(policy, CONNECT_SECONDS_AMONG_OTHERS),
        circuit_breakers=traffic_policy.limits(policy),
        outlier_detection=traffic_policy.outliers(policy.outliers),
        common_lb_config=Cluster.CommonLbConfig(
            locality_weighted_lb_config=Cluster.CommonLbConfig.LocalityWeightedLbConfig()
            if locality_weighted
            else None,
            healthy_panic_threshold=percent_pb2.Percent(value=traffic_policy.least_health(policy.outliers)),
            update_merge_window=seconds(0),
        ),
        upstream_connection_options=cluster_pb2.UpstreamConnectionOptions(
            tcp_keepalive=traffic_policy.keepalive(policy)
        ),
    )
    traffic_policy.balance(cluster, policy)
    return cluster


def _to_own_workload(name: str, families: tuple[int, ...]) -> Any:
    """From an address that capture leaves alone, whether or not the proxy may mark its sockets. Of two, Envoy takes the one of the called
    address's family.
    """
    source, *others = (
        address_pb2.SocketAddress(address=_LOOPBACK_SOURCES[family], port_value=0) for family in sorted(families)
    )
    return Cluster(
        name=name,
        alt_stat_name=f"{name};",
        type=Cluster.ORIGINAL_DST,
        lb_policy=Cluster.CLUSTER_PROVIDED,
        connect_timeout=seconds(CONNECT_SECONDS),
        circuit_breakers=traffic_policy.limits(TrafficPolicy()),
        upstream_bind_config=address_pb2.BindConfig(
            source_address=source,
            extra_source_addresses=[address_pb2.ExtraSourceAddress(address=other) for other in others],
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


def _service_metadata(facts: _Facts) -> base_pb2.Metadata:
    found = base_pb2.Metadata()
    said = found.filter_metadata["istio"].fields
    service = said["services"].list_value.values.add().struct_value.fields
    service["host"].string_value = facts.service.hostname
    service["name"].string_value = facts.service_name
    service["namespace"].string_value = facts.service.namespace
    # The same in one value, for metrics: an access log has no way into a list.
    whole = (facts.service.hostname, facts.service_name, facts.service.namespace)
    said["service"].string_value = ";".join(whole)
    said["default_original_port"].number_value = facts.port.number
    if facts.rule:
        said["config"].string_value = facts.rule.path
    return found
