"""Access logs and traces: which proxies keep them, in which form, and for which rule."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from isthmus.assurance.rendering import node_of, render
from isthmus.assurance.scenario import scenario_of
from isthmus.cli.envoy_judgement import complaint, verdict
from isthmus.ingest.command_operators import ALONE, EITHER, WITH_ARGUMENT, bad_format
from isthmus.ingest.expressions import not_cel

SHOP = yaml.safe_load((Path(__file__).parent / "explaining" / "shop.yaml").read_text())
PROVIDERS = [
    {"name": "files", "envoyFileAccessLog": {"path": "/tmp/log", "logFormat": {"labels": {"code": "%RESPONSE_CODE%"}}}},
    {"name": "lines", "envoyFileAccessLog": {"path": "/dev/stderr", "logFormat": {"text": "%RESPONSE_CODE%"}}},
    {"name": "otel", "envoyOtelAls": {"service": "bank/rates.bank.svc.cluster.local", "port": 80, "logName": "mesh"}},
    {"name": "als", "envoyHttpAls": {"service": "rates.bank.svc.cluster.local", "port": 80}},
    {"name": "zip", "zipkin": {"service": "rates.bank.svc.cluster.local", "port": 80, "maxTagLength": 56}},
    {"name": "otlp", "opentelemetry": {"service": "rates.bank.svc.cluster.local", "port": 80}},
    {
        "name": "otlp-http",
        "opentelemetry": {
            "service": "rates.bank.svc.cluster.local",
            "port": 80,
            "http": {"path": "/v1/traces", "timeout": "3s"},
        },
    },
    {"name": "elsewhere", "zipkin": {"service": "absent.bank.svc.cluster.local", "port": 9411}},
]


def rule(name: str, namespace: str, labels: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    selector = {"selector": {"matchLabels": labels}} if labels else {}
    return {
        "apiVersion": "telemetry.istio.io/v1",
        "kind": "Telemetry",
        "metadata": {"name": name, "namespace": namespace},
        "spec": selector | spec,
    }


def rendered(*rules: dict[str, Any], proxy: str = "sidecar/cart-1.shop", **mesh: Any) -> dict[str, Any]:
    changed = copy.deepcopy(SHOP)
    changed["meshConfig"] = {"extensionProviders": PROVIDERS} | mesh
    changed["clusters"][0]["objects"] += rules
    scenario = scenario_of(changed)
    document = render(scenario, node_of(scenario, proxy, "east"))
    assert verdict(document) == "", "the real Envoy takes it"
    return document


def filters(document: dict[str, Any], kind: str) -> list[tuple[str, dict[str, Any]]]:
    """The connection managers or TCP proxies, each with its listener's direction."""
    return [
        (listener["trafficDirection"], each["typedConfig"])
        for listener in document["listeners"]
        for chain in [*listener.get("filterChains", []), listener.get("defaultFilterChain", {})]
        for each in chain.get("filters", [])
        if each["name"].endswith(kind)
    ]


def logs(document: dict[str, Any], kind: str = "http_connection_manager") -> dict[str, list[Any]]:
    """Paths, or names, of the logs of each direction; every filter of a direction has the same."""
    found: dict[str, list[Any]] = {}
    for direction, config in filters(document, kind):
        names = [each["typedConfig"].get("path") or each["name"] for each in config.get("accessLog", [])]
        assert found.setdefault(direction, names) == names
    return found


def tracing(document: dict[str, Any]) -> dict[str, Any]:
    return {direction: config.get("tracing") for direction, config in filters(document, "http_connection_manager")}


def test_nothing_is_logged_or_traced_unless_somebody_says_so():
    found = rendered()

    assert logs(found) == {"INBOUND": [], "OUTBOUND": []}
    assert tracing(found) == {"INBOUND": None, "OUTBOUND": None}


def test_the_mesh_has_one_log_in_istios_default_format():
    found = rendered(accessLogFile="/dev/stdout")

    assert logs(found) == {"INBOUND": ["/dev/stdout"], "OUTBOUND": ["/dev/stdout"]}
    assert logs(found, "tcp_proxy") == {"INBOUND": ["/dev/stdout"], "OUTBOUND": ["/dev/stdout"]}
    [log] = filters(found, "http_connection_manager")[0][1]["accessLog"]
    text = log["typedConfig"]["logFormat"]["textFormatSource"]["inlineString"]
    assert text.startswith(
        '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE%'
    )
    assert text.endswith("%REQUESTED_SERVER_NAME% %ROUTE_NAME%\n")


@pytest.mark.parametrize(
    ("mesh", "format_"),
    [
        ({"accessLogFormat": "%PROTOCOL%"}, {"textFormatSource": {"inlineString": "%PROTOCOL%\n"}}),
        ({"accessLogFormat": '{"p": "%PROTOCOL%"}', "accessLogEncoding": "JSON"}, {"jsonFormat": {"p": "%PROTOCOL%"}}),
        (
            {"accessLogFormat": '{"request": {"protocol": "%PROTOCOL%"}, "v": 2}', "accessLogEncoding": "JSON"},
            {"jsonFormat": {"request": {"protocol": "%PROTOCOL%"}, "v": 2.0}},
        ),
    ],
)
def test_the_meshs_own_format(mesh, format_):
    found = rendered(accessLogFile="/dev/stdout", **mesh)

    [log] = filters(found, "http_connection_manager")[0][1]["accessLog"]
    assert log["typedConfig"]["logFormat"] == format_


def test_envoy_knows_every_command_that_a_format_may_have():
    arguments = {"COMMON_DURATION": "DS_RX_BEG:DS_RX_END:ms", "METADATA": "ROUTE:a", "CEL": "request.path"}
    commands = [*ALONE, *EITHER, *(f"{each}({arguments.get(each, 'a')})" for each in WITH_ARGUMENT - {"COALESCE"})]
    text = " ".join(f"%{each}%" for each in sorted(commands))

    found = rendered(accessLogFile="/dev/stdout", accessLogFormat=text)

    [log] = filters(found, "http_connection_manager")[0][1]["accessLog"]
    assert log["typedConfig"]["logFormat"]["textFormatSource"]["inlineString"] == f"{text}\n"
    assert verdict(found) == ""


def test_json_has_istios_fields():
    found = rendered(accessLogFile="/dev/stdout", accessLogEncoding="JSON")

    [log] = filters(found, "http_connection_manager")[0][1]["accessLog"]
    fields = log["typedConfig"]["logFormat"]["jsonFormat"]
    assert len(fields) == 24
    assert fields["upstream_cluster"] == "%UPSTREAM_CLUSTER_RAW%"


def logging(*providers: str, **more: Any) -> dict[str, Any]:
    return {"providers": [{"name": name} for name in providers]} | more


@pytest.mark.parametrize(
    ("rules", "inbound", "outbound"),
    [
        ([rule("m", "istio-system", accessLogging=[logging("files")])], ["/tmp/log"], ["/tmp/log"]),
        ([rule("m", "istio-system", accessLogging=[logging("files", match={"mode": "SERVER"})])], ["/tmp/log"], []),
        (
            [
                rule("m", "istio-system", accessLogging=[logging("files")]),
                rule("n", "shop", accessLogging=[logging("lines")]),
            ],
            ["/dev/stderr"],
            ["/dev/stderr"],
        ),
        (
            [
                rule("m", "istio-system", accessLogging=[logging("files")]),
                rule("w", "shop", {"app": "cart"}, accessLogging=[logging(disabled=True)]),
            ],
            [],
            [],
        ),
        (
            [
                rule("m", "istio-system", accessLogging=[logging("files", "lines")]),
                rule("w", "shop", {"app": "cart"}, accessLogging=[logging("files", disabled=True)]),
            ],
            ["/dev/stderr"],
            ["/dev/stderr"],
        ),
        ([rule("o", "shop", {"app": "other"}, accessLogging=[logging("files")])], [], []),
        ([rule("o", "bank", accessLogging=[logging("files")])], [], []),
        ([rule("m", "shop", accessLogging=[logging("envoy")])], ["/dev/stdout"], ["/dev/stdout"]),
    ],
)
def test_the_narrowest_rule_counts(rules, inbound, outbound):
    assert logs(rendered(*rules)) == {"INBOUND": inbound, "OUTBOUND": outbound}


def test_a_filter_is_asked_for_each_line():
    only = logging("files", filter={"expression": "response.code >= 400"})

    found = rendered(rule("m", "shop", accessLogging=[only]))

    [log] = filters(found, "http_connection_manager")[0][1]["accessLog"]
    assert log["filter"]["extensionFilter"]["typedConfig"]["expression"] == "response.code >= 400"


def test_servers_take_logs_by_their_own_protocols():
    found = rendered(rule("m", "shop", accessLogging=[logging("otel", "als")]))

    assert logs(found)["INBOUND"] == ["envoy.access_loggers.http_grpc", "envoy.access_loggers.open_telemetry"]
    [_, otel] = filters(found, "http_connection_manager")[0][1]["accessLog"]
    assert otel["typedConfig"]["commonConfig"]["grpcService"]["envoyGrpc"]["clusterName"] == (
        "outbound|80||rates.bank.svc.cluster.local"
    )
    assert logs(found, "tcp_proxy")["INBOUND"] == ["envoy.access_loggers.open_telemetry"]


@pytest.mark.parametrize(
    ("provider", "name"), [("zip", "zipkin"), ("otlp", "opentelemetry"), ("otlp-http", "opentelemetry")]
)
def test_traces(provider, name):
    found = rendered(
        rule(
            "m",
            "istio-system",
            tracing=[
                {
                    "providers": [{"name": provider}],
                    "randomSamplingPercentage": 12.5,
                    "enableIstioTags": False,
                    "customTags": {
                        "a": {"literal": {"value": "b"}},
                        "h": {"header": {"name": "x-h", "defaultValue": "none"}},
                        "e": {"environment": {"name": "HOME"}},
                    },
                }
            ],
        )
    )

    both = tracing(found)
    assert both["INBOUND"] == both["OUTBOUND"]
    assert both["INBOUND"]["randomSampling"] == {"value": 12.5}
    assert both["INBOUND"]["provider"]["name"] == f"envoy.tracers.{name}"
    assert both["INBOUND"]["customTags"] == [
        {"tag": "a", "literal": {"value": "b"}},
        {"tag": "e", "environment": {"name": "HOME"}},
        {"tag": "h", "requestHeader": {"name": "x-h", "defaultValue": "none"}},
    ]
    if name == "opentelemetry":
        assert both["OUTBOUND"]["provider"]["typedConfig"]["serviceName"] == "cart.shop"


def test_each_part_of_a_tracing_rule_is_inherited_by_itself():
    found = rendered(
        rule("m", "istio-system", tracing=[{"providers": [{"name": "zip"}], "randomSamplingPercentage": 50}]),
        rule("n", "shop", tracing=[{"match": {"mode": "CLIENT"}, "randomSamplingPercentage": 0}]),
        rule("w", "shop", {"app": "cart"}, tracing=[{"match": {"mode": "SERVER"}, "disableSpanReporting": True}]),
    )

    both = tracing(found)
    assert both["OUTBOUND"]["randomSampling"] == {}
    assert "provider" in both["OUTBOUND"]
    assert both["INBOUND"]["randomSampling"] == {"value": 50.0}
    assert "provider" not in both["INBOUND"], "identifiers are passed on, nothing is reported"


def test_the_older_keys_of_meshconfig():
    tracing_config = {"zipkin": {"address": "rates.bank:80"}, "sampling": 42.0}

    found = rendered(enableTracing=True, defaultConfig={"tracing": tracing_config})

    assert tracing(found)["OUTBOUND"]["randomSampling"] == {"value": 42.0}
    assert tracing(found)["OUTBOUND"]["provider"]["typedConfig"]["collectorCluster"] == (
        "outbound|80||rates.bank.svc.cluster.local"
    )


def test_a_server_that_the_proxy_does_not_see_costs_it_no_listener():
    found = rendered(rule("m", "istio-system", tracing=[{"providers": [{"name": "elsewhere"}]}]))

    assert tracing(found) == {"INBOUND": None, "OUTBOUND": None}


def test_a_provider_that_there_is_not_is_told_and_others_count():
    found = rendered(
        rule("m", "shop", accessLogging=[logging("files", "nowhere")], metrics=[{"providers": [{"name": "absent"}]}])
    )

    assert logs(found)["INBOUND"] == ["/tmp/log"]
    warnings = [each for each in found["warnings"] if each.startswith("Telemetry shop/m in east")]
    assert len(warnings) == 2
    assert "MeshConfig has no such provider, 'nowhere'" in " ".join(warnings)


def test_a_provider_that_cannot_be_used_is_told():
    found = rendered(extensionProviders=[{"name": "bad", "zipkin": {"service": "x"}}, *PROVIDERS])

    assert any("extensionProviders[0].zipkin" in each for each in found["warnings"])


def tags(document: dict[str, Any]) -> dict[str, str]:
    return {each["tag"]: each["literal"]["value"] for each in tracing(document)["OUTBOUND"].get("customTags", [])}


def test_spans_say_which_workload_they_are_of_unless_a_rule_says_otherwise():
    provider = {"providers": [{"name": "zip"}], "customTags": {"team": {"literal": {"value": "a"}}}}
    named = rendered(rule("m", "istio-system", tracing=[provider]))
    unnamed = rendered(
        rule("m", "istio-system", tracing=[provider]), rule("n", "shop", tracing=[{"enableIstioTags": False}])
    )

    assert tags(named) == {
        "istio.canonical_revision": "latest",
        "istio.canonical_service": "cart",
        "istio.cluster_id": "east",
        "istio.mesh_id": "mesh1",
        "istio.namespace": "shop",
        "team": "a",
    }
    assert tags(unnamed) == {"team": "a"}


def test_the_sample_can_be_kept_out_of_identifiers():
    found = rendered(
        rule("m", "istio-system", tracing=[{"providers": [{"name": "zip"}], "useRequestIdForTraceSampling": False}])
    )

    for _, config in filters(found, "http_connection_manager"):
        assert config["requestIdExtension"]["typedConfig"]["useRequestIdForTraceSampling"] is False


def test_a_tag_may_be_put_together_as_in_access_logs():
    tags = {"path": {"formatter": {"value": "%REQ(:PATH)% by %PROTOCOL%"}}, "where": {"literal": {"value": "here"}}}
    document = rendered(rule("all", "istio-system", tracing=[{"providers": [{"name": "zip"}], "customTags": tags}]))

    for _, config in filters(document, "http_connection_manager"):
        told = {each["tag"]: each for each in config["tracing"]["customTags"]}
        assert told["path"]["value"] == "%REQ(:PATH)% by %PROTOCOL%"
        assert told["where"]["literal"] == {"value": "here"}
    assert not [each for each in document["warnings"] if "tag" in each]


@pytest.mark.parametrize("said", [{}, {"literal": {"value": ""}}, {"formatter": {"value": "%NOTHING_LIKE_IT%"}}])
def test_a_tag_that_envoy_would_refuse_is_left_out_and_its_writer_is_told(said):
    tags = {"odd": said, "where": {"literal": {"value": "here"}}}
    document = rendered(rule("all", "istio-system", tracing=[{"providers": [{"name": "zip"}], "customTags": tags}]))

    for _, config in filters(document, "http_connection_manager"):
        names = {each["tag"] for each in config["tracing"]["customTags"]}
        assert "where" in names
        assert "odd" not in names
    assert [each for each in document["warnings"] if "the tag 'odd' is left out" in each]


@pytest.mark.parametrize("percent", [250, -1])
def test_a_share_that_is_no_percentage_is_left_out_and_its_writer_is_told(percent):
    said = {"providers": [{"name": "zip"}], "randomSamplingPercentage": percent}
    document = rendered(rule("all", "istio-system", tracing=[said]))

    assert [each for each in document["warnings"] if "is no percentage: it is left out" in each]


REFUSED_BY_ENVOY = [
    "response.code >=",
    "",
    "zork(response.code)",
    "request.path.lowerAscii() == 'a'",
    "request.path.startsWith('a', 'b')",
    "[1].exists(x, x > 1)",
    "request.path.matches('(')",
    "Zork{a: 1} == 1",
    "string(response.code) == '1'",
    "(" * 40 + "1" + ")" * 40,
    "_(1)",
]
TAKEN_BY_ENVOY = [
    "response.code >= 400 && !(request.path.startsWith('/a') || 'x' in request.headers)",
    "zork == 1",
    "has(request.headers.a) ? -1 < 2 : size(request.path) % 2 == 0",
    "request.time.getHours('UTC') > 1 && int(response.code) in [200, 404]",
    "{'a': 1}['a'] == 1 && matches(request.path, '/a.*')",
]


@pytest.mark.parametrize("expression", [*REFUSED_BY_ENVOY, *TAKEN_BY_ENVOY])
def test_a_filter_is_judged_as_envoy_judges_it(expression):
    log = {"name": "a", "filter": {"extensionFilter": {"name": "envoy.access_loggers.extension_filters.cel"}}}
    log["filter"]["extensionFilter"]["typedConfig"] = {
        "@type": "type.googleapis.com/envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter",
        "expression": expression,
    }
    log["typedConfig"] = {
        "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
        "path": "/dev/null",
    }

    refused = complaint(json.dumps({"admin": {"accessLog": [log]}}).encode())

    assert bool(not_cel(expression)) == bool(refused), refused


def test_a_log_whose_filter_envoy_would_refuse_is_not_kept_and_other_rules_hold():
    wide = rule("wide", "istio-system", accessLogging=[{"providers": [{"name": "lines"}]}])
    narrow = rule("narrow", "shop", accessLogging=[
        {"providers": [{"name": "files"}], "filter": {"expression": "response.code >="}, "match": {"mode": "CLIENT"}},
    ])  # fmt: skip

    found = rendered(wide, narrow)

    assert logs(found) == {"INBOUND": ["/dev/stderr"], "OUTBOUND": []}
    assert any("it cannot be read as CEL" in told for told in found["warnings"])


ARGUMENTS = [
    "REQ(a b)",
    "REQ(a?b?c)",
    "REQ(:path?x-a)",
    "METADATA(ZORK:a)",
    "METADATA(LISTENER:a:b)",
    "FILTER_STATE(a:ZORK)",
    "FILTER_STATE(a:FIELD:b)",
    "COMMON_DURATION(a)",
    "COMMON_DURATION(a:b:us)",
    "GRPC_STATUS(zork)",
    "GRPC_STATUS(NUMBER)",
    "PATH(zork)",
    "PATH(NQ:ORIG)",
    "QUERY_PARAMS(zork)",
    "PROTOCOL:5",
    "REQ(a):5",
    "CEL(a ==)",
    "CEL(request.headers['a'])",
    "CEL(string(1))",
    'COALESCE({"operators": []})',
    'COALESCE({"operators": ["ZORK"]})',
    'COALESCE({"operators": ["PROTOCOL", {"command": "REQ", "param": "a"}]})',
    "COALESCE(a)",
    "DOWNSTREAM_LOCAL_ADDRESS_ENDPOINT_ID(a)",
    "START_TIME(%s):4",
    "REQ(a):99999999999999999999",
]


@pytest.mark.parametrize("command", ARGUMENTS)
def test_the_arguments_of_commands_are_judged_as_envoy_judges_them(command):
    text = f"%{command}%"
    config = {
        "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
        "path": "/dev/null",
        "logFormat": {"textFormatSource": {"inlineString": text}},
    }

    refused = complaint(json.dumps({"admin": {"accessLog": [{"name": "a", "typedConfig": config}]}}).encode())

    assert bool(bad_format(text)) == bool(refused), refused


def test_a_command_may_have_quotes_in_a_format_of_json():
    fields = {"a": '%CEL(request.headers["a"])%', "b": {"c": ['%COALESCE({"operators": ["PROTOCOL"]})%']}}

    found = rendered(accessLogFile="/dev/stdout", accessLogEncoding="JSON", accessLogFormat=json.dumps(fields))

    [log] = filters(found, "http_connection_manager")[0][1]["accessLog"]
    assert log["typedConfig"]["logFormat"]["jsonFormat"] == fields
