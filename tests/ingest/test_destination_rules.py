"""DestinationRules as values; what is not done is told, and the rest counts."""

from __future__ import annotations

import pytest

from isthmus.ingest.durations import seconds_of
from isthmus.model.traffic import Balancing, ClientTls, ConnectionPool, OutlierDetection


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


@pytest.mark.parametrize(
    ("spec", "field", "kept"),
    [
        ({"trafficPolicy": {"tls": {"mode": "SOME"}}}, "spec.trafficPolicy.tls.mode", True),
        (
            {"trafficPolicy": {"tls": {"mode": "MUTUAL", "credentialName": "c"}}},
            "spec.trafficPolicy.tls.credentialName",
            True,
        ),
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
