"""What a service says of itself."""

from __future__ import annotations

import pytest

from isthmus.model.names import ClusterId, Hostname, MeshId, Namespace
from isthmus.model.services import Service


@pytest.mark.parametrize(
    ("said", "kind", "name"),
    [
        ({}, "Service", "shop/hello"),
        ({"registry": "External", "entry": "partner"}, "ServiceEntry", "shop/partner"),
        ({"name": "hello.shop.svc.clusterset.local", "entry": "hello"}, "ServiceImport", "shop/hello"),
        ({"registry": "External", "entry": "partner", "mesh": MeshId("bank")}, "MeshPeer", "partner"),
    ],
)
def test_a_service_knows_the_object_that_declares_it(said, kind, name):
    service = Service(
        **{
            "namespace": Namespace("shop"),
            "hostname": Hostname("hello.shop.svc.cluster.local"),
            "name": "hello",
            "ports": (),
            "virtual_ips": (),
            "headless": False,
            "cluster_local": False,
            "declared_in": (ClusterId("east"),),
        }
        | said
    )

    assert str(service.origin) == f"{kind} {name}"
