"""How a proxy is run: whose word counts, and what of it nothing follows."""

from __future__ import annotations

import pytest

from isthmus.model.names import Namespace
from isthmus.model.proxy_config import NOTHING_SAID, ProxyConfig, ProxyConfigRule, ProxyConfigs
from isthmus.model.proxy_config_words import read, written

EVERYTHING = {
    "concurrency": 0,
    "discoveryAddress": "istiod.istio-system.svc:15012",
    "drainDuration": "45000ms",
    "terminationDrainDuration": "5500ms",
    "holdApplicationUntilProxyStarts": False,
    "proxyMetadata": {"ISTIO_META_X": "1", "PLAIN": "2"},
    "runtimeValues": {"overload.global_downstream_max_connections": "100"},
    "proxyStatsMatcher": {"inclusionPrefixes": ["a"], "inclusionSuffixes": ["b"], "inclusionRegexps": ["c.*"]},
    "statsdUdpAddress": "10.0.0.1:8125",
    "fileFlushInterval": "250ms",
    "fileFlushMinSizeKb": 64,
    "gatewayTopology": {"numTrustedProxies": 2, "forwardClientCertDetails": "FORWARD_ONLY", "proxyProtocol": {}},
}


def test_every_word_that_is_followed_survives_the_way_to_the_agent():
    config, rest = read(EVERYTHING)

    assert rest == ()
    assert written(config) == EVERYTHING
    assert read(written(config)) == (config, ())


def test_what_is_not_said_is_not_written():
    assert written(NOTHING_SAID) == {}


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"concurrency": -1}, "not a whole number between 0 and 256"),
        ({"concurrency": True}, "not a whole number"),
        ({"concurrency": "2"}, "not a whole number"),
        ({"discoveryAddress": "nowhere"}, "not host:port"),
        ({"drainDuration": "soon"}, "not a duration"),
        ({"holdApplicationUntilProxyStarts": "yes"}, "neither true nor false"),
        ({"proxyMetadata": {"A": 1}}, "not a map of texts"),
        ({"runtimeValues": []}, "not a map of texts"),
        ({"proxyStatsMatcher": {"inclusion": ["a"]}}, "none of its fields"),
        ({"proxyStatsMatcher": {"inclusionRegexps": ["("]}}, "not a regular expression"),
        ({"proxyStatsMatcher": {"inclusionRegexps": ["a(?=b)"]}}, "RE2"),
        ({"proxyStatsMatcher": {"inclusionPrefixes": [""]}}, "not a list of texts"),
        ({"statsdUdpAddress": "statsd.monitoring:8125"}, "not an IP address"),
        ({"fileFlushInterval": "1ns"}, "shorter than a millisecond"),
        ({"gatewayTopology": {"numTrustedProxies": -1}}, "not a whole number"),
        ({"gatewayTopology": {"forwardClientCertDetails": "MAYBE"}}, "none of"),
        ({"gatewayTopology": {"forwardClientCertDetails": ["SANITIZE"]}}, "none of"),
        ({"gatewayTopology": {"forwardClientCertDetails": {"SANITIZE": 1}}}, "none of"),
        ({"proxyStatsMatcher": {"inclusionRegexps": ["a{99999999999999999999}"]}}, "not a regular expression"),
        ({"proxyStatsMatcher": {"inclusionRegexps": ["(" * 5000 + ")" * 5000]}}, "more than 1024"),
        ({"proxyStatsMatcher": {"inclusionRegexps": ["(" * 500 + ")" * 500]}}, "not a regular expression"),
        ({"fileFlushInterval": "9" * 400 + "s"}, "longer than 292 years"),
        ({"drainDuration": "9" * 11 + "s"}, "longer than 292 years"),
        ({"privateKeyProvider": {"cryptomb": {}}}, "keys are the agent's"),
    ],
)
def test_what_cannot_be_used_is_named_and_the_rest_counts(said, why):
    config, [word] = read({**said, "terminationDrainDuration": "7s"})

    assert word.field == next(iter(said))
    assert word.is_wrong
    assert why in word.why
    assert config.termination_drain_seconds == 7


@pytest.mark.parametrize("name", ["statNameLength", "meshId", "zipkinAddress", "no-such-field", "image"])
def test_what_nothing_follows_is_named(name):
    _, [word] = read({name: "x"})

    assert (word.field, word.is_wrong) == (name, False)
    assert word.why


def test_what_istio_writes_out_and_is_so_anyway_is_not_complained_about():
    usual = {
        "configPath": "./etc/istio/proxy",
        "statusPort": 15020,
        "proxyAdminPort": 15000,
        "image": {"imageType": ""},
    }

    assert read(usual) == (NOTHING_SAID, ())


def rule(name, namespace, config, selector=(), created="2030"):
    return ProxyConfigRule(created=created, namespace=Namespace(namespace), name=name, selector=selector, config=config)


def threads(number, **metadata):
    return ProxyConfig(concurrency=number, metadata=tuple(metadata.items()))


WEB = (("app", "web"),)
RULES = (
    rule("older", "shop", threads(4, B="namespace"), created="2029"),
    rule("mesh", "istio-system", threads(2, A="root")),
    rule("younger", "shop", threads(5)),
    rule("web", "shop", threads(8, C="workload"), WEB),
    rule("selected-in-root", "istio-system", threads(9), WEB),
)


@pytest.mark.parametrize(
    ("namespace", "labels", "own", "found"),
    [
        ("other", {}, NOTHING_SAID, threads(2, A="root", M="mesh")),
        ("shop", {}, NOTHING_SAID, threads(4, A="root", B="namespace", M="mesh")),
        ("shop", {}, threads(6), threads(6, A="root", B="namespace", M="mesh")),
        ("shop", {"app": "web"}, threads(6, C="own"), threads(8, A="root", B="namespace", C="workload", M="mesh")),
        ("other", {"app": "web"}, NOTHING_SAID, threads(2, A="root", M="mesh")),
    ],
)
def test_the_narrowest_word_counts_and_variables_are_gathered(namespace, labels, own, found):
    mesh = ProxyConfigs(default=threads(1, M="mesh"), rules=RULES)

    assert mesh.for_workload(namespace, labels, own) == found
