"""What draining a cluster would do to each service."""

from __future__ import annotations

from isthmus.assurance.draining import effects


def slice_of(service: str, *ready: bool, namespace: str = "shop") -> dict:
    return {
        "metadata": {"namespace": namespace, "labels": {"kubernetes.io/service-name": service}},
        "endpoints": [{"conditions": {"ready": value}} for value in ready],
    }


def service(name: str, namespace: str = "shop", **spec: str) -> dict:
    return {"metadata": {"namespace": namespace, "name": name}, "spec": spec}


def test_each_service_moves_or_stays_with_the_reason():
    slices = {
        "west": [
            slice_of("web", True, True),
            slice_of("only-here", True),
            slice_of("gone-elsewhere", True),
            slice_of("db", True),
            slice_of("idle", False),
            slice_of("istiod", True, namespace="istio-system"),
        ],
        "east": [slice_of("web", True, False), slice_of("gone-elsewhere", False), slice_of("db", True)],
    }
    names = ("web", "only-here", "gone-elsewhere", "idle")
    services = {"west": [*map(service, names), service("db", clusterIP="None"), service("istiod", "istio-system")]}

    found = effects("west", slices, services)

    assert [(effect.service, effect.here, effect.elsewhere, effect.what.partition(":")[0]) for effect in found] == [
        ("db", 1, 1, "stays"),
        ("gone-elsewhere", 1, 0, "stays"),
        ("only-here", 1, 0, "stays"),
        ("web", 2, 1, "moves"),
    ]
