"""What a control plane is told."""

from __future__ import annotations

import json
from ipaddress import ip_address

import pytest

from isthmus.controlplane.external_signer import SignerRules
from isthmus.controlplane.settings import BadSetting, ControlPlaneSettings

CONFIG = {"KUBECONFIG": "/config"}


def test_the_defaults_are_istiods():
    found = ControlPlaneSettings.from_environment(CONFIG)

    assert (found.cluster, found.mesh, str(found.trust_domain)) == ("Kubernetes", "mesh1", "cluster.local")
    assert "istiod.istio-system.svc" in found.served_names
    assert found.remote_sync_seconds == 30


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({}, "KUBECONFIG is not set"),
        (CONFIG | {"TRUST_DOMAIN": "a b"}, "TRUST_DOMAIN"),
        (CONFIG | {"ISTHMUS_STALE_CLUSTERS": "drop"}, "'drop' is none of hold, demote, withdraw"),
        (
            CONFIG | {"ISTHMUS_STALE_CLUSTERS": "withdraw", "ISTHMUS_STALE_WITHDRAW_AFTER": "10s"},
            "demoting comes first",
        ),
        (CONFIG | {"PILOT_REMOTE_CLUSTER_TIMEOUT": "soon"}, "'soon' is not a duration such as 30s"),
        (CONFIG | {"ISTHMUS_ADS_TRANSPORT": "quic"}, "'quic' is neither native nor grpc"),
        (CONFIG | {"PILOT_JWT_ENABLE_REMOTE_JWKS": "maybe"}, "'maybe' is none of hybrid"),
        (CONFIG | {"PILOT_JWT_PUB_KEY_REFRESH_INTERVAL": "0"}, "not asked more often"),
        (CONFIG | {"BLOCKED_CIDRS_IN_JWKS_URIS": "10.0.0.0/8,inside"}, "BLOCKED_CIDRS_IN_JWKS_URIS"),
        (CONFIG | {"ISTHMUS_UNREACHABLE_NETWORKS_DIRECT": "maybe"}, "'maybe' is neither true nor false"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(environment, said):
    with pytest.raises(BadSetting, match=said):
        ControlPlaneSettings.from_environment(environment)


_BOTH = {"ENABLE_MCS_SERVICE_DISCOVERY": "true", "ENABLE_MCS_HOST": "true"}


@pytest.mark.parametrize(
    ("environment", "makes"),
    [
        ({}, False),
        ({"ENABLE_MCS_HOST": "true"}, False),
        (_BOTH, True),
        (_BOTH | {"ISTHMUS_CLUSTER_SET_CONTROLLER": "false"}, False),
        ({"ISTHMUS_CLUSTER_SET_CONTROLLER": "true"}, True),
    ],
)
def test_who_makes_imports_is_this_control_plane_once_both_switches_are_on_unless_it_is_said(environment, makes):
    assert ControlPlaneSettings.from_environment(CONFIG | environment).cluster_set_controller is makes


@pytest.mark.parametrize(
    ("policy", "ages"),
    [
        ({}, (None, None)),
        ({"ISTHMUS_STALE_CLUSTERS": "demote", "ISTHMUS_STALE_DEMOTE_AFTER": "5s"}, (5.0, None)),
        ({"ISTHMUS_STALE_CLUSTERS": "withdraw"}, (60.0, 600.0)),
    ],
)
def test_what_becomes_of_stale_clusters_is_the_operators_choice(policy, ages):
    found = ControlPlaneSettings.from_environment(CONFIG | policy).stale_policy

    assert (found.demote_after, found.withdraw_after) == ages


def test_risks_of_kubeconfigs_are_accepted_by_name_and_a_time_of_zero_is_none():
    found = ControlPlaneSettings.from_environment(
        CONFIG | {"PILOT_INSECURE_MULTICLUSTER_KUBECONFIG_OPTIONS": "exec, gcp", "PILOT_REMOTE_CLUSTER_TIMEOUT": "0"}
    )

    assert found.remote_rules.allowed == {"exec", "gcp"}
    assert found.remote_sync_seconds == 0


@pytest.mark.parametrize(
    ("word", "source"),
    [("true", "hybrid"), ("hybrid", "hybrid"), ("false", "istiod"), ("istiod", "istiod"), ("envoy", "envoy")],
)
def test_who_fetches_keys_is_said_in_istios_words(word, source):
    found = ControlPlaneSettings.from_environment(CONFIG | {"PILOT_JWT_ENABLE_REMOTE_JWKS": word})

    assert found.key_source == source


RULE = {"issuer": "https://i.example", "audiences": ["mesh"], "jwksUri": "https://i.example/keys"}


def test_an_outside_issuer_is_named_with_its_audiences_and_keys():
    found = ControlPlaneSettings.from_environment({"KUBECONFIG": "k", "JWT_RULE": json.dumps(RULE)}).outside_issuer

    assert found is not None
    assert (found.issuer, found.audiences, found.jwks_uri) == ("https://i.example", ("mesh",), "https://i.example/keys")
    assert ControlPlaneSettings.from_environment({"KUBECONFIG": "k"}).outside_issuer is None


@pytest.mark.parametrize(
    "wrong",
    [
        "{",
        json.dumps(RULE | {"audiences": []}),
        json.dumps(RULE | {"issuer": ""}),
        json.dumps(RULE | {"jwksUri": ""}),
        json.dumps(RULE | {"jwks": "{}"}),
        json.dumps(RULE | {"jwksUri": "http://i.example/keys"}),
    ],
)
def test_an_outside_issuer_that_anybody_could_be_is_refused(wrong):
    with pytest.raises(BadSetting, match="JWT_RULE"):
        ControlPlaneSettings.from_environment({"KUBECONFIG": "k", "JWT_RULE": wrong})


@pytest.mark.parametrize(("environment", "is_blocked"), [({}, True), ({"BLOCKED_CIDRS_IN_JWKS_URIS": ""}, False)])
def test_tenants_do_not_have_the_control_plane_ask_its_own_machine_unless_it_is_said(environment, is_blocked):
    blocked = ControlPlaneSettings.from_environment({"KUBECONFIG": "k"} | environment).key_fetching.blocked

    for address in ("127.0.0.1", "::1", "169.254.169.254", "fe80::1"):
        assert any(ip_address(address) in each for each in blocked) is is_blocked
    assert not any(ip_address("10.0.0.1") in each for each in blocked)


SIGNED = {"KUBECONFIG": "k", "EXTERNAL_CA": "ISTIOD_RA_KUBERNETES_API", "K8S_SIGNER": "a.example/mesh"}


@pytest.mark.parametrize(
    ("more", "rules"),
    [
        ({}, SignerRules(workloads="a.example/mesh", own="a.example/mesh")),
        ({"PILOT_CERT_PROVIDER": "k8s.io/b.example/own"}, SignerRules(workloads="a.example/mesh", own="b.example/own")),
        (
            {"CERT_SIGNER_DOMAIN": "a.example"},
            SignerRules(workloads="a.example/mesh", own="a.example/mesh", domain="a.example"),
        ),
        ({"EXTERNAL_CA": ""}, None),
    ],
)
def test_an_external_signer_is_named_in_istios_words(more, rules):
    assert ControlPlaneSettings.from_environment(SIGNED | more).signer == rules


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"EXTERNAL_CA": "VAULT"}, "EXTERNAL_CA"),
        ({"K8S_SIGNER": ""}, "K8S_SIGNER"),
        ({"ROOT_CA_DIR": "/etc/cacerts"}, "ROOT_CA_DIR"),
        ({"PILOT_CERT_PROVIDER": "custom"}, "PILOT_CERT_PROVIDER"),
        ({"EXTERNAL_CA": "", "PILOT_CERT_PROVIDER": "k8s.io/a.example/own"}, "PILOT_CERT_PROVIDER"),
    ],
)
def test_half_of_an_external_signer_is_refused(more, named):
    with pytest.raises(BadSetting, match=named):
        ControlPlaneSettings.from_environment(SIGNED | more)
