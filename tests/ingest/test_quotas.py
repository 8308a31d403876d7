"""A namespace adds no more to what all others are given than its quota says: the oldest stay, others' objects are untouched."""

from __future__ import annotations

from typing import Any

import pytest

from isthmus.api.registry import KINDS
from isthmus.ingest.cache import IngestCache
from isthmus.ingest.quotas import RESOURCES, refusal
from isthmus.model.names import ClusterId
from isthmus.model.quotas import QuotaUse

EAST = ClusterId("east")


def namespace(words, name: str, quota: str = "") -> dict[str, Any]:
    found = words.obj("Namespace", name, "")
    found["metadata"]["annotations"] = {"isthmus.io/quota": quota} if quota else {}
    return found


def born(obj: dict[str, Any], day: int) -> dict[str, Any]:
    obj["metadata"]["creationTimestamp"] = f"2026-01-{day:02}T00:00:00Z"
    return obj


def route(words, name: str, day: int = 1, namespace: str = "shop", **spec: Any) -> dict[str, Any]:
    http = [{"route": [{"destination": {"host": name}}]}]
    return born(words.obj("VirtualService", name, namespace, spec={"hosts": [name], "http": http, **spec}), day)


def service(words, name: str, day: int = 1, namespace: str = "shop", **annotations: str) -> dict[str, Any]:
    found = words.service(name)
    found["metadata"] |= {
        "namespace": namespace,
        "annotations": {f"networking.istio.io/{k}": v for k, v in annotations.items()},
    }
    return born(found, day)


def seen(snapshot) -> dict[str, tuple[str, ...]]:
    return {f"{rule.namespace}/{rule.name}": rule.export_to for rule in snapshot.virtual_services}


def told(snapshot) -> dict[str, str]:
    return {str(issue.subject): issue.what for issue in snapshot.issues if issue.code == "ISM0120"}


def test_the_youngest_routes_over_the_quota_stay_at_home_and_are_told(words):
    mesh = words.cluster(
        "east",
        namespace(words, "shop", "virtualservices=2"),
        namespace(words, "bank"),
        route(words, "old", 1), route(words, "young", 3), route(words, "middle", 2),
        *(route(words, name, 9, "bank") for name in ("a", "b", "c")),
    )  # fmt: skip

    found = words.snapshot(mesh)

    assert seen(found) == {
        "shop/old": (), "shop/middle": (), "shop/young": (".",), "bank/a": (), "bank/b": (), "bank/c": (),
    }  # fmt: skip
    assert list(told(found)) == ["VirtualService shop/young in east"]
    assert (
        "there are 3 virtualservices of namespace shop that others see, and its quota is 2" in told(found).popitem()[1]
    )
    assert found.quotas == (QuotaUse(namespace="shop", resource="virtualservices", used=3, allowed=2),)


def test_what_stays_at_home_by_itself_does_not_count(words):
    private = [route(words, f"p{i}", 1, exportTo=[export]) for i, export in enumerate((".", "shop", "~"))]

    found = words.snapshot(
        words.cluster("east", namespace(words, "shop", "virtualservices=1"), *private, route(words, "r", 9))
    )

    assert told(found) == {}
    assert [use.used for use in found.quotas] == [1]


def test_where_mesh_config_keeps_routes_at_home_only_those_that_say_otherwise_count(words):
    config = words.obj("ConfigMap", "istio", "istio-system", data={"mesh": "defaultVirtualServiceExportTo: ['.']"})
    shop = namespace(words, "shop", "virtualservices=0")

    found = words.snapshot(
        words.cluster("east", config, shop, route(words, "silent"), route(words, "loud", exportTo=["*"]))
    )

    assert list(told(found)) == ["VirtualService shop/loud in east"]


def test_the_system_namespace_says_what_holds_for_all_and_a_namespace_for_itself(words):
    names = ("shop", "bank", "zoo", "istio-system")
    mesh = words.cluster(
        "east",
        namespace(words, "istio-system", "virtualservices=1, serviceentries=5"),
        namespace(words, "shop"),
        namespace(words, "bank", "virtualservices=2"),
        namespace(words, "zoo", "virtualservices=unlimited"),
        *(route(words, f"r{day}", day, name) for name in names for day in (1, 2, 3)),
    )

    found = words.snapshot(mesh)

    assert [(use.namespace, use.used, use.allowed) for use in found.quotas if use.resource == "virtualservices"] == [
        ("bank", 3, 2),
        ("shop", 3, 1),
    ]
    assert {use.namespace for use in found.quotas if use.resource == "serviceentries"} == {"bank", "shop", "zoo"}


def test_a_quota_that_cannot_be_read_is_told_and_the_rest_of_it_counts(words):
    text = "virtualservices=1, routes=3, services=-1, serviceentries=many"

    found = words.snapshot(
        words.cluster("east", namespace(words, "shop", text), route(words, "a"), route(words, "b", 2))
    )

    wrong = [issue.what for issue in found.issues if issue.code == "ISM0121"]
    assert [part.split("'")[1] for part in wrong] == ["routes=3", "serviceentries=many", "services=-1"]
    assert list(told(found)) == ["VirtualService shop/b in east"]


def test_a_service_of_two_clusters_counts_once_and_the_youngest_stay_in_their_namespace(words):
    east = words.cluster(
        "east",
        namespace(words, "shop", "services=1"),
        service(words, "web", 5), service(words, "new", 6), service(words, "private", 1, exportTo="."),
        service(words, "other", 9, "bank"),
    )  # fmt: skip
    west = words.cluster("west", service(words, "web", 7))

    found = words.snapshot(east, west)

    exported = {service.name: service.export_to for service in found.services.values()}
    assert exported == {"web": (), "new": (".",), "private": (".",), "other": ()}
    assert list(told(found)) == ["Service shop/new in east"]
    assert found.service_quotas == (QuotaUse(namespace="shop", resource="services", used=2, allowed=1),)


def test_routes_of_gateway_api_over_the_quota_are_left_out(words):
    api = "gateway.networking.k8s.io/v1"
    spec = {
        "parentRefs": [{"kind": "Service", "group": "", "name": "web"}],
        "rules": [{"backendRefs": [{"name": "web", "port": 80}]}],
    }
    routes = [
        born(words.obj("HTTPRoute", name, "shop", apiVersion=api, spec=spec), day) for name, day in (("a", 2), ("b", 1))
    ]

    found = words.snapshot(
        words.cluster("east", namespace(words, "shop", "httproutes=1"), service(words, "web"), *routes)
    )

    assert list(told(found)) == ["HTTPRoute shop/a in east"]
    assert {rule.name for rule in found.virtual_services if "a" in rule.name.split(".")} == set()
    assert len(found.virtual_services) == 1


def test_policies_over_the_quota_are_told_and_hold(words):
    policies = [born(words.obj("AuthorizationPolicy", name, "shop", spec={"action": "DENY", "rules": [{}]}), day)
                for day, name in enumerate(("a", "b"), 1)]  # fmt: skip

    found = words.snapshot(words.cluster("east", namespace(words, "shop", "authorizationpolicies=1"), *policies))

    assert {policy.name for policy in found.authorization_policies} == {"a", "b"}
    assert list(told(found)) == ["AuthorizationPolicy shop/b in east"]


def test_an_object_that_stays_over_the_quota_is_the_same_value_in_the_next_round(words):
    """So that a change elsewhere computes nothing of it again."""
    cache = IngestCache()
    mesh = words.cluster(
        "east", namespace(words, "shop", "virtualservices=0, services=0"), route(words, "r"), service(words, "s")
    )

    before, after = words.snapshot(mesh, cache=cache), words.snapshot(mesh, cache=cache)

    assert before.virtual_services[0] is after.virtual_services[0]
    assert list(map(id, before.services.values())) == list(map(id, after.services.values()))


@pytest.mark.parametrize("resource", sorted(RESOURCES))
def test_resources_are_called_what_api_servers_call_them(resource):
    assert resource in {kind.plural for kind in KINDS.values()}


def asked(words, mesh, obj, *others) -> str:
    [(kind, found)] = [
        (kind, each) for kind, by_name in words.cluster("x", obj).objects.items() for each in by_name.values()
    ]
    return refusal(kind, found, [mesh, *others], EAST, words.snapshot(mesh).settings)


def test_one_more_than_the_quota_is_refused_with_what_there_is_and_what_to_do(words):
    mesh = words.cluster("east", namespace(words, "shop", "virtualservices=1"), route(words, "there"))

    assert asked(words, mesh, route(words, "more")) == (
        'there are 1 virtualservices of namespace shop that others see, and its quota is 1: delete one, give it exportTo: ["."], or have '
        "the mesh's administrator raise virtualservices in the annotation isthmus.io/quota of the Namespace"
    )
    assert asked(words, mesh, route(words, "more", exportTo=["."])) == ""
    assert asked(words, mesh, route(words, "there", hosts=["changed"])) == "", "it counts already"
    assert asked(words, mesh, route(words, "more", namespace="bank")) == ""


def test_a_service_that_another_cluster_has_already_is_not_one_more(words):
    mesh = words.cluster("east", namespace(words, "shop", "services=1"))
    west = words.cluster("west", service(words, "web"))

    assert asked(words, mesh, service(words, "web"), west) == ""
    assert "there are 1 services" in asked(words, mesh, service(words, "other"), west)
