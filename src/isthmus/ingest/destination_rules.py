"""DestinationRules become values. What this version does not do is an issue, field by field, and the rest of the rule counts."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from isthmus.api import networking as api
from isthmus.ingest.durations import seconds_of
from isthmus.model.issues import Issue, Severity, Subject
from isthmus.model.names import ClusterId, Hostname, Namespace
from isthmus.model.traffic import (
    Balancing,
    ClientTls,
    ConnectionPool,
    ConsistentHash,
    DestinationRule,
    LocalityPreference,
    OutlierDetection,
    Subset,
    TlsOrigination,
    TrafficPolicy,
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
    reader = _Reader(obj, cluster)
    spec = obj.spec
    namespace = Namespace(obj.metadata.namespace)
    policy, ports = reader.policy(spec.traffic_policy, "spec.trafficPolicy")
    subsets = []
    for index, subset in enumerate(spec.subsets):
        own, own_ports = reader.policy(subset.traffic_policy, f"spec.subsets[{index}].trafficPolicy")
        labels = tuple(sorted(subset.labels.items()))
        subsets.append(Subset(name=subset.name, labels=labels, policy=own, port_policies=own_ports))
    rule = DestinationRule(
        created=obj.metadata.creation_timestamp,
        namespace=namespace,
        name=obj.metadata.name,
        host=full_name(spec.host, namespace, dns_domain),
        policy=policy,
        port_policies=ports,
        subsets=tuple(subsets),
        export_to=tuple(spec.export_to),
        selector=tuple(sorted(spec.workload_selector.match_labels.items())) if spec.workload_selector else (),
    )
    return rule, tuple(reader.issues)


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


def _origination(said: api.ClientTls) -> TlsOrigination:
    return TlsOrigination(
        mutual=said.mode == ClientTls.MUTUAL,
        sni=said.sni,
        names=tuple(said.subject_alt_names),
        ca_certificates=said.ca_certificates,
        certificate=said.client_certificate,
        private_key=said.private_key,
        verify=not said.insecure_skip_verify,
    )


class _Reader:
    """One rule's policies, and what was not understood in them."""

    def __init__(self, obj: api.DestinationRule, cluster: ClusterId) -> None:
        self._subject = Subject(cluster, "DestinationRule", obj.metadata.namespace, obj.metadata.name)
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
            origination=_origination(said.tls) if said.tls and said.tls.mode in _ORIGINATING else None,
            balancing=self._balancing(said.load_balancer, f"{field}.loadBalancer"),
            pool=self._pool(said.connection_pool, f"{field}.connectionPool"),
            outliers=self._outliers(said.outlier_detection, f"{field}.outlierDetection"),
            tls=self._tls(said.tls, f"{field}.tls"),
            locality=locality_of(said.load_balancer.locality_lb_setting)
            if said.load_balancer and said.load_balancer.locality_lb_setting
            else None,
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

    def _pool(self, said: api.ConnectionPool | None, field: str) -> ConnectionPool | None:
        if said is None:
            return None
        return ConnectionPool(
            max_connections=said.tcp.max_connections,
            connect_seconds=self._seconds(said.tcp.connect_timeout, f"{field}.tcp.connectTimeout"),
            max_pending_requests=said.http.http1_max_pending_requests,
            max_requests=said.http.http2_max_requests,
            max_requests_per_connection=said.http.max_requests_per_connection,
            max_retries=said.http.max_retries,
        )

    def _outliers(self, said: api.OutlierDetection | None, field: str) -> OutlierDetection | None:
        if said is None:
            return None
        return OutlierDetection(
            consecutive_errors=said.consecutive5xx_errors,
            consecutive_gateway_errors=said.consecutive_gateway_errors,
            interval_seconds=self._seconds(said.interval, f"{field}.interval"),
            base_ejection_seconds=self._seconds(said.base_ejection_time, f"{field}.baseEjectionTime"),
            max_ejection_percent=said.max_ejection_percent,
            min_health_percent=said.min_health_percent,
        )

    def _tls(self, said: api.ClientTls | None, field: str) -> ClientTls | None:
        if said is None or not said.mode:
            return None
        if said.mode not in ClientTls.__members__:
            self._tell(Severity.ERROR, f"{field}.mode", f"there is no mode {said.mode}", _MODES)
            return None
        if said.credential_name:
            self.not_done(
                f"{field}.credentialName", "credentials from Secrets are not given to callers by this version"
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
