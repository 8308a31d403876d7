"""Addresses for names that have none."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from isthmus.ingest import allocation
from isthmus.ingest.allocation import addresses_at, places_of
from isthmus.model.names import Hostname, Namespace, ServiceKey


@pytest.fixture(autouse=True)
def small_range(request, monkeypatch):
    """Sixteen places, so that names meet."""
    if "whole" not in request.node.name:
        monkeypatch.setattr(allocation, "_PLACES", 16)


def key(name):
    return ServiceKey(Namespace("ns"), Hostname(f"{name}.example"))


def test_the_whole_range_is_used_and_no_more():
    assert addresses_at(0) == ("240.240.0.1", "2001:2::f0f0:1")
    assert addresses_at(allocation._PLACES - 1) == ("240.240.255.254", "2001:2::f0f0:fffe")


names = st.dictionaries(st.text("abc", min_size=1, max_size=3), st.sampled_from(["2020", "2021", "2022"]), max_size=12)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names, st.randoms())
def test_every_name_has_a_place_of_its_own_whatever_the_order(found, random):
    named = [(created, key(name)) for name, created in found.items()]
    shuffled = random.sample(named, len(named))

    places = places_of(named)

    assert places == places_of(shuffled)
    assert set(places) == {key for _, key in named}
    assert len(set(places.values())) == len(places)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names)
def test_a_younger_name_moves_nobody(found):
    named = [(created, key(name)) for name, created in found.items()]
    before = places_of(named)

    after = places_of([*named, ("2023", key("young"))])

    assert {name: after[name] for name in before} == before


def test_when_the_range_is_full_the_youngest_has_no_address():
    named = [(f"{2000 + n}", key(f"n{n}")) for n in range(17)]

    places = places_of(named)

    assert len(places) == 16
    assert key("n16") not in places


def created(obj, time):
    obj["metadata"]["creationTimestamp"] = time
    return obj


def test_names_that_get_no_address_are_told_on_their_objects(words, monkeypatch):
    """Two places: the two oldest have them. A Service that every cluster has, and an entry with an address, miss nothing."""
    monkeypatch.setattr(allocation, "_PLACES", 2)

    def entry(name, year, **said):
        host = {"hosts": [f"{name}.example"], "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}]}
        made = words.obj("ServiceEntry", name, "ns", spec={**host, "resolution": "STATIC", **said})
        return created(made, f"{year}-01-01T00:00:00Z")

    east = words.cluster(
        "east",
        created(words.service("everywhere"), "2020-01-01T00:00:00Z"),
        created(words.service("here"), "2024-01-01T00:00:00Z"),
        entry("old", 2021),
        entry("young", 2023),
        entry("own", 2025, addresses=["10.1.1.1"]),
    )
    west = words.cluster("west", created(words.service("everywhere"), "2020-01-01T00:00:00Z"))

    snapshot = words.snapshot(east, west)

    assert {str(key.hostname): bool(service.allocated) for key, service in snapshot.services.items()} == {
        "everywhere.ns.svc.cluster.local": False,
        "here.ns.svc.cluster.local": False,
        "old.example": True,
        "own.example": False,
        "young.example": False,
    }
    told = [(issue.code, str(issue.subject)) for issue in snapshot.issues if issue.code == "ISM0112"]
    assert told == [("ISM0112", "Service ns/here in east"), ("ISM0112", "ServiceEntry ns/young in east")]


def test_a_range_that_is_used_up_is_seen_at_once():
    """Names beyond it do not each look through all of it."""
    named = [(f"{n:05}", key(f"n{n}")) for n in range(20_000)]

    assert len(places_of(named)) == 16
