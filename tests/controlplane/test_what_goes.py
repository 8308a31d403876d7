"""A mesh in which names come and go holds nothing of those that have gone, however long it runs."""

from __future__ import annotations

import gc
from collections import Counter

from small_meshes import Mesh, of_service

from isthmus.controlplane.derived import Block, Host, Hosted, Hosts, Shelf
from isthmus.controlplane.stocks import Stock
from isthmus.envoy.resources import Piece, Resource


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
