"""What proxies report of their traffic: access logs, traces and metrics, to whom, and which rules say so."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from isthmus.model.names import Namespace
from isthmus.model.origins import Origin
from isthmus.model.security import Labels
from isthmus.model.values import dataclass

NAME_LABELS = ("service.istio.io/canonical-name", "app.kubernetes.io/name", "app")
REVISION_LABELS = ("service.istio.io/canonical-revision", "app.kubernetes.io/version", "version")
"""Of a workload, in this order: what traces and metrics call it."""


def canonical_name(labels: Mapping[str, str]) -> str:
    """Empty where no label says it."""
    return next((labels[key] for key in NAME_LABELS if labels.get(key)), "")


def canonical_revision(labels: Mapping[str, str]) -> str:
    return next((labels[key] for key in REVISION_LABELS if labels.get(key)), "latest")


class LogKind(StrEnum):
    """Where lines go: to a file of the proxy's own, or to a server by OpenTelemetry's protocol or Envoy's own."""

    FILE = "file"
    OPEN_TELEMETRY = "open_telemetry"
    ENVOY_HTTP = "envoy_http"
    ENVOY_TCP = "envoy_tcp"


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class LogProvider:
    """`text` empty and no `fields` is the default format; `as_json` chooses which. `host` and `port` are a server's."""

    name: str
    kind: LogKind
    path: str = "/dev/stdout"
    text: str = ""
    fields: tuple[tuple[str, str], ...] = ()
    """Each value as JSON: a text, or an object of more fields."""
    as_json: bool = False
    host: str = ""
    port: int = 0
    log_name: str = ""


class TraceKind(StrEnum):
    ZIPKIN = "zipkin"
    OPEN_TELEMETRY = "open_telemetry"


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class TraceProvider:
    """A server that takes traces. `path`: of its HTTP interface; empty is gRPC, for OpenTelemetry."""

    name: str
    kind: TraceKind
    host: str
    port: int
    path: str = ""
    max_tag_length: int = 0
    timeout_seconds: float = 5.0


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class TelemetryDefaults:
    """What MeshConfig says: the providers there are, those that are used where no rule says otherwise, and how many requests are traced."""

    logs: tuple[LogProvider, ...] = (LogProvider(name="envoy", kind=LogKind.FILE),)
    """Without a word from anybody, the one that Istio always has."""
    traces: tuple[TraceProvider, ...] = ()
    default_logs: tuple[str, ...] = ()
    default_trace: str = ""
    sampling_percent: float = 1.0
    metrics: tuple[str, ...] = ("prometheus",)
    """Names for what each proxy serves on its statistics port; the first is always there."""
    default_metrics: tuple[str, ...] = ()
    other_providers: tuple[str, ...] = ()
    """Providers of which this version knows no more than the name: external authorization, for one."""


class TagSource(StrEnum):
    LITERAL = "literal"
    ENVIRONMENT = "environment"
    HEADER = "header"
    FORMATTER = "formatter"


@dataclass(frozen=True, slots=True, order=True)
class TraceTag:
    """`value` is the text itself, perhaps with commands as in access logs, or the name of a variable or header; `default` where that is not there."""

    name: str
    source: TagSource
    value: str
    default: str = ""


class Mode(StrEnum):
    """Which end of a connection."""

    CLIENT = "CLIENT"
    SERVER = "SERVER"
    CLIENT_AND_SERVER = "CLIENT_AND_SERVER"

    def means(self, other: Mode) -> bool:
        return self is Mode.CLIENT_AND_SERVER or self is other


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class LoggingRule:
    """`providers` empty means those of the wider rule."""

    mode: Mode
    providers: tuple[str, ...] = ()
    disabled: bool = False
    expression: str = ""
    is_silent: bool = False
    """Whether its expression is one that Envoy refuses: its logs are kept by nobody, and it takes the place of wider rules all the same."""


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class TracingRule:
    """What is None is left to the wider rule."""

    mode: Mode
    provider: str = ""
    sampling_percent: float | None = None
    disabled: bool | None = None
    tags: tuple[TraceTag, ...] = ()
    names_workload: bool | None = None
    """Whether spans say in Istio's tags which workload they are of."""
    samples_by_request_id: bool | None = None


class Metric(StrEnum):
    """Members are called as rules call them; values are what dashboards ask for, after `istio_`."""

    REQUEST_COUNT = "requests_total"
    REQUEST_DURATION = "request_duration_milliseconds"
    REQUEST_SIZE = "request_bytes"
    RESPONSE_SIZE = "response_bytes"
    TCP_OPENED_CONNECTIONS = "tcp_connections_opened_total"
    TCP_CLOSED_CONNECTIONS = "tcp_connections_closed_total"
    TCP_SENT_BYTES = "tcp_sent_bytes_total"
    TCP_RECEIVED_BYTES = "tcp_received_bytes_total"

    @property
    def is_of_connections(self) -> bool:
        return self.value.startswith("tcp_")


@dataclass(frozen=True, slots=True, order=True)
class TagChange:
    """A label that says something else: the value of an expression (CEL). An empty expression takes the label away."""

    name: str
    expression: str = ""


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class MetricOverride:
    """`metrics` are those that it is about. `disabled` None is left to the wider rule."""

    mode: Mode
    metrics: tuple[Metric, ...]
    disabled: bool | None = None
    tags: tuple[TagChange, ...] = ()


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class MetricsRule:
    """`providers` empty means those of the wider rule."""

    providers: tuple[str, ...] = ()
    overrides: tuple[MetricOverride, ...] = ()


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class Telemetry:
    """An empty `selector` holds for the namespace; in the root namespace for the mesh. `gateways` are Gateway API's, by name: where there are
    some, it holds at them alone."""

    created: str
    namespace: Namespace
    name: str
    selector: Labels = ()
    gateways: tuple[str, ...] = ()
    logging: tuple[LoggingRule, ...] = ()
    tracing: tuple[TracingRule, ...] = ()
    metrics: tuple[MetricsRule, ...] = ()

    @property
    def chooses(self) -> bool:
        """Whether it is about some workloads, not all of its namespace."""
        return bool(self.selector or self.gateways)

    @property
    def origin(self) -> Origin:
        return Origin("Telemetry", self.namespace, self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessLog:
    """One log that is kept. `expression` (CEL) chooses what is logged; empty is all."""

    provider: LogProvider
    expression: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracing:
    """`provider` None: identifiers are passed on, and nothing is reported. `service` is what traces call the workload."""

    provider: TraceProvider | None
    sampling_percent: float
    tags: tuple[TraceTag, ...] = ()
    service: str = ""
    samples_by_request_id: bool = True
    """Whether a request's identifier tells other proxies that it is in the sample."""


@dataclass(frozen=True, slots=True, order=True)
class ReportedMetric:
    """One metric that is kept, and what rules change of its labels."""

    metric: Metric
    changes: tuple[TagChange, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reporting:
    """What one side of a proxy reports, and the objects that say so."""

    logs: tuple[AccessLog, ...] = ()
    tracing: Tracing | None = None
    metrics: tuple[ReportedMetric, ...] = ()
    origins: tuple[Origin, ...] = ()
