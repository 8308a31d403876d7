"""What a control plane is told, and what it makes of remote secrets."""

from __future__ import annotations

import base64

import msgspec
import pytest

from isthmus.api.core import Secret
from isthmus.controlplane.remote_secrets import remote_clusters
from isthmus.controlplane.settings import BadSetting, ControlPlaneSettings
from isthmus.kubernetes.kubeconfig import ContextEntry, render
from isthmus.model.names import ClusterId

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
        (CONFIG | {"PILOT_REMOTE_CLUSTER_TIMEOUT": "soon"}, "'soon' is not a duration such as 30s"),
        (CONFIG | {"ISTHMUS_UNREACHABLE_NETWORKS_DIRECT": "maybe"}, "'maybe' is neither true nor false"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(environment, said):
    with pytest.raises(BadSetting, match=said):
        ControlPlaneSettings.from_environment(environment)


def secret(name: str, created: str = "2026-01-01T00:00:00Z", **clusters: str) -> Secret:
    body = {
        "metadata": {"name": name, "namespace": "istio-system", "creationTimestamp": created},
        "data": {cluster: base64.b64encode(text.encode()).decode() for cluster, text in clusters.items()},
    }
    return msgspec.json.decode(msgspec.json.encode(body), type=Secret)


def kubeconfig(token: str = "t") -> str:
    return render([ContextEntry(name="c", server="https://10.0.0.1:6443", ca_pem="", token=token)])


def test_each_entry_of_a_secret_is_a_cluster_but_not_ones_own():
    wanted, issues = remote_clusters(
        [secret("s", west=kubeconfig(), east=kubeconfig(), north=kubeconfig())], ClusterId("east")
    )

    assert sorted(wanted) == ["north", "west"]
    assert issues == []


def test_the_older_secret_wins_a_cluster():
    newer = secret("a", "2026-02-01T00:00:00Z", west=kubeconfig("new"))
    older = secret("b", "2026-01-01T00:00:00Z", west=kubeconfig("old"))

    wanted, [issue] = remote_clusters([newer, older], ClusterId("east"))

    assert wanted[ClusterId("west")].secret == "istio-system/b"
    assert (issue.code, issue.subject.name, issue.field) == ("ISM0201", "a", "data.west")


def test_a_bad_kubeconfig_is_told_and_touches_no_other_cluster():
    wanted, [issue] = remote_clusters([secret("s", bad="{", west=kubeconfig())], ClusterId("east"))

    assert list(wanted) == ["west"]
    assert "cluster bad is not discovered: not YAML" in issue.what


def test_an_unchanged_kubeconfig_is_known_by_its_digest():
    first, _ = remote_clusters([secret("s", west=kubeconfig())], ClusterId("east"))
    same, _ = remote_clusters([secret("other", west=kubeconfig())], ClusterId("east"))
    changed, _ = remote_clusters([secret("s", west=kubeconfig("new"))], ClusterId("east"))

    west = ClusterId("west")
    assert first[west].digest == same[west].digest != changed[west].digest
    assert "t" not in repr(first[west].address).split("'")
