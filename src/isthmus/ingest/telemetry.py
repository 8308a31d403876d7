"""Telemetry objects become values; what this version cannot do with them is an issue."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from isthmus.api import telemetry as api
from isthmus.ingest.command_operators import bad_format
from isthmus.ingest.expressions import not_cel
from isthmus.ingest.route_limits import HEADER
from isthmus.ingest.targets import targets_of
from isthmus.ingest.telemetry_metrics import metrics_rule, not_done
from isthmus.model.issues import Issue, Severity, Subject
from isthmus.model.names import ClusterId, Namespace
from isthmus.model.telemetry import (
    LoggingRule,
    Mode,
    TagSource,
    Telemetry,
    TelemetryDefaults,
    TraceTag,
    TracingRule,
)


def telemetry_of(obj: api.Telemetry, cluster: ClusterId) -> tuple[Telemetry | None, tuple[Issue, ...]]:
    """None for one that is bound to what nothing can be bound to."""
    spec, metadata = obj.spec, obj.metadata
    subject = Subject(cluster, "Telemetry", metadata.namespace, metadata.name)

    def warning(code: str, field: str, what: str, fix: str) -> Issue:
        return Issue(subject=subject, code=code, severity=Severity.WARNING, what=what, fix=fix, field=field)

    gateways, unbound = targets_of(spec, subject)
    if gateways is None:
        return None, unbound
    issues = list(unbound)
    for field, what in not_done(spec.metrics):
        issues.append(warning("ISM0504", field, what, "see docs/telemetry.md for the metrics that there are"))
    for field, what in _unusable_tags(spec.tracing):
        issues.append(warning("ISM0507", field, what, "give it one of literal, environment, header and formatter"))
    for field, what in _no_percentages(spec.tracing):
        issues.append(warning("ISM0507", field, what, "write a number from 0 to 100"))
    for index, said in enumerate(spec.access_logging):
        if why := _refused_filter(said):
            issues.append(
                Issue(
                    subject=subject,
                    code="ISM0508",
                    severity=Severity.ERROR,
                    what=f"the logs of this rule are not kept: {why}",
                    fix="correct the expression; see docs/telemetry.md for what Envoy knows of CEL",
                    field=f"spec.accessLogging[{index}].filter.expression",
                )
            )
    value = Telemetry(
        created=metadata.creation_timestamp,
        namespace=Namespace(metadata.namespace),
        name=metadata.name,
        selector=tuple(sorted(spec.selector.match_labels.items())) if spec.selector else (),
        gateways=gateways,
        logging=tuple(map(_logging, spec.access_logging)),
        tracing=tuple(map(_tracing, spec.tracing)),
        metrics=tuple(map(metrics_rule, spec.metrics)),
    )
    return value, tuple(issues)


def unknown_providers(found: Iterable[Telemetry], known: TelemetryDefaults, cluster: ClusterId) -> Iterator[Issue]:
    """Providers that rules name and MeshConfig does not have."""
    logs, traces = {each.name for each in known.logs}, {each.name for each in known.traces}
    for each in found:
        subject = Subject(cluster, "Telemetry", each.namespace, each.name)
        named = [
            (f"spec.accessLogging[{index}].providers", name)
            for index, rule in enumerate(each.logging)
            for name in rule.providers
            if name not in logs
        ]
        named += [
            (f"spec.tracing[{index}].providers", rule.provider)
            for index, rule in enumerate(each.tracing)
            if rule.provider and rule.provider not in traces
        ]
        named += [
            (f"spec.metrics[{index}].providers", name)
            for index, metrics in enumerate(each.metrics)
            for name in metrics.providers
            if name not in known.metrics
        ]
        for field, name in named:
            yield Issue(
                subject=subject,
                code="ISM0503",
                severity=Severity.ERROR,
                what=f"MeshConfig has no such provider, {name!r}: it is left out",
                fix="add it to extensionProviders of MeshConfig, or name another one",
                field=field,
            )


def _logging(said: api.AccessLogging) -> LoggingRule:
    return LoggingRule(
        mode=_mode(said.match),
        providers=tuple(provider.name for provider in said.providers),
        disabled=bool(said.disabled),
        expression=said.filter.expression if said.filter else "",
        is_silent=bool(_refused_filter(said)),
    )


def _refused_filter(said: api.AccessLogging) -> str:
    """Why Envoy would refuse the rule's expression. Lines that nobody asked for could fill a disk, or tell what was to be kept out: none are
    written until it is right."""
    return not_cel(said.filter.expression) if said.filter and said.filter.expression else ""


def _tracing(said: api.TracingRule) -> TracingRule:
    return TracingRule(
        mode=_mode(said.match),
        provider=said.providers[0].name if said.providers else "",
        sampling_percent=None if _is_no_percentage(said) else said.random_sampling_percentage,
        disabled=said.disable_span_reporting,
        tags=tuple(tag for name, each in sorted(said.custom_tags.items()) if not _unusable(tag := _tag(name, each))),
        names_workload=said.enable_istio_tags,
        samples_by_request_id=said.use_request_id_for_trace_sampling,
    )


def _tag(name: str, said: api.CustomTag) -> TraceTag:
    if said.header:
        return TraceTag(name, TagSource.HEADER, said.header.name, said.header.default_value)
    if said.environment:
        return TraceTag(name, TagSource.ENVIRONMENT, said.environment.name, said.environment.default_value)
    if said.formatter:
        return TraceTag(name, TagSource.FORMATTER, said.formatter.value)
    return TraceTag(name, TagSource.LITERAL, said.literal.value if said.literal else "")


def _unusable(tag: TraceTag) -> str:
    """Why Envoy would refuse it, and with it the whole listener."""
    if not tag.name or not tag.value:
        return "has no name" if not tag.name else "says nothing"
    if tag.source is TagSource.HEADER and not HEADER.fullmatch(tag.value):
        return f"{tag.value!r:.60} cannot be the name of a header"
    return bad_format(tag.value) if tag.source is TagSource.FORMATTER else ""


def _is_no_percentage(said: api.TracingRule) -> bool:
    percent = said.random_sampling_percentage
    return percent is not None and not 0 <= percent <= 100


def _no_percentages(found: Sequence[api.TracingRule]) -> Iterator[tuple[str, str]]:
    for index, said in enumerate(found):
        if _is_no_percentage(said):
            what = f"{said.random_sampling_percentage} is no percentage: it is left out"
            yield f"spec.tracing[{index}].randomSamplingPercentage", what


def _unusable_tags(found: Sequence[api.TracingRule]) -> Iterator[tuple[str, str]]:
    for index, said in enumerate(found):
        for name, each in sorted(said.custom_tags.items()):
            if why := _unusable(_tag(name, each)):
                yield f"spec.tracing[{index}].customTags[{name!r}]", f"the tag {name!r} is left out: {why}"


def _mode(match: api.ModeMatch) -> Mode:
    return Mode(match.mode) if match.mode in Mode.__members__ else Mode.CLIENT_AND_SERVER
