"""What each side of a proxy reports: the mesh's defaults, then the rules of the mesh, the namespace and the workload, the narrowest last."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from isthmus.model.names import Namespace
from isthmus.model.origins import Origin
from isthmus.model.security import Labels
from isthmus.model.selectors import holds_for
from isthmus.model.snapshot import Snapshot
from isthmus.model.telemetry import (
    AccessLog,
    Metric,
    Mode,
    ReportedMetric,
    Reporting,
    TagChange,
    TagSource,
    Telemetry,
    TraceTag,
    Tracing,
    canonical_name,
    canonical_revision,
)
from isthmus.model.views import Scope

_UNNAMED = "unknown"


def reporting_for(scope: Scope, labels: Labels, mode: Mode, snapshot: Snapshot) -> Reporting:
    """`mode` is the side: what goes out is the client's, what comes in the server's. A gateway is a client (as in Istio)."""
    levels = list(_levels(scope.namespace, labels, snapshot))
    logs = tuple(_logs(levels, mode, snapshot))
    tracing = _tracing(levels, mode, snapshot, scope, labels)
    metrics = tuple(_metrics(levels, mode, snapshot))
    origins: list[Origin] = [each.origin for each in levels if logs or tracing or metrics]
    return Reporting(logs=logs, tracing=tracing, metrics=metrics, origins=tuple(origins))


def _levels(namespace: Namespace, labels: Labels, snapshot: Snapshot) -> Iterator[Telemetry]:
    """At most one for each level, the widest first; of several the oldest."""
    root, rules = snapshot.settings.root_namespace, snapshot.telemetries
    mesh = [rule for rule in rules if rule.namespace == root and not rule.chooses]
    whole = [rule for rule in rules if rule.namespace == namespace != root and not rule.chooses]
    own = [
        rule for rule in rules if rule.namespace == namespace and rule.chooses and holds_for(rule, namespace, labels)
    ]
    for level in (mesh, whole, own):
        if level:
            yield min(level)


def _logs(levels: Sequence[Telemetry], mode: Mode, snapshot: Snapshot) -> Iterator[AccessLog]:
    """A rule that names providers takes the place of the wider ones'; one that names none is about theirs."""
    known = {provider.name: provider for provider in snapshot.settings.telemetry.logs}
    inherited: tuple[str, ...] = snapshot.settings.telemetry.default_logs
    kept = dict.fromkeys(inherited, "")
    for level in levels:
        rules = [rule for rule in level.logging if rule.mode.means(mode)]
        named = tuple(name for rule in rules for name in rule.providers if name in known)
        if any(rule.providers and not rule.disabled for rule in rules):
            kept = {}
        for rule in rules:
            for name in rule.providers or inherited:
                if rule.disabled or rule.is_silent:
                    kept.pop(name, None)
                elif name in known:
                    kept[name] = rule.expression
        inherited = named or inherited
    for name, expression in sorted(kept.items()):
        yield AccessLog(provider=known[name], expression=expression)


def _tracing(
    levels: Sequence[Telemetry], mode: Mode, snapshot: Snapshot, scope: Scope, labels: Labels
) -> Tracing | None:
    """Each thing that a narrower rule says takes the place of what the wider one says. None where nothing is traced."""
    defaults = snapshot.settings.telemetry
    known = {provider.name: provider for provider in defaults.traces}
    provider, sampling, disabled = defaults.default_trace, defaults.sampling_percent, False
    tags: tuple[TraceTag, ...] = ()
    names_workload = by_request_id = True
    for level in levels:
        for rule in level.tracing:
            if rule.mode.means(mode):
                provider = rule.provider if rule.provider in known else provider
                sampling = sampling if rule.sampling_percent is None else rule.sampling_percent
                disabled = disabled if rule.disabled is None else rule.disabled
                tags = rule.tags or tags
                names_workload = names_workload if rule.names_workload is None else rule.names_workload
                by_request_id = by_request_id if rule.samples_by_request_id is None else rule.samples_by_request_id
    if provider not in known:
        return None
    return Tracing(
        provider=None if disabled else known[provider],
        sampling_percent=sampling,
        tags=(*(_workload_tags(scope, labels, snapshot) if names_workload else ()), *tags),
        service=f"{canonical_name(dict(labels)) or _UNNAMED}.{scope.namespace}",
        samples_by_request_id=by_request_id,
    )


def _workload_tags(scope: Scope, labels: Labels, snapshot: Snapshot) -> Iterator[TraceTag]:
    """Istio's own, which say of which workload a span is."""
    said = {
        "istio.canonical_service": canonical_name(dict(labels)) or _UNNAMED,
        "istio.canonical_revision": canonical_revision(dict(labels)),
        "istio.mesh_id": snapshot.settings.mesh,
        "istio.namespace": scope.namespace,
        "istio.cluster_id": scope.cluster,
    }
    for name, value in sorted(said.items()):
        yield TraceTag(name, TagSource.LITERAL, value)


def _metrics(levels: Sequence[Telemetry], mode: Mode, snapshot: Snapshot) -> Iterator[ReportedMetric]:
    """Kept where a provider is named, the narrowest rule's word; what is said of one metric or label stands until a narrower rule says else."""
    defaults = snapshot.settings.telemetry
    kept = bool(defaults.default_metrics)
    disabled: dict[Metric, bool] = {}
    changes: dict[Metric, dict[str, TagChange]] = {}
    for rule in (rule for level in levels for rule in level.metrics):
        if rule.providers:
            kept = any(name in defaults.metrics for name in rule.providers)
        for override in (each for each in rule.overrides if each.mode.means(mode)):
            for metric in override.metrics:
                if override.disabled is not None:
                    disabled[metric] = override.disabled
                changes.setdefault(metric, {}).update((change.name, change) for change in override.tags)
    for metric in Metric if kept else ():
        if not disabled.get(metric):
            yield ReportedMetric(metric, tuple(sorted(changes.get(metric, {}).values())))
