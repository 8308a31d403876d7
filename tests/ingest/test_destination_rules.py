"""DestinationRules as values; what is not done is told, and the rest counts."""

from __future__ import annotations

import pytest

from isthmus.model.durations import seconds_of
from isthmus.model.issues import Severity
from isthmus.model.traffic import (
    Balancing,
    ClientTls,
    ConnectionPool,
    Keepalive,
    OutlierDetection,
    RetryBudget,
    TrafficPolicy,
    Tunnel,
    Upgrade,
    Warmup,
)


def read(words, **spec):
    snapshot = words.snapshot(words.cluster("east", words.obj("DestinationRule", "r", "ns", spec={"host": "s"} | spec)))
    return snapshot.destination_rules, snapshot.issues


def test_everything_that_is_done(words):
    policy = {
        "loadBalancer": {"simple": "ROUND_ROBIN"},
        "connectionPool": {
            "tcp": {"maxConnections": 5, "connectTimeout": "1m30s"},
            "http": {"http1MaxPendingRequests": 1, "http2MaxRequests": 2, "maxRequestsPerConnection": 3, "maxRetries": 4},
        },
        "outlierDetection": {"consecutive5xxErrors": 0, "interval": "500ms", "baseEjectionTime": "1h", "maxEjectionPercent": 50},
        "tls": {"mode": "ISTIO_MUTUAL"},
        "portLevelSettings": [{"port": {"number": 81}, "tls": {"mode": "DISABLE"}}],
    }  # fmt: skip

    [rule], issues = read(
        words, trafficPolicy=policy, subsets=[{"name": "v1", "labels": {"version": "v1"}}], exportTo=["."]
    )

    assert issues == ()
    assert rule.host == "s.ns.svc.cluster.local"
    assert rule.policy.balancing is Balancing.ROUND_ROBIN
    assert rule.policy.pool == ConnectionPool(
        max_connections=5,
        connect_seconds=90,
        max_pending_requests=1,
        max_requests=2,
        max_requests_per_connection=3,
        max_retries=4,
    )
    assert rule.policy.outliers == OutlierDetection(
        consecutive_errors=0, interval_seconds=0.5, base_ejection_seconds=3600, max_ejection_percent=50
    )
    assert rule.policy.tls is ClientTls.ISTIO_MUTUAL
    assert [(port, policy.tls) for port, policy in rule.port_policies] == [(81, ClientTls.DISABLE)]
    assert [(subset.name, subset.labels) for subset in rule.subsets] == [("v1", (("version", "v1"),))]


def test_a_secret_is_for_sidecars_where_the_rule_chooses_them_and_else_for_gateways_which_is_told(words):
    tls = {"mode": "MUTUAL", "credentialName": "c"}

    [chosen], nothing = read(words, trafficPolicy={"tls": tls}, workloadSelector={"matchLabels": {"app": "a"}})
    [of_all], [told] = read(words, trafficPolicy={"tls": tls})

    assert (chosen.policy.origination.for_sidecars, nothing) == (True, ())
    assert (of_all.policy.origination.credential, of_all.policy.origination.for_sidecars) == ("c", False)
    assert (told.severity, told.field) == (Severity.INFO, "spec.trafficPolicy.tls.credentialName")


@pytest.mark.parametrize(
    ("spec", "field", "kept"),
    [
        ({"trafficPolicy": {"tls": {"mode": "SOME"}}}, "spec.trafficPolicy.tls.mode", True),
        (
            {"trafficPolicy": {"connectionPool": {"tcp": {"connectTimeout": "soon"}}}},
            "spec.trafficPolicy.connectionPool.tcp.connectTimeout",
            True,
        ),
        (
            {"subsets": [{"name": "a", "trafficPolicy": {"portLevelSettings": [{"port": 7}]}}]},
            "spec.subsets[0].trafficPolicy.portLevelSettings[0]",
            True,
        ),
    ],
)
def test_what_is_not_done_is_told(words, spec, field, kept):
    rules, [issue] = read(words, **spec)

    assert (issue.code, issue.field) == ("ISM0401", field)
    assert bool(rules) is kept


@pytest.mark.parametrize(
    ("text", "seconds"), [("10s", 10), ("1h30m", 5400), ("1.5s", 1.5), ("250ms", 0.25), ("100us", 1e-4)]
)
def test_durations(text, seconds):
    assert seconds_of(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "10", "s", "10 s", "-1s", "1d"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match="is not a duration"):
        seconds_of(text)


def test_connections_in_full(words):
    policy = {
        "loadBalancer": {"warmup": {"duration": "30s", "minimumPercent": 20, "aggression": 2}},
        "connectionPool": {
            "tcp": {
                "tcpKeepalive": {"probes": 3, "time": "2m", "interval": "10s"},
                "maxConnectionDuration": "1h",
                "idleTimeout": "5m",
            },
            "http": {"idleTimeout": "10s", "h2UpgradePolicy": "UPGRADE", "maxConcurrentStreams": 9},
        },
        "outlierDetection": {"splitExternalLocalOriginErrors": True, "consecutiveLocalOriginFailures": 3},
        "tunnel": {"protocol": "POST", "targetHost": "far.example", "targetPort": 443},
        "proxyProtocol": {"version": "V2"},
        "retryBudget": {"percent": 12.5},
    }

    [rule], issues = read(words, trafficPolicy=policy)

    assert issues == ()
    found = rule.policy
    assert found.pool == ConnectionPool(
        keepalive=Keepalive(3, 120, 10),
        max_connection_seconds=3600,
        tcp_idle_seconds=300,
        idle_seconds=10,
        upgrade=Upgrade.YES,
        max_concurrent_streams=9,
    )
    assert found.warmup == Warmup(30, 20, 2)
    assert found.outliers == OutlierDetection(split=True, consecutive_local_failures=3)
    assert (found.tunnel, found.proxy_protocol) == (Tunnel("far.example:443", by_post=True), "V2")
    assert found.retry_budget == RetryBudget(12.5, 3)


@pytest.mark.parametrize(
    ("policy", "field"),
    [
        ({"tunnel": {"targetHost": "a"}}, "spec.trafficPolicy.tunnel"),
        (
            {"connectionPool": {"http": {"h2UpgradePolicy": "SOON"}}},
            "spec.trafficPolicy.connectionPool.http.h2UpgradePolicy",
        ),
    ],
)
def test_what_cannot_be_used_of_connections_is_told(words, policy, field):
    [rule], [issue] = read(words, trafficPolicy=policy)

    assert (issue.code, issue.field, rule.policy.tunnel) == ("ISM0401", field, None)


def test_what_the_mesh_says_completes_a_pool_field_by_field():
    mesh = TrafficPolicy(pool=ConnectionPool(connect_seconds=3, max_connections=7), outliers=OutlierDetection())
    own = TrafficPolicy(pool=ConnectionPool(max_connections=1))

    found = own.with_defaults(mesh)

    assert found.pool == ConnectionPool(connect_seconds=3, max_connections=1)
    assert found.outliers == OutlierDetection()
