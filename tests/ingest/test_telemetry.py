"""What MeshConfig says about telemetry."""

from __future__ import annotations

import msgspec
import pytest

from isthmus.api.telemetry import MetricsOverride, MetricsRule, TagOverride, Telemetry
from isthmus.ingest.telemetry import telemetry_of
from isthmus.ingest.telemetry_metrics import metrics_rule, not_done
from isthmus.ingest.telemetry_providers import telemetry_defaults_of
from isthmus.model.names import ClusterId
from isthmus.model.telemetry import TelemetryDefaults


def test_a_mesh_without_mesh_config_has_the_same_provider_as_one_whose_mesh_config_is_silent():
    assert telemetry_defaults_of({}) == (TelemetryDefaults(), ())


@pytest.mark.parametrize("text", ["%NOPE%", "100%", "%REQ%"])
def test_a_format_that_envoy_would_refuse_is_told_and_the_usual_one_is_used(text):
    usual = telemetry_defaults_of({})[0].logs
    for config in (
        {"accessLogFormat": text},
        {"accessLogFormat": f'{{"a": "{text}"}}', "accessLogEncoding": "JSON"},
        {"accessLogFormat": text, "accessLogEncoding": "JSON"},
    ):
        found, [wrong] = telemetry_defaults_of(config)
        assert [(log.text, log.fields) for log in found.logs] == [(log.text, log.fields) for log in usual]
        assert wrong.startswith("accessLogFormat: ")


@pytest.mark.parametrize("format_", [{"text": "%NOPE%"}, {"labels": {"a": "100%"}}])
@pytest.mark.parametrize(
    "provider", [{"envoyFileAccessLog": {}}, {"envoyOtelAls": {"service": "a.b", "port": 1}}], ids=["file", "otel"]
)
def test_a_provider_whose_format_envoy_would_refuse_is_left_out_and_told(provider, format_):
    [(kind, said)] = provider.items()

    found, [wrong] = telemetry_defaults_of(
        {"extensionProviders": [{"name": "mine", kind: said | {"logFormat": format_}}]}
    )

    assert [log.name for log in found.logs] == ["envoy"]
    assert wrong.startswith(f"extensionProviders[0].{kind}: logFormat: ")


def labelled(value, name="x"):
    """The label's expression, if it counts, and what is told of it."""
    said = MetricsRule(overrides=[MetricsOverride(tag_overrides={name: TagOverride(value=value)})])
    tags = [(tag.name, tag.expression) for each in metrics_rule(said).overrides for tag in each.tags]
    return tags, [field for field, _ in not_done([said])]


@pytest.mark.parametrize(
    "value",
    [
        "request.host",
        "request.headers['x-user']",
        'request.headers["x-user"]',
        "upstream_peer.namespace",
        "inner.within",
        "xds.cluster_metadata.filter_metadata['istio'].services[0].name",
        "'a text'",
    ],
)
def test_a_label_is_an_attribute_or_a_text(value):
    assert labelled(value) == ([("x", value)], [])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x", "request.headers['x\"]"),
        ("x", "request.h\u00e9"),
        ("x", "in"),
        ("x", "request.in"),
        ("x", "namespace"),
        ("x", "a[99999999999999999999]"),
        ("x", "'a\rb'"),
        ("h\u00e9", "request.host"),
    ],
)
def test_an_expression_that_envoy_might_refuse_is_no_label(name, value):
    assert labelled(value, name) == ([], [f"spec.metrics[0].overrides[0].tagOverrides.{name}"])


def test_a_filter_that_envoy_would_refuse_is_told_and_its_log_is_silent():
    obj = msgspec.convert({
        "apiVersion": "telemetry.istio.io/v1",
        "kind": "Telemetry",
        "metadata": {"name": "a", "namespace": "shop"},
        "spec": {"accessLogging": [{"filter": {"expression": "true"}}, {"filter": {"expression": "zork()"}}]},
    }, type=Telemetry)  # fmt: skip

    value, [issue] = telemetry_of(obj, ClusterId("east"))

    assert [log.is_silent for log in value.logging] == [False, True]
    assert (issue.code, issue.field) == ("ISM0508", "spec.accessLogging[1].filter.expression")
