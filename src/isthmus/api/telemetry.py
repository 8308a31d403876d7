"""Istio's telemetry.istio.io/Telemetry, as far as the mesh reads it."""

from __future__ import annotations

import msgspec

from isthmus.api.meta import KubernetesObject, Wire
from isthmus.api.security import Selector, TargetReference


class ProviderName(Wire, frozen=True):
    name: str = ""


class ModeMatch(Wire, frozen=True):
    mode: str = "CLIENT_AND_SERVER"


class LogFilter(Wire, frozen=True):
    expression: str = ""


class AccessLogging(Wire, frozen=True):
    match: ModeMatch = msgspec.field(default_factory=ModeMatch)
    providers: list[ProviderName] = []
    disabled: bool | None = None
    filter: LogFilter | None = None


class TextTag(Wire, frozen=True):
    value: str = ""


class NamedTag(Wire, frozen=True):
    name: str = ""
    default_value: str = ""


class CustomTag(Wire, frozen=True):
    literal: TextTag | None = None
    environment: NamedTag | None = None
    header: NamedTag | None = None
    formatter: TextTag | None = None


class TracingRule(Wire, frozen=True):
    match: ModeMatch = msgspec.field(default_factory=ModeMatch)
    providers: list[ProviderName] = []
    random_sampling_percentage: float | None = None
    disable_span_reporting: bool | None = None
    custom_tags: dict[str, CustomTag] = {}
    enable_istio_tags: bool | None = None
    use_request_id_for_trace_sampling: bool | None = None


class MetricSelector(Wire, frozen=True):
    mode: str = "CLIENT_AND_SERVER"
    metric: str = ""
    custom_metric: str = ""


class TagOverride(Wire, frozen=True):
    operation: str = "UPSERT"
    value: str = ""


class MetricsOverride(Wire, frozen=True):
    match: MetricSelector = msgspec.field(default_factory=MetricSelector)
    disabled: bool | None = None
    tag_overrides: dict[str, TagOverride] = {}


class MetricsRule(Wire, frozen=True):
    providers: list[ProviderName] = []
    overrides: list[MetricsOverride] = []
    reporting_interval: str = ""


class TelemetrySpec(Wire, frozen=True):
    selector: Selector | None = None
    target_ref: TargetReference | None = None
    target_refs: list[TargetReference] = []
    tracing: list[TracingRule] = []
    access_logging: list[AccessLogging] = []
    metrics: list[MetricsRule] = []


class Telemetry(KubernetesObject, frozen=True):
    spec: TelemetrySpec = msgspec.field(default_factory=TelemetrySpec)
