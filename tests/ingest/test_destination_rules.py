"""DestinationRules as values; what is not done is told, and the rest counts."""

from __future__ import annotations

import pytest

from isthmus.assurance.rendering import node_of, render
from isthmus.assurance.scenario import scenario_of
from isthmus.model.durations import seconds_of
from isthmus.model.issues import Severity
from isthmus.model.traffic import (
    Balancing,
    ClientTls,
    ConnectionPool,
    Keepalive,
    OutlierDetection,
    Pings,
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
            "http": {
                "idleTimeout": "10s",
                "h2UpgradePolicy": "UPGRADE",
                "maxConcurrentStreams": 9,
                "http2KeepAlive": {"interval": "30s", "timeout": "5s"},
            },
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
        pings=Pings(30, 5),
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


def tcp(**said):
    return {"connectionPool": {"tcp": said}}


def http(**said):
    return {"connectionPool": {"http": said}}


def outliers(**said):
    return {"outlierDetection": said}


def hashed(**said):
    return {"loadBalancer": {"consistentHash": said}}


def warm(**said):
    return {"loadBalancer": {"warmup": {"duration": "10s"} | said}}


TOO_MANY, FOR_EVER = 2**32, "1000000h"


@pytest.mark.parametrize(
    "policy",
    [
        *(tcp(maxConnections=n) for n in (-1, TOO_MANY)),
        *(http(http1MaxPendingRequests=n) for n in (-1, TOO_MANY)),
        *(http(http2MaxRequests=n) for n in (-1, TOO_MANY)),
        *(http(maxRequestsPerConnection=n) for n in (-1, TOO_MANY)),
        *(http(maxRetries=n) for n in (-1, TOO_MANY)),
        *(http(maxConcurrentStreams=n) for n in (-1, 2**31)),
        *(tcp(tcpKeepalive={"probes": n}) for n in (-1, TOO_MANY)),
        *(tcp(tcpKeepalive={name: FOR_EVER}) for name in ("time", "interval")),
        *(tcp(connectTimeout=text) for text in ("0s", FOR_EVER)),
        *(outliers(consecutive5xxErrors=n) for n in (-1, TOO_MANY)),
        *(outliers(consecutiveGatewayErrors=n) for n in (-1, TOO_MANY)),
        *(outliers(maxEjectionPercent=n) for n in (-1, 101)),
        *(outliers(minHealthPercent=n) for n in (-1, 101)),
        *(outliers(interval=text) for text in ("0s", FOR_EVER)),
        *(outliers(baseEjectionTime=text) for text in ("0s", FOR_EVER)),
        *(hashed(useSourceIp=True, ringHash={"minimumRingSize": n}) for n in (-1, 2**23 + 1)),
        *(hashed(useSourceIp=True, maglev={"tableSize": n}) for n in (-1, 1, 65536, 5_000_077)),
        *(hashed(httpHeaderName=name) for name in ("a b", "a\nb")),
        *(hashed(httpCookie={"name": "a", "path": path}) for path in ("/;", "/\r\nSet-Cookie: b")),
        *(warm(minimumPercent=n) for n in (-1, 101)),
        warm(aggression=0.5),
        *({"retryBudget": {"percent": n}} for n in (-1, 101)),
        *({"retryBudget": {"minRetryConcurrency": n}} for n in (-1, TOO_MANY)),
        {"tls": {"mode": "SIMPLE", "sni": "x" * 256}},
        {"proxyProtocol": {"version": "V3"}},
        {"tunnel": {"targetHost": "a%b", "targetPort": 80}},
        {"tunnel": {"targetHost": "a", "targetPort": 65536}},
        *(
            {"loadBalancer": {"localityLbSetting": {"distribute": [{"from": "*", "to": {"a": n}}]}}}
            for n in (-1, 10_001)
        ),
    ],
)
def test_what_envoy_would_refuse_is_told_and_costs_nobody_the_service(mesh_of, policy):
    """Envoy refuses the whole upstream, of every caller."""
    document = mesh_of(policy)

    [warning] = document["warnings"]
    assert "until then" in warning or "use V1 or V2" in warning
    assert document["clusters"]


@pytest.fixture
def mesh_of():
    """What a caller of a service with the policy is given."""

    def rendered(policy):
        metadata = {"name": "cart", "namespace": "shop"}
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"clusterIP": "10.96.0.1", "ports": [{"name": "http", "port": 80}, {"name": "grpc", "port": 81}]},
        }
        rule = {
            "apiVersion": "networking.istio.io/v1",
            "kind": "DestinationRule",
            "metadata": metadata,
            "spec": {"host": "cart", "trafficPolicy": policy},
        }
        caller = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "caller", "namespace": "elsewhere"},
            "status": {"podIP": "10.0.0.9"},
        }
        scenario = scenario_of({"clusters": [{"id": "east", "objects": [service, rule, caller]}]})
        return render(scenario, node_of(scenario, "sidecar/caller.elsewhere", "east"))

    return rendered


@pytest.mark.parametrize("field", ["minClusterSize", "routingEnabled", "failTrafficOnPanic", "forceLocalZone"])
def test_what_zone_awareness_does_not_do_is_told(words, field):
    zones = {field: True, "failover": [{"from": "eu", "to": "us"}]}

    [rule], [issue] = read(words, trafficPolicy={"loadBalancer": {"zoneAwareLbSetting": zones}})

    assert (issue.code, issue.field) == ("ISM0401", f"spec.trafficPolicy.loadBalancer.zoneAwareLbSetting.{field}")
    assert rule.policy.locality.failover == (("eu", "us"),)


def test_a_policy_for_a_port_without_a_number_is_told(words):
    _, [issue] = read(words, trafficPolicy={"portLevelSettings": [{"tls": {"mode": "DISABLE"}}]})

    assert (issue.code, issue.field) == ("ISM0401", "spec.trafficPolicy.portLevelSettings[0]")


def test_pings_without_an_interval_are_told_and_one_without_a_timeout_has_one(words):
    [rule], issues = read(words, trafficPolicy=http(http2KeepAlive={"interval": "10s"}))
    _, [issue] = read(words, trafficPolicy=http(http2KeepAlive={"timeout": "10s"}))

    assert (rule.policy.pool.pings, issues) == (Pings(10, 10), ())
    assert issue.field == "spec.trafficPolicy.connectionPool.http.http2KeepAlive"


def test_attributes_of_a_cookie_are_given_to_callers(words):
    cookie = {"name": "user", "ttl": "0s", "attributes": [{"name": "SameSite", "value": "Strict"}, {"name": "Secure"}]}

    [rule], issues = read(words, trafficPolicy=hashed(httpCookie=cookie))

    assert issues == ()
    assert rule.policy.hash.cookie_attributes == (("SameSite", "Strict"), ("Secure", ""))


def test_what_the_mesh_says_completes_a_pool_field_by_field():
    mesh = TrafficPolicy(pool=ConnectionPool(connect_seconds=3, max_connections=7), outliers=OutlierDetection())
    own = TrafficPolicy(pool=ConnectionPool(max_connections=1))

    found = own.with_defaults(mesh)

    assert found.pool == ConnectionPool(connect_seconds=3, max_connections=1)
    assert found.outliers == OutlierDetection()


@pytest.mark.parametrize(("written", "meant"), [("", ""), ("system", ""), ("/etc/ca.pem", "/etc/ca.pem")])
def test_authorities_of_a_server_beyond_the_mesh_are_a_file_or_the_systems(words, written, meant):
    tls = {"mode": "SIMPLE", "caCertificates": written}

    [rule], issues = read(words, trafficPolicy={"tls": tls})

    assert issues == ()
    assert rule.policy.origination.ca_certificates == meant
