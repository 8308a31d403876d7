"""What a control plane is told."""

from __future__ import annotations

import pytest

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
        (CONFIG | {"PILOT_REMOTE_CLUSTER_TIMEOUT": "soon"}, "'soon' is not a duration such as 30s"),
        (CONFIG | {"ISTHMUS_UNREACHABLE_NETWORKS_DIRECT": "maybe"}, "'maybe' is neither true nor false"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(environment, said):
    with pytest.raises(BadSetting, match=said):
        ControlPlaneSettings.from_environment(environment)
