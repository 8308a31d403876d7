"""Rules of several control planes in one cluster: whose is whose."""

from __future__ import annotations

import pytest

from isthmus.api.core import Service
from isthmus.api.meta import KubernetesObject, ObjectMeta
from isthmus.ingest.inputs import ClusterInput
from isthmus.ingest.revisions import is_of, revisions_of
from isthmus.model.identity import TrustDomain
from isthmus.model.names import ClusterId, MeshId
from isthmus.model.snapshot import MeshSettings
from isthmus.model.topology import ImportState


def names_of(revision: str, *tags: tuple[str, str, str]) -> frozenset[str]:
    """With Services (namespace, tag, revision)."""
    services = {
        (namespace, f"istiod-{tag}"): Service(
            metadata=ObjectMeta(
                name=f"istiod-{tag}", namespace=namespace, labels={"istio.io/tag": tag, "istio.io/rev": leads_to}
            )
        )
        for namespace, tag, leads_to in tags
    }
    settings = MeshSettings(mesh=MeshId("m"), trust_domain=TrustDomain("cluster.local"), revision=revision)
    cluster = ClusterInput(id=ClusterId("c1"), state=ImportState.LIVE, objects={"Service": services})
    return revisions_of(cluster, settings)


def test_a_control_plane_goes_by_its_revision_and_by_the_tags_that_lead_to_it():
    tags = (("istio-system", "prod", "stable"), ("istio-system", "test", "canary"), ("shop", "fake", "stable"))

    assert names_of("stable", *tags) == {"stable", "prod"}
    assert names_of("canary", *tags) == {"canary", "test"}


@pytest.mark.parametrize(
    ("label", "revisions", "expected"),
    [
        ("", {"stable"}, True),
        ("stable", {"stable"}, True),
        ("prod", {"stable", "prod"}, True),
        ("canary", {"stable", "prod"}, False),
        ("canary", set(), True),
    ],
)
def test_a_rule_without_a_label_is_everybody_s(label, revisions, expected):
    rule = KubernetesObject(metadata=ObjectMeta(name="r", labels={"istio.io/rev": label} if label else {}))

    assert is_of(rule, frozenset(revisions)) is expected
