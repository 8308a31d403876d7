"""How callers treat a destination: what DestinationRules say, as values. Times are seconds; None leaves a default as it is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from isthmus.model.names import Hostname, Namespace
from isthmus.model.origins import Origin
from isthmus.model.security import Labels


class ClientTls(StrEnum):
    """What callers do, where a rule says so; otherwise mutual TLS with whoever takes part in it. SIMPLE and MUTUAL are TLS with
    others' certificates."""

    DISABLE = "DISABLE"
    SIMPLE = "SIMPLE"
    MUTUAL = "MUTUAL"
    ISTIO_MUTUAL = "ISTIO_MUTUAL"


class Balancing(StrEnum):
    LEAST_REQUEST = "LEAST_REQUEST"
    ROUND_ROBIN = "ROUND_ROBIN"
    RANDOM = "RANDOM"
    PASSTHROUGH = "PASSTHROUGH"
    """To the address that the application chose."""


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class ConsistentHash:
    """What of a request (or connection) chooses the endpoint: one of the first four. A cookie without `cookie_seconds` has to be there
    already. `maglev`: by Maglev's table rather than a ring. `size` is the ring's least size, or the table's.
    """

    header: str = ""
    cookie: str = ""
    query_parameter: str = ""
    source_ip: bool = False
    cookie_path: str = ""
    cookie_seconds: float | None = None
    maglev: bool = False
    size: int | None = None


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class TlsOrigination:
    """TLS that callers' proxies start with servers beyond the mesh. Files are of the proxy's own file system; no
    `ca_certificates` means the system's authorities."""

    mutual: bool
    sni: str = ""
    names: tuple[str, ...] = ()
    ca_certificates: str = ""
    certificate: str = ""
    private_key: str = ""
    verify: bool = True


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class ConnectionPool:
    max_connections: int | None = None
    connect_seconds: float | None = None
    max_pending_requests: int | None = None
    max_requests: int | None = None
    max_requests_per_connection: int | None = None
    max_retries: int | None = None


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class OutlierDetection:
    """`consecutive_errors` 0 turns that detector off."""

    consecutive_errors: int | None = None
    consecutive_gateway_errors: int | None = None
    interval_seconds: float | None = None
    base_ejection_seconds: float | None = None
    max_ejection_percent: int | None = None
    min_health_percent: int | None = None


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class LocalityPreference:
    """How a caller's place counts. `distribute`: from a place, percentages to places; `failover`: from a region to a region;
    `failover_priority`: labels in order of importance, each `name` or `name=value`."""

    enabled: bool = True
    distribute: tuple[tuple[str, tuple[tuple[str, int], ...]], ...] = ()
    failover: tuple[tuple[str, str], ...] = ()
    failover_priority: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficPolicy:
    balancing: Balancing | None = None
    pool: ConnectionPool | None = None
    outliers: OutlierDetection | None = None
    tls: ClientTls | None = None
    locality: LocalityPreference | None = None
    hash: ConsistentHash | None = None
    origination: TlsOrigination | None = None
    """How, where `tls` is SIMPLE or MUTUAL."""

    def over(self, wider: TrafficPolicy) -> TrafficPolicy:
        """This policy, completed by a wider one field by field."""
        return TrafficPolicy(
            balancing=self.balancing or (None if self.hash else wider.balancing),
            hash=self.hash or (None if self.balancing else wider.hash),
            origination=self.origination if self.tls else wider.origination,
            pool=self.pool or wider.pool,
            outliers=self.outliers or wider.outliers,
            tls=self.tls or wider.tls,
            locality=self.locality or wider.locality,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Subset:
    """Endpoints that have all of the labels; those that tell where an endpoint is count, too."""

    name: str
    labels: Labels
    policy: TrafficPolicy
    port_policies: tuple[tuple[int, TrafficPolicy], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationRule:
    """`host` is a full name, or begins with `*`. `export_to` are namespaces, `.` or `*`; empty is `*`."""

    created: str
    namespace: Namespace
    name: str
    host: Hostname
    policy: TrafficPolicy
    port_policies: tuple[tuple[int, TrafficPolicy], ...]
    subsets: tuple[Subset, ...]
    export_to: tuple[str, ...]
    selector: Labels = ()
    """Labels of the callers for which it holds."""

    @property
    def origin(self) -> Origin:
        return Origin("DestinationRule", self.namespace, self.name)

    def policy_for(self, port: int, subset: Subset | None) -> TrafficPolicy:
        """A port's own policy takes the place of the general one; a subset's completes itself from the rule's."""
        general = dict(self.port_policies).get(port, self.policy)
        if subset is None:
            return general
        return dict(subset.port_policies).get(port, subset.policy).over(general)
