"""The world: what is known now, and that nothing which changes is overlooked."""

from __future__ import annotations

from isthmus.controlplane.world import ImportedCluster, World
from isthmus.model.identity import TrustDomain
from isthmus.model.names import ClusterId, MeshId, Namespace
from isthmus.model.snapshot import MeshSettings
from isthmus.model.topology import ImportState

EAST = ClusterId("east")


def test_a_drain_that_begins_while_no_object_changes_is_in_the_next_snapshot():
    settings = MeshSettings(
        mesh=MeshId("mesh1"), trust_domain=TrustDomain("cluster.local"), root_namespace=Namespace("istio-system")
    )
    world, east = World(settings, EAST), ImportedCluster()
    east.state = ImportState.LIVE
    world.put(EAST, east)
    before = world.snapshot().clusters[EAST].share

    world.set_shares({EAST: 0})

    assert world.changed.is_set()
    assert (before, world.snapshot().clusters[EAST].share) == (100, 0)
