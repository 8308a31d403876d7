"""What MeshConfig says about the mesh."""

from __future__ import annotations

import pytest

from isthmus.ingest.mesh_config import BadMeshConfig, is_cluster_local, with_mesh_config
from isthmus.model.identity import TrustDomain
from isthmus.model.names import MeshId
from isthmus.model.security import PathNormalization
from isthmus.model.snapshot import MeshSettings
from isthmus.model.traffic import (
    ConnectionPool,
    Keepalive,
    LocalityPreference,
    Nearness,
    OutlierDetection,
    Upgrade,
)

SETTINGS = MeshSettings(mesh=MeshId("m"), trust_domain=TrustDomain("cluster.local"))
DEFAULTS = (("*.kube-system.svc.cluster.local", True), ("kubernetes.default.svc.cluster.local", True))


@pytest.mark.parametrize(
    ("rules", "host", "local"),
    [
        (DEFAULTS, "dns.kube-system.svc.cluster.local", True),
        (DEFAULTS, "a.ns.svc.cluster.local", False),
        ((*DEFAULTS, ("*", True)), "a.ns.svc.cluster.local", True),
        ((*DEFAULTS, ("*", True), ("*.ns.svc.cluster.local", False)), "a.ns.svc.cluster.local", False),
        ((*DEFAULTS, ("*.kube-system.svc.cluster.local", False)), "dns.kube-system.svc.cluster.local", False),
        (
            (*DEFAULTS, ("a.ns.svc.cluster.local", True), ("*.ns.svc.cluster.local", False)),
            "a.ns.svc.cluster.local",
            True,
        ),
    ],
)
def test_the_most_specific_pattern_decides(rules, host, local):
    assert is_cluster_local(host, rules) is local


def config(words, text):
    return words.obj("ConfigMap", "istio", "istio-system", data={"mesh": text})


def test_a_mesh_config_in_the_config_cluster_counts(words):
    east = words.cluster(
        "east", config(words, "serviceSettings:\n- settings: {clusterLocal: true}\n  hosts: ['*']\n"), words.service()
    )
    west = words.cluster("west", words.service())

    [service] = words.snapshot(east, west).services.values()

    assert service.cluster_local


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", ["cannot be used"]),
        ("- a", ["cannot be used: is not an object"]),
        ("trustDomainAliases: ['a b']", ["cannot be used: trustDomainAliases"]),
        ("caCertificates: [{trustDomains: [B]}]", ["cannot be used: caCertificates[0].trustDomains"]),
        ("connectTimeout: soon", ["connectionPool.tcp.connectTimeout"]),
        ("defaultTrafficPolicy: {outlierDetection: 7}", ["cannot be used: defaultTrafficPolicy"]),
        ("serviceSettings: [7]", ["cannot be used: serviceSettings[0] is not an object"]),
        ("trustDomain: other", ["trustDomain 'other' is not the control plane's own, 'cluster.local'"]),
        ("ingressClass: istio", ["ingressClass is not read by this version"]),
    ],
)
def test_what_cannot_be_used_is_told_and_changes_nothing(words, text, said):
    snapshot = words.snapshot(words.cluster("east", config(words, text), words.service()))

    assert [issue.code for issue in snapshot.issues] == ["ISM0107"] * len(said)
    assert all(part in issue.what for issue, part in zip(snapshot.issues, said, strict=True))
    assert len(snapshot.services) == 1


def test_identities_of_trust_domains_with_authorities_of_their_own_may_connect(words):
    text = "caCertificates:\n- {pem: p}\n- {pem: q, trustDomains: [b.example, a.example, cluster.local]}\n"

    snapshot = words.snapshot(words.cluster("east", config(words, text)))

    assert [str(domain) for domain in snapshot.settings.peer_trust_domains] == ["a.example", "b.example"]


def test_what_holds_for_every_destination(words):
    text = """
connectTimeout: 3s
tcpKeepalive: {probes: 2, time: 60s}
h2UpgradePolicy: UPGRADE
defaultTrafficPolicy: {connectionPool: {tcp: {maxConnections: 7}}, outlierDetection: {consecutive5xxErrors: 4}}
"""

    policy = words.snapshot(words.cluster("east", config(words, text))).settings.traffic_policy

    assert policy.pool == ConnectionPool(
        max_connections=7, connect_seconds=3, keepalive=Keepalive(2, 60), upgrade=Upgrade.YES
    )
    assert policy.outliers == OutlierDetection(consecutive_errors=4)


def test_numbers_may_be_in_quotes_wherever_they_stand(words):
    text = """
tcpKeepalive: {probes: "2"}
defaultTrafficPolicy: {connectionPool: {tcp: {maxConnections: "7"}}}
defaultHttpRetryPolicy: {attempts: "4"}
localityLbSetting: {distribute: [{from: "eu/*", to: {"eu/*": "100"}}]}
"""

    snapshot = words.snapshot(words.cluster("east", config(words, text)))

    assert snapshot.issues == ()
    assert snapshot.settings.traffic_policy.pool == ConnectionPool(max_connections=7, keepalive=Keepalive(2))
    assert snapshot.settings.retries.attempts == 4
    assert [share for _, to in snapshot.settings.locality.distribute for _, share in to] == [100]


def test_what_is_no_number_is_told_with_its_place(words):
    text = "defaultTrafficPolicy: {connectionPool: {tcp: {maxConnections: many}}}"

    [issue] = words.snapshot(words.cluster("east", config(words, text))).issues

    assert "`connectionPool.tcp.maxConnections`" in issue.what


def test_zones_come_before_places(words):
    text = "zoneAwareLbSetting: {failover: [{from: eu, to: us}]}\nlocalityLbSetting: {failoverPriority: [a]}\n"

    found = words.snapshot(words.cluster("east", config(words, text))).settings.locality

    assert found == LocalityPreference(failover=(("eu", "us"),), nearness=Nearness.REGION)


@pytest.mark.parametrize(
    ("said", "paths"),
    [
        ({}, PathNormalization.BASE),
        ({"pathNormalization": {}}, PathNormalization.BASE),
        ({"pathNormalization": {"normalization": "DEFAULT"}}, PathNormalization.BASE),
        ({"pathNormalization": {"normalization": "NONE"}}, PathNormalization.NONE),
        (
            {"pathNormalization": {"normalization": "DECODE_AND_MERGE_SLASHES"}},
            PathNormalization.DECODE_AND_MERGE_SLASHES,
        ),
    ],
)
def test_what_policies_see_of_paths_is_the_meshs_choice(said, paths):
    assert with_mesh_config(SETTINGS, said).paths is paths


@pytest.mark.parametrize("said", ["MERGE_SLASHES", {"normalization": "merge"}, {"normalization": 1}, []])
def test_a_path_normalization_that_does_not_exist_is_refused(said):
    with pytest.raises(BadMeshConfig, match="pathNormalization"):
        with_mesh_config(SETTINGS, {"pathNormalization": said})
