"""How callers treat a destination: what DestinationRules say, as values. Times are seconds; None leaves a default as it is."""

from __future__ import annotations

from dataclasses import field, fields, replace
from enum import StrEnum

from isthmus.model.names import Hostname, Namespace
from isthmus.model.origins import Origin
from isthmus.model.security import Labels
from isthmus.model.values import dataclass


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
    cookie_attributes: tuple[tuple[str, str], ...] = ()
    """Of a cookie that is given."""


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class TlsOrigination:
    """TLS that callers' proxies start with servers beyond the mesh. Files are of the proxy's own file system; no
    `ca_certificates` means the system's authorities. `credential` is a Secret of the proxy's own namespace, which has both, and revocations;
    `for_sidecars`: they use it, too, not gateways alone. `authorities` are PEM texts.
    """

    mutual: bool
    sni: str = ""
    names: tuple[str, ...] = ()
    ca_certificates: str = ""
    certificate: str = ""
    private_key: str = ""
    verify: bool = True
    revocations: str = ""
    credential: str = ""
    for_sidecars: bool = False
    authorities: str = ""


class Upgrade(StrEnum):
    """Whether requests that come as HTTP/1.1 go on as HTTP/2, on a port that does not say itself."""

    YES = "UPGRADE"
    NO = "DO_NOT_UPGRADE"
    AS_CALLED = "use the client's protocol"


@dataclass(frozen=True, slots=True, order=True)
class Keepalive:
    """TCP probes on idle connections."""

    probes: int | None = None
    time_seconds: float | None = None
    interval_seconds: float | None = None


@dataclass(frozen=True, slots=True, order=True)
class Pings:
    """HTTP/2 pings on open connections. One that is not answered in time ends the connection."""

    interval_seconds: float
    timeout_seconds: float


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class ConnectionPool:
    """`idle_seconds` is of connections without requests, `tcp_idle_seconds` of those of which only bytes are seen; 0 is for ever."""

    max_connections: int | None = None
    connect_seconds: float | None = None
    max_pending_requests: int | None = None
    max_requests: int | None = None
    max_requests_per_connection: int | None = None
    max_retries: int | None = None
    keepalive: Keepalive | None = None
    max_connection_seconds: float | None = None
    idle_seconds: float | None = None
    tcp_idle_seconds: float | None = None
    upgrade: Upgrade | None = None
    max_concurrent_streams: int | None = None
    pings: Pings | None = None

    def over(self, wider: ConnectionPool) -> ConnectionPool:
        """This one, completed by a wider one field by field."""
        said = {each.name: value for each in fields(self) if (value := getattr(self, each.name)) is not None}
        return replace(wider, **said)


@dataclass(frozen=True, slots=True, order=True)
class Warmup:
    """A new endpoint's share grows for so long, from `least_percent` of its weight, the faster the greater `aggression` (1: evenly)."""

    seconds: float
    least_percent: float | None = None
    aggression: float | None = None


@dataclass(frozen=True, slots=True, order=True)
class Tunnel:
    """Connections go on inside an HTTP CONNECT (or POST) to the destination, which connects to `target` (host:port)."""

    target: str
    by_post: bool = False


@dataclass(frozen=True, slots=True, order=True)
class RetryBudget:
    """Retries at once, as a percentage of the requests under way, but at least `least`."""

    percent: float
    least: int


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class OutlierDetection:
    """`consecutive_errors` 0 turns that detector off. `split`: connections that fail count for themselves, not among the errors."""

    split: bool = False
    consecutive_local_failures: int | None = None

    consecutive_errors: int | None = None
    consecutive_gateway_errors: int | None = None
    interval_seconds: float | None = None
    base_ejection_seconds: float | None = None
    max_ejection_percent: int | None = None
    min_health_percent: int | None = None


class Nearness(StrEnum):
    """What of two places is compared: region, zone and subzone; the region alone; or nothing."""

    PLACE = "place"
    REGION = "region"
    NONE = "none"


@dataclass(frozen=True, slots=True, order=True)
class Wishes:
    """What users ask of failover beyond Istio's objects; None leaves it to the next wider one (DestinationRule, Service, mesh).

    `own_cluster_first`: other clusters only when the caller's own has nothing left. `fails_over`: near before far, also without outlier
    detection that somebody has written. `hedge_after_seconds`: a request that may run twice and has no answer by then is also sent elsewhere,
    and the first answer counts; 0 is never.
    """

    own_cluster_first: bool | None = None
    fails_over: bool | None = None
    hedge_after_seconds: float | None = None

    def over(self, wider: Wishes) -> Wishes:
        return Wishes(
            wider.own_cluster_first if self.own_cluster_first is None else self.own_cluster_first,
            wider.fails_over if self.fails_over is None else self.fails_over,
            wider.hedge_after_seconds if self.hedge_after_seconds is None else self.hedge_after_seconds,
        )


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class LocalityPreference:
    """How a caller's place counts. `distribute`: from a place, percentages to places; `failover`: from a region to a region;
    `failover_priority`: labels in order of importance, each `name` or `name=value`. `own_cluster_first` comes before all of it."""

    enabled: bool = True
    distribute: tuple[tuple[str, tuple[tuple[str, int], ...]], ...] = ()
    failover: tuple[tuple[str, str], ...] = ()
    failover_priority: tuple[str, ...] = ()
    nearness: Nearness = Nearness.PLACE
    own_cluster_first: bool = False


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class Treatment:
    """What is done with connections of which only bytes are seen, on their way to a destination. `by_source`: all of one caller's go to one
    endpoint. `idle_seconds`: after how long without bytes they are ended; 0 is never.
    """

    by_source: bool = False
    idle_seconds: float = 0
    tunnel: Tunnel | None = None


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
    warmup: Warmup | None = None
    tunnel: Tunnel | None = None
    proxy_protocol: str = ""
    """Which version of it (`V1`, `V2`) tells the destination who called; empty for none."""
    wishes: Wishes = field(default_factory=Wishes)
    retry_budget: RetryBudget | None = None

    @property
    def of_bytes(self) -> Treatment:
        return Treatment(
            by_source=self.hash is not None and self.hash.source_ip,
            idle_seconds=(self.pool.tcp_idle_seconds if self.pool else None) or 0,
            tunnel=self.tunnel,
        )

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
            warmup=self.warmup or wider.warmup,
            tunnel=self.tunnel or wider.tunnel,
            proxy_protocol=self.proxy_protocol or wider.proxy_protocol,
            wishes=self.wishes.over(wider.wishes),
            retry_budget=self.retry_budget or wider.retry_budget,
        )

    def with_defaults(self, mesh: TrafficPolicy) -> TrafficPolicy:
        """This policy, completed by what holds for the whole mesh; of the connection pool each field for itself."""
        both = self.over(mesh)
        return replace(both, pool=self.pool.over(mesh.pool)) if self.pool and mesh.pool else both


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
    wishes: Wishes = field(default_factory=Wishes)
    made_from: Origin | None = None
    """The object of another kind that it was derived from."""
    backend_tls: tuple[tuple[int, TlsOrigination], ...] = ()
    """TLS that gateways start, by port (0: every other one), whatever the policies say."""

    @property
    def origin(self) -> Origin:
        return self.made_from or Origin("DestinationRule", self.namespace, self.name)

    def policy_for(self, port: int, subset: Subset | None) -> TrafficPolicy:
        """A port's own policy takes the place of the general one; a subset's completes itself from the rule's."""
        found = replace(dict(self.port_policies).get(port, self.policy), wishes=self.wishes)
        if subset is not None:
            found = dict(subset.port_policies).get(port, subset.policy).over(found)
        by_port = dict(self.backend_tls)
        tls = by_port.get(port, by_port.get(0))
        return replace(found, tls=ClientTls.SIMPLE, origination=tls) if tls else found
