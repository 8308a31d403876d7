"""A mesh in which names come and go holds nothing of those that have gone, however long it runs."""

from __future__ import annotations

import gc
import sys
from collections import Counter

from served_meshes import imported, served
from small_meshes import Mesh, of_service

from isthmus.controlplane.derived import Block, Host, Hosted, Hosts, Shelf
from isthmus.controlplane.stocks import Stock
from isthmus.envoy.resources import Piece, Resource
from isthmus.model.names import ClusterId


def alive() -> Counter[str]:
    gc.collect()
    kinds = (Resource, Piece, Host, Hosted, Hosts, Block, Shelf, Stock)
    return Counter(type(each).__name__ for each in gc.get_objects() if type(each) in kinds)


def come_and_go(mesh: Mesh, numbers: range) -> None:
    before = mesh.clusters[0]["objects"]
    mesh.clusters[0]["objects"] = [*before, *(each for number in numbers for each in of_service(0, number, "shop"))]
    mesh.settle()
    mesh.clusters[0]["objects"] = before
    mesh.settle()


def test_services_that_have_gone_leave_nothing_behind():
    mesh = Mesh(4)
    come_and_go(mesh, range(50, 60))
    before = alive()

    for first in range(60, 120, 10):
        come_and_go(mesh, range(first, first + 10))

    assert alive() == before


async def test_names_that_have_gone_take_no_memory():
    """What was computed of them neither: 25 small objects were kept of each, in caches with room for those of weeks."""
    mesh = Mesh(4)
    world, _ = served(mesh)
    east = world.clusters[ClusterId("east")]

    def settle() -> None:
        mesh.kept.learn(world.snapshot())
        for _ in mesh.kept.settling():
            pass
        mesh.kept.changed()

    def come_and_go(numbers: range) -> None:
        for first in numbers[::25]:
            there = imported([each for number in range(first, first + 25) for each in of_service(0, number, "shop")])
            for kind, objects in there.objects.items():
                east.objects[kind].update(objects)
                world.touched(east, kind, objects)
            settle()
            for kind, objects in there.objects.items():
                for name in objects:
                    del east.objects[kind][name]
                world.touched(east, kind, objects)
            settle()

    def held() -> int:
        gc.collect()
        return sys.getallocatedblocks()

    come_and_go(range(1000, 1300))
    before = held()

    come_and_go(range(2000, 2300))

    assert held() - before < 1000
