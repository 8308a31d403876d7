"""What a Telemetry says of metrics. A label is taken from an expression only where that surely compiles: Envoy refuses a whole listener for
one that does not."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from isthmus.api import telemetry as api
from isthmus.model.telemetry import Metric, MetricOverride, MetricsRule, Mode, TagChange

_KEYWORDS = "false|in|null|true"
_RESERVED = "as|break|const|continue|else|for|function|if|import|let|loop|namespace|package|return|var|void|while"
"""What CEL's language definition keeps for itself. As the name of a field a reserved word is allowed, a keyword is not."""
_ATTRIBUTE = re.compile(
    rf"(?!(?:{_KEYWORDS}|{_RESERVED})\b)[a-z_]+"
    rf"(?:\.(?!(?:{_KEYWORDS})\b)[A-Za-z_]\w*|\[(['\"])[\w.:/-]+\1\]|\[\d{{1,9}}\])*",
    re.ASCII,
)
_LITERAL = re.compile(r"'[^'\\%\r\n]*'|\"[^\"\\%\r\n]*\"")
_LABEL = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_ALL = ("", "ALL_METRICS")


def metrics_rule(said: api.MetricsRule) -> MetricsRule:
    """As much of it as can be done."""
    return MetricsRule(
        providers=tuple(provider.name for provider in said.providers),
        overrides=tuple(override for each in said.overrides for override in _overrides(each)),
    )


def not_done(rules: Sequence[api.MetricsRule]) -> Iterator[tuple[str, str]]:
    """Fields that have no effect, each with the reason."""
    for number, rule in enumerate(rules):
        path = f"spec.metrics[{number}]"
        if rule.reporting_interval:
            yield (
                f"{path}.reportingInterval",
                "connections are counted when they open and when they end, not in between",
            )
        for index, override in enumerate(rule.overrides):
            where = f"{path}.overrides[{index}]"
            if not _metrics_of(override):
                name = override.match.custom_metric or override.match.metric
                yield f"{where}.match", f"there is no metric {name!r}: the override is left out"
            for tag, change in sorted(override.tag_overrides.items()):
                if not _is_done(tag, change):
                    what = (
                        "only an attribute (request.host, request.headers['x']) or a text in quotes can be a label here"
                    )
                    yield f"{where}.tagOverrides.{tag}", f"{what}: the label {tag!r} stays as it is"


def _overrides(said: api.MetricsOverride) -> Iterator[MetricOverride]:
    metrics = _metrics_of(said)
    if metrics:
        yield MetricOverride(
            mode=Mode(said.match.mode) if said.match.mode in Mode.__members__ else Mode.CLIENT_AND_SERVER,
            metrics=metrics,
            disabled=said.disabled,
            tags=tuple(
                TagChange(name, "" if change.operation == "REMOVE" else change.value)
                for name, change in sorted(said.tag_overrides.items())
                if _is_done(name, change)
            ),
        )


def _metrics_of(said: api.MetricsOverride) -> tuple[Metric, ...]:
    if said.match.custom_metric:
        return ()
    if said.match.metric in _ALL:
        return tuple(Metric)
    return (Metric[said.match.metric],) if said.match.metric in Metric.__members__ else ()


def _is_done(name: str, change: api.TagOverride) -> bool:
    if change.operation == "REMOVE":
        return True
    value = change.value
    return bool(_LABEL.fullmatch(name) and (_LITERAL.fullmatch(value) or _ATTRIBUTE.fullmatch(value)))
