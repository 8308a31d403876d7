"""The world: what is known now, and that nothing which changes is overlooked."""

from __future__ import annotations

import generated_meshes
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.controlplane.world import ImportedCluster, World
from isthmus.ingest.cache import IngestCache
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


@settings(deadline=None, max_examples=60)
@given(generated_meshes.histories, st.lists(st.lists(generated_meshes.changes, max_size=2), min_size=1, max_size=8))
def test_what_the_world_shows_is_what_reading_it_anew_would_show(before, rounds):
    """Whatever kinds of objects change: endpoints alone, rules alone, or what makes it read everything again."""
    truth = generated_meshes.World(before)
    world = World(truth.settings, ClusterId(generated_meshes.CONFIG))
    for found in truth.inputs():
        imported = ImportedCluster()
        imported.state = ImportState.LIVE
        imported.objects = {kind: dict(objects) for kind, objects in found.objects.items()}
        world.put(found.id, imported)

    for happened in ((), *rounds):
        for cluster, goes, (kind, body) in happened:
            truth.happens(cluster, goes, (kind, body))
            imported = world.clusters[ClusterId(cluster)]
            name = (body["metadata"]["namespace"], body["metadata"]["name"])
            imported.objects.setdefault(kind, {}).pop(name, None)
            if not goes:
                imported.objects[kind][name] = truth.objects[cluster, kind, *name]
            world.touched(imported, kind, [name])

        assert world.snapshot() == truth.reading(IngestCache()).snapshot
