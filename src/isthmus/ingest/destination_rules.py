"""DestinationRules become values. What this version does not do is an issue, field by field, and the rest of the rule counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from isthmus.api import networking as api
from isthmus.ingest import labels
from isthmus.model.durations import seconds_of
from isthmus.model.issues import Issue, Severity, Subject
from isthmus.model.names import ClusterId, Hostname, Namespace
from isthmus.model.traffic import (
    Balancing,
    ClientTls,
    ConnectionPool,
    ConsistentHash,
    DestinationRule,
    Keepalive,
    LocalityPreference,
    Nearness,
    OutlierDetection,
    RetryBudget,
    Subset,
    TlsOrigination,
    TrafficPolicy,
    Tunnel,
    Upgrade,
    Warmup,
    Wishes,
)

_BALANCING = {
    "LEAST_CONN": Balancing.LEAST_REQUEST,
    "LEAST_REQUEST": Balancing.LEAST_REQUEST,
    "ROUND_ROBIN": Balancing.ROUND_ROBIN,
    "RANDOM": Balancing.RANDOM,
    "PASSTHROUGH": Balancing.PASSTHROUGH,
}
_ORIGINATING = (ClientTls.SIMPLE, ClientTls.MUTUAL)
_MODES = f"use one of {', '.join(ClientTls)}; until then the default holds"


def destination_rule_of(
    obj: api.DestinationRule, cluster: ClusterId, dns_domain: str
) -> tuple[DestinationRule, tuple[Issue, ...]]:
    """With an issue for each field that has no effect."""
    spec = obj.spec
    subject = Subject(cluster, "DestinationRule", obj.metadata.namespace, obj.metadata.name)
    reader = _Reader(subject, chooses_callers=spec.workload_selector is not None)
    namespace = Namespace(obj.metadata.namespace)
    policy, ports = reader.policy(spec.traffic_policy, "spec.trafficPolicy")
    subsets = []
    for index, subset in enumerate(spec.subsets):
        own, own_ports = reader.policy(subset.traffic_policy, f"spec.subsets[{index}].trafficPolicy")
        chosen = tuple(sorted(subset.labels.items()))
        subsets.append(Subset(name=subset.name, labels=chosen, policy=own, port_policies=own_ports))
    rule = DestinationRule(
        created=obj.metadata.creation_timestamp,
        namespace=namespace,
        name=obj.metadata.name,
        host=full_name(spec.host, namespace, dns_domain),
        policy=policy,
        port_policies=ports,
        subsets=tuple(subsets),
        export_to=tuple(spec.export_to),
        wishes=wishes_of(obj.metadata.annotations),
        selector=tuple(sorted(spec.workload_selector.match_labels.items())) if spec.workload_selector else (),
    )
    return rule, tuple(reader.issues)


def wishes_of(annotations: Mapping[str, str]) -> Wishes:
    """Of a Service or a DestinationRule. What is neither true nor false, or no duration, says nothing."""
    said = {"true": True, "false": False}
    try:
        hedge_after = seconds_of(annotations[labels.HEDGE_AFTER])
    except (KeyError, ValueError):
        hedge_after = None
    return Wishes(
        said.get(annotations.get(labels.PREFER_LOCAL_CLUSTER, "").lower()),
        said.get(annotations.get(labels.LOCALITY_FAILOVER, "").lower()),
        hedge_after,
    )


def mesh_policy_of(said: api.TrafficPolicy) -> TrafficPolicy:
    """For every destination, from MeshConfig. Raises ValueError, with the field and what is wrong with it."""
    reader = _Reader(Subject(ClusterId(""), "ConfigMap", "", ""))
    policy, _ = reader.policy(said, "")
    for issue in reader.issues:
        raise ValueError(f"{issue.field.strip('.')}: {issue.what}")
    return policy


def pool_of(said: api.ConnectionPool, subject: Subject, field: str) -> tuple[ConnectionPool | None, tuple[Issue, ...]]:
    """Limits of connections, wherever they are said."""
    reader = _Reader(subject)
    return reader.pool(said, field), tuple(reader.issues)


def full_name(host: str, namespace: Namespace, dns_domain: str) -> Hostname:
    """A name without a dot is a Service of the object's own namespace."""
    if "." in host or host.startswith("*"):
        return Hostname(host.lower())
    return Hostname(f"{host}.{namespace}.svc.{dns_domain}".lower())


def locality_of(said: api.LocalitySetting) -> LocalityPreference:
    """Also MeshConfig's localityLbSetting."""
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


def _place(said: api.LoadBalancer) -> LocalityPreference | None:
    if said.zone_aware_lb_setting:
        return zone_aware_of(said.zone_aware_lb_setting)
    return locality_of(said.locality_lb_setting) if said.locality_lb_setting else None


def _origination(said: api.ClientTls, *, for_sidecars: bool) -> TlsOrigination:
    return TlsOrigination(
        mutual=said.mode == ClientTls.MUTUAL,
        sni=said.sni,
        names=tuple(said.subject_alt_names),
        ca_certificates=said.ca_certificates,
        certificate=said.client_certificate,
        private_key=said.private_key,
        verify=not said.insecure_skip_verify,
        revocations=said.ca_crl,
        credential=said.credential_name,
        for_sidecars=for_sidecars,
    )


def _budget(said: api.RetryBudget) -> RetryBudget:
    """Envoy's defaults, which are Istio's, where one of them is not said."""
    percent, least = said.percent, said.min_retry_concurrency
    return RetryBudget(20.0 if percent is None else percent, 3 if least is None else least)


class _Reader:
    """One rule's policies, and what was not understood in them."""

    def __init__(self, subject: Subject, *, chooses_callers: bool = False) -> None:
        self._subject = subject
        self._chooses_callers = chooses_callers
        self.issues: list[Issue] = []

    def policy(
        self, said: api.TrafficPolicy | None, field: str
    ) -> tuple[TrafficPolicy, tuple[tuple[int, TrafficPolicy], ...]]:
        """The policy, and those for single ports."""
        if said is None:
            return TrafficPolicy(), ()
        return self._one(said, field), tuple(self._ports(said, field))

    def not_done(self, field: str, what: str) -> None:
        self._tell(Severity.WARNING, field, what, "leave it out, or know that it has no effect")

    def _ports(self, said: api.TrafficPolicy, field: str) -> Iterator[tuple[int, TrafficPolicy]]:
        for index, raw in enumerate(said.port_level_settings):
            where = f"{field}.portLevelSettings[{index}]"
            try:
                settings = msgspec.convert(raw, type=api.TrafficPolicy)
            except msgspec.ValidationError as error:
                self._tell(Severity.ERROR, where, f"cannot be read: {error}", "correct it; until then it has no effect")
                continue
            if settings.port is not None:
                yield settings.port.number, self._one(settings, where)

    def _one(self, said: api.TrafficPolicy, field: str) -> TrafficPolicy:
        hashed = said.load_balancer.consistent_hash if said.load_balancer else None
        return TrafficPolicy(
            hash=self._hash(hashed, f"{field}.loadBalancer.consistentHash") if hashed else None,
            origination=_origination(said.tls, for_sidecars=self._chooses_callers)
            if said.tls and said.tls.mode in _ORIGINATING
            else None,
            balancing=self._balancing(said.load_balancer, f"{field}.loadBalancer"),
            pool=self.pool(said.connection_pool, f"{field}.connectionPool"),
            outliers=self._outliers(said.outlier_detection, f"{field}.outlierDetection"),
            tls=self._tls(said.tls, f"{field}.tls"),
            locality=_place(said.load_balancer) if said.load_balancer else None,
            warmup=self._warmup(said.load_balancer, f"{field}.loadBalancer") if said.load_balancer else None,
            tunnel=self._tunnel(said.tunnel, f"{field}.tunnel") if said.tunnel else None,
            proxy_protocol=said.proxy_protocol.version if said.proxy_protocol else "",
            retry_budget=_budget(said.retry_budget) if said.retry_budget else None,
        )

    def _balancing(self, said: api.LoadBalancer | None, field: str) -> Balancing | None:
        if said is None:
            return None
        if said.simple and said.simple not in _BALANCING and said.simple != "UNSPECIFIED":
            self.not_done(f"{field}.simple", f"{said.simple} is not done by this version")
        return _BALANCING.get(said.simple)

    def _hash(self, said: api.ConsistentHash, field: str) -> ConsistentHash:
        cookie = said.http_cookie or api.HashCookie()
        ring = said.ring_hash.minimum_ring_size if said.ring_hash else said.minimum_ring_size
        return ConsistentHash(
            header=said.http_header_name.lower(),
            cookie=cookie.name,
            cookie_path=cookie.path,
            cookie_seconds=self._seconds(cookie.ttl, f"{field}.httpCookie.ttl"),
            query_parameter=said.http_query_parameter_name,
            source_ip=said.use_source_ip,
            maglev=said.maglev is not None,
            size=said.maglev.table_size if said.maglev else ring,
        )

    def pool(self, said: api.ConnectionPool | None, field: str) -> ConnectionPool | None:
        if said is None:
            return None
        tcp, http = said.tcp, said.http
        keepalive = tcp.tcp_keepalive
        return ConnectionPool(
            max_connections=tcp.max_connections,
            connect_seconds=self._seconds(tcp.connect_timeout, f"{field}.tcp.connectTimeout"),
            max_pending_requests=http.http1_max_pending_requests,
            max_requests=http.http2_max_requests,
            max_requests_per_connection=http.max_requests_per_connection,
            max_retries=http.max_retries,
            keepalive=self._keepalive(keepalive, f"{field}.tcp.tcpKeepalive") if keepalive else None,
            max_connection_seconds=self._seconds(tcp.max_connection_duration, f"{field}.tcp.maxConnectionDuration"),
            idle_seconds=self._seconds(http.idle_timeout, f"{field}.http.idleTimeout"),
            tcp_idle_seconds=self._seconds(tcp.idle_timeout, f"{field}.tcp.idleTimeout"),
            upgrade=self._upgrade(http, f"{field}.http.h2UpgradePolicy"),
            max_concurrent_streams=http.max_concurrent_streams,
        )

    def _keepalive(self, said: api.TcpKeepalive, field: str) -> Keepalive:
        return Keepalive(
            said.probes, self._seconds(said.time, f"{field}.time"), self._seconds(said.interval, f"{field}.interval")
        )

    def _upgrade(self, said: api.HttpPool, field: str) -> Upgrade | None:
        if said.use_client_protocol:
            return Upgrade.AS_CALLED
        if said.h2_upgrade_policy in ("", "DEFAULT"):
            return None
        if said.h2_upgrade_policy not in (Upgrade.YES, Upgrade.NO):
            self._tell(Severity.ERROR, field, f"there is no {said.h2_upgrade_policy}", "use UPGRADE or DO_NOT_UPGRADE")
            return None
        return Upgrade(said.h2_upgrade_policy)

    def _outliers(self, said: api.OutlierDetection | None, field: str) -> OutlierDetection | None:
        if said is None:
            return None
        gateway = said.consecutive_gateway_errors
        return OutlierDetection(
            split=said.split_external_local_origin_errors,
            consecutive_local_failures=said.consecutive_local_origin_failures,
            consecutive_errors=said.consecutive5xx_errors,
            # An older Istio's name for errors of gateways.
            consecutive_gateway_errors=said.consecutive_errors if gateway is None else gateway,
            interval_seconds=self._seconds(said.interval, f"{field}.interval"),
            base_ejection_seconds=self._seconds(said.base_ejection_time, f"{field}.baseEjectionTime"),
            max_ejection_percent=said.max_ejection_percent,
            min_health_percent=said.min_health_percent,
        )

    def _warmup(self, said: api.LoadBalancer, field: str) -> Warmup | None:
        if said.warmup:
            seconds = self._seconds(said.warmup.duration, f"{field}.warmup.duration")
            return Warmup(seconds, said.warmup.minimum_percent, said.warmup.aggression) if seconds else None
        seconds = self._seconds(said.warmup_duration_secs, f"{field}.warmupDurationSecs")
        return Warmup(seconds) if seconds else None

    def _tunnel(self, said: api.Tunnel, field: str) -> Tunnel | None:
        if said.protocol not in ("", "CONNECT", "POST") or not said.target_host or not said.target_port:
            fix = "give it a protocol of CONNECT or POST, a targetHost and a targetPort; until then there is no tunnel"
            self._tell(Severity.ERROR, field, "cannot be done", fix)
            return None
        host = f"[{said.target_host}]" if ":" in said.target_host else said.target_host
        return Tunnel(f"{host}:{said.target_port}", by_post=said.protocol == "POST")

    def _tls(self, said: api.ClientTls | None, field: str) -> ClientTls | None:
        if said is None or not said.mode:
            return None
        if said.mode not in ClientTls.__members__:
            self._tell(Severity.ERROR, f"{field}.mode", f"there is no mode {said.mode}", _MODES)
            return None
        if said.credential_name and not self._chooses_callers:
            self._tell(
                Severity.INFO,
                f"{field}.credentialName",
                "gateways alone are given the Secret: sidecars are where the rule has a workloadSelector",
                "give the rule a workloadSelector, or certificates in files, if sidecars are to use it",
            )
        return ClientTls(said.mode)

    def _seconds(self, text: str, field: str) -> float | None:
        try:
            return seconds_of(text) if text else None
        except ValueError as error:
            self._tell(Severity.ERROR, field, str(error), "correct it; until then the default holds")
            return None

    def _tell(self, severity: Severity, field: str, what: str, fix: str) -> None:
        issue = Issue(subject=self._subject, code="ISM0401", severity=severity, what=what, fix=fix, field=field)
        self.issues.append(issue)
