"""The controller of the Multi-Cluster Services API as a function: exports of all clusters in, one cluster's imports and conditions out."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import msgspec
import pytest

from isthmus.api.registry import KINDS
from isthmus.assurance.cluster_set import MANAGED_BY, MANAGER, ClusterSetPlan, cluster_set_plan
from isthmus.ingest import allocation
from isthmus.ingest.inputs import ClusterInput
from isthmus.model.names import ClusterId
from isthmus.model.topology import ImportState

NOW = "2026-01-02T00:00:00Z"
OURS = {MANAGED_BY: MANAGER}


def obj(kind: str, name: str = "hello", namespace: str = "shop", **said: Any) -> tuple[str, Any]:
    metadata = {"name": name, "namespace": namespace, "resourceVersion": "7", **said.pop("metadata", {})}
    return kind, msgspec.convert({"metadata": metadata, **said}, KINDS[kind].type)


def service(*ports: dict[str, Any], name: str = "hello", **spec: Any) -> tuple[str, Any]:
    found = list(ports) or [{"name": "http", "port": 80}]
    return obj("Service", name, spec={"clusterIP": "10.96.0.10", "ports": found, **spec})


def export(day: int, name: str = "hello", **said: Any) -> tuple[str, Any]:
    return obj(
        "ServiceExport", name, metadata={"creationTimestamp": f"2026-01-{day:02}T00:00:00Z", "generation": 3}, **said
    )


def cluster(name: str, *objects: tuple[str, Any], namespaces: tuple[str, ...] = ("shop",)) -> ClusterInput:
    found: dict[str, dict[tuple[str, str], object]] = {}
    for namespace in namespaces:
        found.setdefault("Namespace", {})["", namespace] = obj("Namespace", namespace, "")[1]
    for kind, each in objects:
        found.setdefault(kind, {})[each.metadata.namespace, each.metadata.name] = each
    return ClusterInput(id=ClusterId(name), state=ImportState.LIVE, objects=found)


def plan(*clusters: ClusterInput, own: str = "") -> ClusterSetPlan:
    return cluster_set_plan(clusters, ClusterId(own) or clusters[0].id, "clusterset.local", NOW)


def ports(found: ClusterSetPlan) -> list[str]:
    [wanted] = found.imports
    return [f"{port.name} {port.port}/{port.protocol}" for port in wanted.spec.ports]


def told(found: ClusterSetPlan) -> dict[str, tuple[str, str]]:
    [status] = found.statuses
    return {each["type"]: (each["status"], each["reason"]) for each in status.status["conditions"]}


def message(found: ClusterSetPlan, kind: str = "Conflict") -> str:
    [status] = found.statuses
    return next(each["message"] for each in status.status["conditions"] if each["type"] == kind)


def readiness(wanted: Any) -> tuple[str, str]:
    [condition] = wanted.status["conditions"]
    assert condition["type"] == "Ready"
    return condition["status"], condition["reason"]


def as_made(found: ClusterSetPlan) -> list[tuple[str, Any]]:
    """The imports as they are once they have been written."""
    return [
        obj(
            "ServiceImport",
            each.name,
            each.namespace,
            metadata={"labels": OURS},
            spec=msgspec.to_builtins(each.spec),
            status=each.status,
        )
        for each in found.imports
    ]


def test_a_service_that_one_cluster_exports_has_an_import_in_every_cluster_with_its_namespace():
    east, west = cluster("east", service(), export(1)), cluster("west")

    [here], [there] = plan(east, west).imports, plan(east, west, own="west").imports

    assert here.spec == there.spec
    assert (here.spec.type, here.spec.session_affinity) == ("ClusterSetIP", "None")
    assert here.status == there.status
    assert here.status["clusters"] == [{"cluster": "east"}]
    assert readiness(here) == ("True", "Ready")
    assert ip_address(here.spec.ips[0]) in ip_network("240.241.0.0/16")
    assert plan(east, cluster("west", namespaces=("other",)), own="west").imports == ()


def test_nothing_is_left_to_do_once_it_is_done():
    before = plan(cluster("east", service(), export(1)))
    done = export(1, status=before.statuses[0].status)

    after = plan(cluster("east", service(), done, *as_made(before)))

    assert (after.imports, after.gone, after.statuses) == ((), (), ())


def test_an_import_goes_with_the_last_export():
    east, west = cluster("east", service(), export(1)), cluster("west", service(), export(2))
    [made] = as_made(plan(east, west))

    one_left = plan(cluster("east", service(), made), west)
    none_left = plan(cluster("east", service(), made), cluster("west", service()))

    assert [each.status["clusters"] for each in one_left.imports] == [[{"cluster": "west"}]]
    assert [each.metadata.name for each in none_left.gone] == ["hello"]


def test_another_controller_s_imports_are_left_alone():
    theirs = obj("ServiceImport", spec={"type": "ClusterSetIP", "ips": ["10.112.0.1"], "ports": []})

    exported = plan(cluster("east", service(), export(1), theirs))
    not_exported = plan(cluster("east", service(), theirs))

    assert (exported.imports, exported.gone, not_exported.gone) == ((), (), ())


def test_ports_are_the_union_of_all_exports_and_differing_sets_are_no_conflict():
    east = cluster("east", service({"name": "http", "port": 80}), export(1))
    west = cluster("west", service({"name": "grpc", "port": 9000}, {"name": "http", "port": 80}), export(2))

    found = plan(east, west)

    assert ports(found) == ["http 80/TCP", "grpc 9000/TCP"]
    assert told(found) == {
        "Valid": ("True", "Valid"),
        "Ready": ("True", "Exported"),
        "Conflict": ("False", "NoConflicts"),
    }


@pytest.mark.parametrize(
    ("younger", "shown"),
    [
        ({"name": "http", "port": 8080}, "http 8080/TCP"),
        ({"name": "web", "port": 80}, "web 80/TCP"),
        ({"name": "http", "port": 80, "appProtocol": "kubernetes.io/h2c"}, "http 80/TCP (kubernetes.io/h2c)"),
    ],
)
def test_where_ports_are_at_odds_the_oldest_export_counts_and_every_exporter_is_told(younger, shown):
    east = cluster("east", service(younger), export(2))
    west = cluster("west", service({"name": "http", "port": 80}), export(1))

    here, there = plan(east, west), plan(east, west, own="west")

    assert ports(here) == ports(there) == ["http 80/TCP"]
    assert (
        told(here)
        == told(there)
        == {
            "Valid": ("True", "Valid"),
            "Ready": ("True", "Exported"),
            "Conflict": ("True", "PortConflict"),
        }
    )
    assert message(here) == f"ports: {shown} of east gives way to http 80/TCP of west"


def test_exports_of_one_age_count_in_the_order_of_their_clusters():
    east = cluster("east", service({"name": "http", "port": 80}), export(1))
    west = cluster("west", service({"name": "http", "port": 81}), export(1))

    assert ports(plan(east, west)) == ports(plan(west, east)) == ["http 80/TCP"]


def test_the_oldest_export_says_whether_it_is_headless_and_a_headless_one_has_no_address():
    east = cluster("east", service(clusterIP="None"), export(1))
    west = cluster("west", service(), export(2))

    found = plan(east, west, own="west")

    [wanted] = found.imports
    assert (wanted.spec.type, wanted.spec.ips, readiness(wanted)) == ("Headless", [], ("True", "Ready"))
    assert told(found)["Conflict"] == ("True", "TypeConflict")
    assert message(found) == "the type: that of the oldest export counts, of east: Headless; west has ClusterSetIP"


def test_affinity_is_the_oldest_export_s():
    config = {"clientIP": {"timeoutSeconds": 10}}
    east = cluster("east", service(sessionAffinity="ClientIP", sessionAffinityConfig=config), export(1))
    west = cluster("west", service(sessionAffinity="None"), export(2))

    found = plan(east, west)

    [wanted] = found.imports
    assert (wanted.spec.session_affinity, wanted.spec.session_affinity_config) == ("ClientIP", config)
    assert told(found)["Conflict"] == ("True", "SessionAffinityConflict")
    assert "sessionAffinityConfig" in message(found), "all that they do not agree on is told"


def test_other_timeouts_of_the_same_affinity_are_a_conflict_of_their_own():
    def sticky(seconds: int) -> tuple[str, Any]:
        return service(sessionAffinity="ClientIP", sessionAffinityConfig={"clientIP": {"timeoutSeconds": seconds}})

    found = plan(cluster("east", sticky(10), export(1)), cluster("west", sticky(20), export(2)))

    assert told(found)["Conflict"] == ("True", "SessionAffinityConfigConflict")


def test_an_export_without_a_service_or_of_an_external_name_is_invalid_and_no_part_of_the_set():
    absent = plan(cluster("east", export(1)))
    elsewhere = plan(cluster("east", service(type="ExternalName", externalName="example.com"), export(1)))

    assert (absent.imports, elsewhere.imports) == ((), ())
    assert told(absent)["Valid"] == ("False", "NoService")
    assert told(elsewhere)["Valid"] == ("False", "InvalidServiceType")
    assert told(absent)["Conflict"] == ("False", "NoConflicts")
    assert told(absent)["Ready"] == told(elsewhere)["Ready"] == ("False", "Pending")


def test_a_condition_keeps_its_time_until_it_changes_and_other_controllers_words_stay():
    before = [
        {"type": "Valid", "status": "True", "reason": "Valid", "lastTransitionTime": "2026-01-01T00:00:00Z"},
        {"type": "Seen", "status": "True", "reason": "Audited"},
    ]

    [status] = plan(cluster("east", service(), export(1, status={"conditions": before}))).statuses

    valid, ready, conflict, seen = status.status["conditions"]
    assert (valid["lastTransitionTime"], conflict["lastTransitionTime"]) == ("2026-01-01T00:00:00Z", NOW)
    assert (ready["type"], valid["observedGeneration"], seen) == ("Ready", 3, before[1])


def test_every_cluster_gives_a_name_the_same_address_and_each_name_its_own():
    names = [f"s{number}" for number in range(2000)]
    objects = [
        each for number, name in enumerate(names) for each in (service(name=name), export(1 + number % 28, name))
    ]
    east, west = cluster("east", *objects), cluster("west")

    here = {each.name: each.spec.ips for each in plan(east, west).imports}
    there = {each.name: each.spec.ips for each in plan(east, west, own="west").imports}

    assert here == there
    assert len({ips[0] for ips in here.values()}) == len(names)


def test_when_every_address_is_given_away_the_youngest_import_waits_and_says_so(monkeypatch):
    monkeypatch.setattr(allocation, "_PLACES", 1)
    old, young = (service(name=name) for name in ("old", "young"))
    east = cluster("east", old, young, export(1, "old"), export(2, "young"))

    by_name = {each.name: (each.spec.ips, readiness(each)) for each in plan(east).imports}

    [given], is_ready = by_name["old"]
    assert given.startswith("240.241."), "the oldest has one"
    assert is_ready == ("True", "Ready")
    assert by_name["young"] == ([], ("False", "Pending"))


def test_an_address_that_was_given_stays_even_if_an_older_name_comes_that_would_have_it():
    """Two names that meet in one place: whoever is there first keeps it, so no caller's address becomes another service's."""
    [one, other] = _meeting()
    made = as_made(plan(cluster("east", service(name=one), export(9, one))))
    [before] = [each.spec.ips for _, each in made]

    later = plan(cluster("east", service(name=one), export(9, one), service(name=other), export(1, other), *made))
    fresh = plan(cluster("east", service(name=one), export(9, one), service(name=other), export(1, other)))

    [new] = [each for each in later.imports if each.name == other]
    assert new.spec.ips != before
    assert [each.name for each in later.imports] == [other]
    assert {each.name: each.spec.ips for each in fresh.imports}[other] == before, "without history the older has it"


def _meeting() -> list[str]:
    """Names that are given the same address when they are alone."""
    seen: dict[str, str] = {}
    for number in range(5000):
        name = f"n{number}"
        [wanted] = plan(cluster("east", service(name=name), export(1, name))).imports
        if wanted.spec.ips[0] in seen:
            return [seen[wanted.spec.ips[0]], name]
        seen[wanted.spec.ips[0]] = name
    raise AssertionError("of 5000 names in 65534 places some meet")


@pytest.mark.parametrize(
    ("families", "versions"),
    [(["10.96.0.10"], [4]), (["fd00::1"], [6]), (["10.96.0.10", "fd00::1"], [4, 6])],
)
def test_an_import_has_addresses_of_the_families_that_the_service_has(families, versions):
    one = service(clusterIP=families[0], clusterIPs=families)

    [wanted] = plan(cluster("east", one, export(1))).imports

    assert [ip_address(each).version for each in wanted.spec.ips] == versions


def test_an_import_that_somebody_has_changed_is_put_right():
    made = obj("ServiceImport", metadata={"labels": OURS}, spec={"type": "Headless", "ips": ["1.2.3.4"]})

    [wanted] = plan(cluster("east", service(), export(1), made)).imports

    assert (wanted.has_spec, wanted.spec.type, wanted.found is made[1]) == (False, "ClusterSetIP", True)


def test_an_export_that_is_being_deleted_exports_nothing():
    leaving = obj("ServiceExport", metadata={"deletionTimestamp": NOW})

    assert plan(cluster("east", service(), leaving)) == ClusterSetPlan(imports=(), gone=(), statuses=())
