"""What is known of Pods decides about tokens and about what node agents may ask for."""

from __future__ import annotations

import pytest

from isthmus.api.core import Pod
from isthmus.api.meta import ObjectMeta
from isthmus.controlplane.pods_known import may_run, pods_of
from isthmus.controlplane.world import ImportedCluster, World
from isthmus.model.identity import TrustDomain
from isthmus.model.names import ClusterId, MeshId, Namespace
from isthmus.model.snapshot import MeshSettings
from isthmus.trust.authentication import ServiceAccount

EAST, WEST = ClusterId("east"), ClusterId("west")


@pytest.fixture
def world():
    """East has `web-1`; nothing has been read of west yet."""
    found = World(MeshSettings(mesh=MeshId("m"), trust_domain=TrustDomain.parse("cluster.local")), EAST)
    east = ImportedCluster()
    east.objects = {"Pod": {("shop", "web-1"): Pod(metadata=ObjectMeta(name="web-1", namespace="shop", uid="u1"))}}
    found.put(EAST, east)
    return found


@pytest.mark.parametrize(
    ("cluster", "namespace", "pod", "there"),
    [
        (EAST, "shop", ("web-1", "u1"), True),
        (EAST, "shop", ("web-1", "u0"), False),
        (EAST, "shop", ("web-2", "u2"), False),
        (EAST, "bank", ("web-1", "u1"), False),
        (EAST, "shop", ("", ""), True),
        (WEST, "shop", ("web-1", "u1"), True),
    ],
)
def test_a_token_is_worth_something_while_its_own_pod_is_there_or_nobody_knows(world, cluster, namespace, pod, there):
    """One of the same name is another one. A token that is bound to no Pod has none that could go."""
    assert may_run(world, cluster, ServiceAccount(Namespace(namespace), "web", pod)) is there


def test_node_agents_ask_for_pods_of_one_cluster(world):
    assert [(pod.name, pod.service_account) for pod in pods_of(world, EAST)] == [("web-1", "default")]
    assert list(pods_of(world, WEST)) == []
