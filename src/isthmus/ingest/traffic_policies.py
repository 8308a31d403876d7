"""Traffic policies become values, wherever they are said: in DestinationRules, Sidecars and MeshConfig."""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import isqrt

import msgspec

from isthmus.api import networking as api
from isthmus.api.registry import why_not
from isthmus.ingest.checked import Checked
from isthmus.model.issues import Issue, Severity, Subject
from isthmus.model.names import ClusterId
from isthmus.model.traffic import (
    Balancing,
    ClientTls,
    ConnectionPool,
    ConsistentHash,
    Keepalive,
    LocalityPreference,
    Nearness,
    OutlierDetection,
    Pings,
    RetryBudget,
    TlsOrigination,
    TrafficPolicy,
    Tunnel,
    Upgrade,
    Warmup,
)

_BALANCING = {
    "LEAST_CONN": Balancing.LEAST_REQUEST,
    "LEAST_REQUEST": Balancing.LEAST_REQUEST,
    "ROUND_ROBIN": Balancing.ROUND_ROBIN,
    "RANDOM": Balancing.RANDOM,
    "PASSTHROUGH": Balancing.PASSTHROUGH,
}
_STREAMS_MAX = 2**31 - 1
_RING_SIZE_MAX = 2**23
_TABLE_SIZE_MAX = 5_000_011
"""What Envoy takes."""
_AGGRESSION_MAX = 1000.0
_SHARE_MAX = 10_000
_SNI_MAX = 255
_PING_SECONDS = 20.0
"""How long an answer is waited for where nobody says."""
_TOKEN = re.compile(r":?[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
_COOKIE_VALUE = re.compile(r"[^\x00-\x1f\x7f;]{0,4096}")
_SYSTEM = "system"
"""In place of a file of authorities: those of the proxy's system."""
_TUNNEL_END = re.compile(r"[A-Za-z0-9._:-]{1,253}")
_ORIGINATING = (ClientTls.SIMPLE, ClientTls.MUTUAL)
_MODES = f"use one of {', '.join(ClientTls)}; until then the default holds"


def mesh_policy_of(said: api.TrafficPolicy) -> TrafficPolicy:
    """For every destination, from MeshConfig. Raises ValueError, with the field and what is wrong with it."""
    reader = PolicyReader(Subject(ClusterId(""), "ConfigMap", "", ""))
    policy, _ = reader.policy(said, "")
    for issue in reader.issues:
        raise ValueError(f"{issue.field.strip('.')}: {issue.what}")
    return policy


def pool_of(said: api.ConnectionPool, subject: Subject, field: str) -> tuple[ConnectionPool | None, tuple[Issue, ...]]:
    """Limits of connections, wherever they are said."""
    reader = PolicyReader(subject)
    return reader.pool(said, field), tuple(reader.issues)


def locality_of(said: api.LocalitySetting) -> LocalityPreference:
    """Also MeshConfig's localityLbSetting. Raises ValueError for a share that is none."""
    for entry in said.distribute:
        for place, share in entry.to.items():
            if not 0 <= share <= _SHARE_MAX:
                raise ValueError(f"the share of {place}, {share:.10g}, is not between 0 and {_SHARE_MAX}")
    return LocalityPreference(
        enabled=said.enabled,
        distribute=tuple((entry.from_, tuple(sorted(entry.to.items()))) for entry in said.distribute),
        failover=tuple((entry.from_, entry.to) for entry in said.failover),
        failover_priority=tuple(said.failover_priority),
    )


def zone_aware_of(said: api.ZoneAwareSetting) -> LocalityPreference:
    """The caller's region comes first; its zones are alike, because no proxy knows how many callers each zone has."""
    return LocalityPreference(
        enabled=said.enabled,
        failover=tuple((entry.from_, entry.to) for entry in said.failover),
        failover_priority=tuple(said.failover_priority),
        nearness=Nearness.REGION,
    )


class PolicyReader:
    """One rule's policies, and what was not understood in them."""

    def __init__(self, subject: Subject, *, chooses_callers: bool = False) -> None:
        self._said = Checked(subject, "ISM0401")
        self._chooses_callers = chooses_callers
        self.issues = self._said.issues

    def policy(
        self, said: api.TrafficPolicy | None, field: str
    ) -> tuple[TrafficPolicy, tuple[tuple[int, TrafficPolicy], ...]]:
        """The policy, and those for single ports."""
        if said is None:
            return TrafficPolicy(), ()
        return self._one(said, field), tuple(self._ports(said, field))

    def not_done(self, field: str, what: str) -> None:
        self._said.tell(Severity.WARNING, field, what, "leave it out, or know that it has no effect")

    def _ports(self, said: api.TrafficPolicy, field: str) -> Iterator[tuple[int, TrafficPolicy]]:
        for index, raw in enumerate(said.port_level_settings):
            where = f"{field}.portLevelSettings[{index}]"
            try:
                settings = msgspec.convert(raw, type=api.TrafficPolicy)
            except msgspec.ValidationError as error:
                self._said.tell(
                    Severity.ERROR,
                    where,
                    f"cannot be read: {why_not(error)}",
                    "correct it; until then it has no effect",
                )
                continue
            if settings.port is None or not settings.port.number:
                self.not_done(where, "it names no port")
            else:
                yield settings.port.number, self._one(settings, where)

    def _one(self, said: api.TrafficPolicy, field: str) -> TrafficPolicy:
        hashed = said.load_balancer.consistent_hash if said.load_balancer else None
        return TrafficPolicy(
            hash=self._hash(hashed, f"{field}.loadBalancer.consistentHash") if hashed else None,
            origination=self._origination(said.tls, f"{field}.tls")
            if said.tls and said.tls.mode in _ORIGINATING
            else None,
            balancing=self._balancing(said.load_balancer, f"{field}.loadBalancer"),
            pool=self.pool(said.connection_pool, f"{field}.connectionPool"),
            outliers=self._outliers(said.outlier_detection, f"{field}.outlierDetection"),
            tls=self._tls(said.tls, f"{field}.tls"),
            locality=self._place(said.load_balancer, f"{field}.loadBalancer") if said.load_balancer else None,
            warmup=self._warmup(said.load_balancer, f"{field}.loadBalancer") if said.load_balancer else None,
            tunnel=self._tunnel(said.tunnel, f"{field}.tunnel") if said.tunnel else None,
            proxy_protocol=self._version(said.proxy_protocol, f"{field}.proxyProtocol") if said.proxy_protocol else "",
            retry_budget=self._budget(said.retry_budget, f"{field}.retryBudget") if said.retry_budget else None,
        )

    def _origination(self, said: api.ClientTls, field: str) -> TlsOrigination:
        sni = said.sni
        if len(sni.encode()) > _SNI_MAX:
            self._said.wrong(f"{field}.sni", f"{len(sni)} characters are more than {_SNI_MAX}")
            sni = ""
        return TlsOrigination(
            mutual=said.mode == ClientTls.MUTUAL,
            sni=sni,
            names=tuple(said.subject_alt_names),
            ca_certificates="" if said.ca_certificates == _SYSTEM else said.ca_certificates,
            certificate=said.client_certificate,
            private_key=said.private_key,
            verify=not said.insecure_skip_verify,
            revocations=said.ca_crl,
            credential=said.credential_name,
            for_sidecars=self._chooses_callers,
        )

    def _place(self, said: api.LoadBalancer, field: str) -> LocalityPreference | None:
        zones = said.zone_aware_lb_setting
        if zones:
            for name, what in (
                ("minClusterSize", zones.min_cluster_size),
                ("routingEnabled", zones.routing_enabled),
                ("failTrafficOnPanic", zones.fail_traffic_on_panic),
                ("forceLocalZone", zones.force_local_zone),
            ):
                if what:
                    self.not_done(f"{field}.zoneAwareLbSetting.{name}", "the zones of a region are alike here")
            return zone_aware_of(zones)
        try:
            return locality_of(said.locality_lb_setting) if said.locality_lb_setting else None
        except ValueError as error:
            self._said.wrong(f"{field}.localityLbSetting", str(error))
            return None

    def _version(self, said: api.ProxyProtocol, field: str) -> str:
        if said.version not in ("V1", "V2"):
            self._said.tell(Severity.ERROR, f"{field}.version", f"there is no {said.version}", "use V1 or V2")
            return ""
        return said.version

    def _budget(self, said: api.RetryBudget, field: str) -> RetryBudget:
        """Envoy's defaults, which are Istio's, where one of them is not said."""
        percent = self._said.number(said.percent, f"{field}.percent", 0, 100)
        least = self._said.whole(said.min_retry_concurrency, f"{field}.minRetryConcurrency")
        return RetryBudget(20.0 if percent is None else percent, 3 if least is None else least)

    def _balancing(self, said: api.LoadBalancer | None, field: str) -> Balancing | None:
        if said is None:
            return None
        if said.simple and said.simple not in _BALANCING and said.simple != "UNSPECIFIED":
            self.not_done(f"{field}.simple", f"{said.simple} is not done by this version")
        return _BALANCING.get(said.simple)

    def _hash(self, said: api.ConsistentHash, field: str) -> ConsistentHash:
        cookie = said.http_cookie or api.HashCookie()
        return ConsistentHash(
            header=self._token(said.http_header_name.lower(), f"{field}.httpHeaderName"),
            cookie=self._token(cookie.name, f"{field}.httpCookie.name"),
            cookie_path=self._of_cookie(cookie.path, f"{field}.httpCookie.path"),
            cookie_seconds=self._said.seconds(cookie.ttl, f"{field}.httpCookie.ttl"),
            cookie_attributes=tuple(self._attributes(cookie.attributes, f"{field}.httpCookie.attributes")),
            query_parameter=said.http_query_parameter_name,
            source_ip=said.use_source_ip,
            maglev=said.maglev is not None,
            size=self._table_size(said.maglev, f"{field}.maglev.tableSize")
            if said.maglev
            else self._ring_size(said, field),
        )

    def _token(self, said: str, field: str) -> str:
        if said and not _TOKEN.fullmatch(said):
            self._said.wrong(field, f"{said!r} cannot be the name of a header or a cookie")
            return ""
        return said

    def _of_cookie(self, said: str, field: str) -> str:
        if not _COOKIE_VALUE.fullmatch(said):
            self._said.wrong(field, f"{said!r} cannot be part of a cookie")
            return ""
        return said

    def _attributes(self, said: list[api.CookieAttribute], field: str) -> Iterator[tuple[str, str]]:
        for index, each in enumerate(said):
            name = self._token(each.name, f"{field}[{index}].name")
            if name:
                yield name, self._of_cookie(each.value, f"{field}[{index}].value")

    def _table_size(self, said: api.Maglev, field: str) -> int | None:
        size = self._said.whole(said.table_size or None, field, 2, _TABLE_SIZE_MAX)
        if size is not None and any(size % each == 0 for each in range(2, isqrt(size) + 1)):
            self._said.wrong(field, f"{size} is not a prime number")
            return None
        return size

    def _ring_size(self, said: api.ConsistentHash, field: str) -> int | None:
        if said.ring_hash:
            return self._said.whole(
                said.ring_hash.minimum_ring_size, f"{field}.ringHash.minimumRingSize", 0, _RING_SIZE_MAX
            )
        return self._said.whole(said.minimum_ring_size, f"{field}.minimumRingSize", 0, _RING_SIZE_MAX)

    def pool(self, said: api.ConnectionPool | None, field: str) -> ConnectionPool | None:
        if said is None:
            return None
        tcp, http, checked = said.tcp, said.http, self._said
        of_tcp, of_http = f"{field}.tcp", f"{field}.http"
        return ConnectionPool(
            max_connections=checked.whole(tcp.max_connections, f"{of_tcp}.maxConnections"),
            connect_seconds=checked.some_seconds(tcp.connect_timeout, f"{of_tcp}.connectTimeout"),
            max_pending_requests=checked.whole(http.http1_max_pending_requests, f"{of_http}.http1MaxPendingRequests"),
            max_requests=checked.whole(http.http2_max_requests, f"{of_http}.http2MaxRequests"),
            max_requests_per_connection=checked.whole(
                http.max_requests_per_connection, f"{of_http}.maxRequestsPerConnection"
            ),
            max_retries=checked.whole(http.max_retries, f"{of_http}.maxRetries"),
            keepalive=self._keepalive(tcp.tcp_keepalive, f"{of_tcp}.tcpKeepalive") if tcp.tcp_keepalive else None,
            max_connection_seconds=checked.some_seconds(tcp.max_connection_duration, f"{of_tcp}.maxConnectionDuration"),
            idle_seconds=checked.seconds(http.idle_timeout, f"{of_http}.idleTimeout"),
            tcp_idle_seconds=checked.seconds(tcp.idle_timeout, f"{of_tcp}.idleTimeout"),
            upgrade=self._upgrade(http, f"{of_http}.h2UpgradePolicy"),
            max_concurrent_streams=checked.whole(
                http.max_concurrent_streams or None, f"{of_http}.maxConcurrentStreams", 1, _STREAMS_MAX
            ),
            pings=self._pings(http.http2_keep_alive, f"{of_http}.http2KeepAlive") if http.http2_keep_alive else None,
        )

    def _keepalive(self, said: api.TcpKeepalive, field: str) -> Keepalive:
        return Keepalive(
            self._said.whole(said.probes, f"{field}.probes"),
            self._said.seconds(said.time, f"{field}.time"),
            self._said.seconds(said.interval, f"{field}.interval"),
        )

    def _pings(self, said: api.Http2Keepalive, field: str) -> Pings | None:
        """Envoy pings with an interval alone, and wants to know how long to wait for the answer."""
        interval = self._said.some_seconds(said.interval, f"{field}.interval")
        timeout = self._said.some_seconds(said.timeout, f"{field}.timeout")
        if interval is None:
            self.not_done(field, "without an interval nothing is sent")
            return None
        return Pings(interval, timeout or min(interval, _PING_SECONDS))

    def _upgrade(self, said: api.HttpPool, field: str) -> Upgrade | None:
        if said.use_client_protocol:
            return Upgrade.AS_CALLED
        if said.h2_upgrade_policy in ("", "DEFAULT"):
            return None
        if said.h2_upgrade_policy not in (Upgrade.YES, Upgrade.NO):
            self._said.tell(
                Severity.ERROR, field, f"there is no {said.h2_upgrade_policy}", "use UPGRADE or DO_NOT_UPGRADE"
            )
            return None
        return Upgrade(said.h2_upgrade_policy)

    def _outliers(self, said: api.OutlierDetection | None, field: str) -> OutlierDetection | None:
        if said is None:
            return None
        checked = self._said
        gateway = checked.whole(said.consecutive_gateway_errors, f"{field}.consecutiveGatewayErrors")
        older = checked.whole(said.consecutive_errors, f"{field}.consecutiveErrors")
        return OutlierDetection(
            split=said.split_external_local_origin_errors,
            consecutive_local_failures=checked.whole(
                said.consecutive_local_origin_failures, f"{field}.consecutiveLocalOriginFailures"
            ),
            consecutive_errors=checked.whole(said.consecutive5xx_errors, f"{field}.consecutive5xxErrors"),
            # An older Istio's name for errors of gateways.
            consecutive_gateway_errors=older if gateway is None else gateway,
            interval_seconds=checked.some_seconds(said.interval, f"{field}.interval"),
            base_ejection_seconds=checked.some_seconds(said.base_ejection_time, f"{field}.baseEjectionTime"),
            max_ejection_percent=checked.whole(said.max_ejection_percent, f"{field}.maxEjectionPercent", 0, 100),
            min_health_percent=checked.whole(said.min_health_percent, f"{field}.minHealthPercent", 0, 100),
        )

    def _warmup(self, said: api.LoadBalancer, field: str) -> Warmup | None:
        checked = self._said
        if said.warmup:
            seconds = checked.some_seconds(said.warmup.duration, f"{field}.warmup.duration")
            percent = checked.number(said.warmup.minimum_percent, f"{field}.warmup.minimumPercent", 0, 100)
            aggression = checked.number(said.warmup.aggression, f"{field}.warmup.aggression", 1, _AGGRESSION_MAX)
            return Warmup(seconds, percent, aggression) if seconds else None
        seconds = checked.some_seconds(said.warmup_duration_secs, f"{field}.warmupDurationSecs")
        return Warmup(seconds) if seconds else None

    def _tunnel(self, said: api.Tunnel, field: str) -> Tunnel | None:
        is_known = said.protocol in ("", "CONNECT", "POST")
        if not is_known or not _TUNNEL_END.fullmatch(said.target_host) or not 0 < said.target_port < 65536:
            fix = "give it a protocol of CONNECT or POST, a targetHost and a targetPort; until then there is no tunnel"
            self._said.tell(Severity.ERROR, field, "cannot be done", fix)
            return None
        host = f"[{said.target_host}]" if ":" in said.target_host else said.target_host
        return Tunnel(f"{host}:{said.target_port}", by_post=said.protocol == "POST")

    def _tls(self, said: api.ClientTls | None, field: str) -> ClientTls | None:
        if said is None or not said.mode:
            return None
        if said.mode not in ClientTls.__members__:
            self._said.tell(Severity.ERROR, f"{field}.mode", f"there is no mode {said.mode}", _MODES)
            return None
        if said.credential_name and not self._chooses_callers:
            self._said.tell(
                Severity.INFO,
                f"{field}.credentialName",
                "gateways alone are given the Secret: sidecars are where the rule has a workloadSelector",
                "give the rule a workloadSelector, or certificates in files, if sidecars are to use it",
            )
        return ClientTls(said.mode)
