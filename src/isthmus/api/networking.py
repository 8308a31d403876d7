"""Istio's networking.istio.io objects about destinations, as far as the mesh reads them."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from isthmus.api.gateway import GatewayTls
from isthmus.api.meta import KubernetesObject, PortNumber, Wire


class ClientTls(Wire, frozen=True):
    mode: str = ""
    client_certificate: str = ""
    private_key: str = ""
    ca_certificates: str = ""
    credential_name: str = ""
    subject_alt_names: list[str] = []
    sni: str = ""
    insecure_skip_verify: bool | None = None
    ca_crl: str = ""


class Distribute(Wire, frozen=True):
    # The words are Python's, too.
    from_: str = msgspec.field(default="", name="from")
    to: dict[str, int] = {}


class Failover(Wire, frozen=True):
    from_: str = msgspec.field(default="", name="from")
    to: str = ""


class LocalitySetting(Wire, frozen=True):
    enabled: bool = True
    distribute: list[Distribute] = []
    failover: list[Failover] = []
    failover_priority: list[str] = []


class CookieAttribute(Wire, frozen=True):
    name: str = ""
    value: str = ""


class HashCookie(Wire, frozen=True):
    name: str = ""
    path: str = ""
    ttl: str = ""
    attributes: list[CookieAttribute] = []


class RingHash(Wire, frozen=True):
    minimum_ring_size: int | None = None


class Maglev(Wire, frozen=True):
    table_size: int | None = None


class ConsistentHash(Wire, frozen=True):
    http_header_name: str = ""
    http_cookie: HashCookie | None = None
    use_source_ip: bool = False
    http_query_parameter_name: str = ""
    ring_hash: RingHash | None = None
    maglev: Maglev | None = None
    minimum_ring_size: int | None = None


class ZoneAwareSetting(Wire, frozen=True):
    enabled: bool = True
    min_cluster_size: Any = None
    routing_enabled: Any = None
    force_local_zone: Any = None
    fail_traffic_on_panic: bool = False
    failover: list[Failover] = []
    failover_priority: list[str] = []


class Warmup(Wire, frozen=True):
    duration: str = ""
    minimum_percent: float | None = None
    aggression: float | None = None


class LoadBalancer(Wire, frozen=True):
    simple: str = ""
    consistent_hash: ConsistentHash | None = None
    locality_lb_setting: LocalitySetting | None = None
    zone_aware_lb_setting: ZoneAwareSetting | None = None
    warmup_duration_secs: str = ""
    warmup: Warmup | None = None


class TcpKeepalive(Wire, frozen=True):
    probes: int | None = None
    time: str = ""
    interval: str = ""


class TcpPool(Wire, frozen=True):
    max_connections: int | None = None
    connect_timeout: str = ""
    tcp_keepalive: TcpKeepalive | None = None
    max_connection_duration: str = ""
    idle_timeout: str = ""


class Http2Keepalive(Wire, frozen=True):
    interval: str = ""
    timeout: str = ""


class HttpPool(Wire, frozen=True):
    http1_max_pending_requests: int | None = msgspec.field(default=None, name="http1MaxPendingRequests")
    http2_max_requests: int | None = msgspec.field(default=None, name="http2MaxRequests")
    max_requests_per_connection: int | None = None
    max_retries: int | None = None
    idle_timeout: str = ""
    h2_upgrade_policy: str = msgspec.field(default="", name="h2UpgradePolicy")
    use_client_protocol: bool = False
    max_concurrent_streams: int | None = None
    http2_keep_alive: Http2Keepalive | None = msgspec.field(default=None, name="http2KeepAlive")


class ConnectionPool(Wire, frozen=True):
    tcp: TcpPool = msgspec.field(default_factory=TcpPool)
    http: HttpPool = msgspec.field(default_factory=HttpPool)


class OutlierDetection(Wire, frozen=True):
    consecutive_errors: int | None = None
    split_external_local_origin_errors: bool = False
    consecutive_local_origin_failures: int | None = None
    consecutive5xx_errors: int | None = msgspec.field(default=None, name="consecutive5xxErrors")
    consecutive_gateway_errors: int | None = None
    interval: str = ""
    base_ejection_time: str = ""
    max_ejection_percent: int | None = None
    min_health_percent: int | None = None


class PortSelector(Wire, frozen=True):
    number: int = 0


class Tunnel(Wire, frozen=True):
    protocol: str = ""
    target_host: str = ""
    target_port: int = 0


class ProxyProtocol(Wire, frozen=True):
    version: str = "V1"


class RetryBudget(Wire, frozen=True):
    percent: float | None = None
    min_retry_concurrency: int | None = None


class TrafficPolicy(Wire, frozen=True):
    load_balancer: LoadBalancer | None = None
    connection_pool: ConnectionPool | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ClientTls | None = None
    tunnel: Tunnel | None = None
    proxy_protocol: ProxyProtocol | None = None
    retry_budget: RetryBudget | None = None
    port: PortSelector | None = None
    port_level_settings: list[dict[str, Any]] = []


class Subset(Wire, frozen=True):
    name: str
    labels: dict[str, str] = {}
    traffic_policy: TrafficPolicy | None = None


class CallerSelector(Wire, frozen=True):
    match_labels: dict[str, str] = {}


class DestinationRuleSpec(Wire, frozen=True):
    host: str = ""
    traffic_policy: TrafficPolicy | None = None
    subsets: list[Subset] = []
    export_to: list[str] = []
    workload_selector: CallerSelector | None = None


class DestinationRule(KubernetesObject, frozen=True):
    spec: DestinationRuleSpec = msgspec.field(default_factory=DestinationRuleSpec)


class SidecarPort(Wire, frozen=True):
    number: PortNumber
    name: str = ""
    protocol: str = ""


class EgressPort(SidecarPort, frozen=True):
    """Number 0 is that of a Unix domain socket."""

    number: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 0


class EgressListener(Wire, frozen=True):
    hosts: list[str] = []
    port: EgressPort | None = None
    bind: str = ""
    capture_mode: str = ""


class IngressListener(Wire, frozen=True):
    port: SidecarPort
    bind: str = ""
    capture_mode: str = ""
    default_endpoint: str = ""
    tls: GatewayTls | None = None
    connection_pool: ConnectionPool | None = None


class ProxyPort(Wire, frozen=True):
    number: PortNumber


class EgressProxy(Wire, frozen=True):
    host: str = ""
    port: ProxyPort | None = None
    subset: str = ""


class OutboundTrafficPolicy(Wire, frozen=True):
    mode: str = ""
    egress_proxy: EgressProxy | None = None


class WorkloadSelector(Wire, frozen=True):
    labels: dict[str, str] = {}


class SidecarSpec(Wire, frozen=True):
    workload_selector: WorkloadSelector | None = None
    egress: list[EgressListener] = []
    ingress: list[IngressListener] = []
    outbound_traffic_policy: OutboundTrafficPolicy | None = None
    inbound_connection_pool: ConnectionPool | None = None


class Sidecar(KubernetesObject, frozen=True):
    spec: SidecarSpec = msgspec.field(default_factory=SidecarSpec)


class ServiceEntryPort(Wire, frozen=True):
    number: PortNumber
    name: str = ""
    protocol: str = ""
    target_port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 0


class WorkloadEntrySpec(Wire, frozen=True):
    address: str = ""
    ports: dict[str, PortNumber] = {}
    labels: dict[str, str] = {}
    network: str = ""
    locality: str = ""
    weight: Annotated[int, msgspec.Meta(ge=0, lt=2**32)] = 0
    service_account: str = ""


class Condition(Wire, frozen=True):
    type: str = ""
    status: str = ""
    reason: str = ""
    message: str = ""
    last_probe_time: str | None = None
    last_transition_time: str | None = None


class WorkloadEntryStatus(Wire, frozen=True):
    conditions: list[Condition] = []


class WorkloadEntry(KubernetesObject, frozen=True):
    spec: WorkloadEntrySpec = msgspec.field(default_factory=WorkloadEntrySpec)
    status: WorkloadEntryStatus = msgspec.field(default_factory=WorkloadEntryStatus)


class GroupMetadata(Wire, frozen=True):
    """What the entries of a group's machines are to have, too."""

    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class WorkloadGroupSpec(Wire, frozen=True):
    """`probe` is read by the agents of the machines, out of their kits."""

    metadata: GroupMetadata = msgspec.field(default_factory=GroupMetadata)
    template: WorkloadEntrySpec = msgspec.field(default_factory=WorkloadEntrySpec)
    probe: dict[str, Any] = {}


class WorkloadGroup(KubernetesObject, frozen=True):
    spec: WorkloadGroupSpec = msgspec.field(default_factory=WorkloadGroupSpec)


class ServiceEntrySpec(Wire, frozen=True):
    hosts: list[str] = []
    addresses: list[str] = []
    ports: list[ServiceEntryPort] = []
    location: str = "MESH_EXTERNAL"
    resolution: str = "NONE"
    endpoints: list[WorkloadEntrySpec] = []
    workload_selector: WorkloadSelector | None = None
    subject_alt_names: list[str] = []
    export_to: list[str] = []


class ServiceEntry(KubernetesObject, frozen=True):
    spec: ServiceEntrySpec = msgspec.field(default_factory=ServiceEntrySpec)
    status: dict[str, Any] = {}
