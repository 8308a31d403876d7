"""Stocks: whatever shelves a scope has one after the other, it is given what is on them, and told what is different; and equal ones are one."""

from __future__ import annotations

import gc
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_meshes import Mesh, obj, of_service

from isthmus.assurance.scenario import scenario_of
from isthmus.controlplane.derived import Block, shelf_of
from isthmus.controlplane.stocks import EMPTY, Stocks
from isthmus.controlplane.tables import Tables
from isthmus.envoy.resources import CLUSTER, ENDPOINTS, SECRET, Resource

BLOCKS = {name: Block(()) for name in "abc"}
numbers = st.integers(0, 2)


def shelf(name: str, clusters: int, endpoints: int, secrets: int):
    """Names of clusters are a block's own; of secrets, several may have one."""
    named = [Resource.of_bytes(f"{name}{number}", bytes((clusters,))) for number in range(clusters)]
    told = [Resource.of_bytes(f"{name}{number}", bytes((endpoints,))) for number in range(endpoints)]
    return shelf_of(tuple(named), tuple(told), tuple(Resource.of_bytes(f"s{n}", b"") for n in range(secrets)))


wanted = st.dictionaries(st.sampled_from("abc"), st.tuples(numbers, numbers, numbers))
"""The blocks that a scope sees, and what is on each one's shelf."""


def versions(stock) -> dict:
    return {
        kind: {name: resource.version for name, resource in stock.of_type(kind).items()}
        for kind in (CLUSTER, ENDPOINTS, SECRET)
    }


@given(st.lists(st.tuples(wanted, wanted), max_size=8))
def test_after_any_steps_a_scope_has_what_is_on_its_shelves_and_was_told_of_it(history):
    """Two scopes, which now and then have the same."""
    stocks, now = Stocks(), [EMPTY, EMPTY]
    for both in history:
        for scope, seen in enumerate(both):
            shelves = {BLOCKS[name]: shelf(name, *filled) for name, filled in sorted(seen.items())}
            fresh = {block: each for block, each in shelves.items() if now[scope].shelves.get(block) is not each}
            had = versions(now[scope])

            now[scope], changes = stocks.step(now[scope], tuple(shelves), fresh)

            for kind, on in ((CLUSTER, "clusters"), (ENDPOINTS, "endpoints"), (SECRET, "secrets")):
                there = {each.name: each.version for found in shelves.values() for each in getattr(found, on)}
                assert versions(now[scope])[kind] == there
                different = {name for name in had[kind] | there if had[kind].get(name) != there.get(name)}
                assert changes.get(kind, {}) == {name: had[kind].get(name, "") for name in different}
        assert (now[0] is now[1]) == (both[0] == both[1])
        stocks.settled()
    assert len(stocks) == len({id(each) for each in now if each is not EMPTY})


def learnt(mesh: Mesh) -> dict:
    mesh.kept.learn(scenario_of(mesh.document).snapshot())
    for _ in mesh.kept.settling():
        pass
    return mesh.kept.changed()


@pytest.fixture
def mesh() -> Mesh:
    """Two clusters on two networks, and callers in two namespaces of each: four scopes."""
    return Mesh(6)


def test_namespaces_that_see_the_same_have_one_stock(mesh):
    assert (mesh.kept.scopes, mesh.kept.stocks) == (4, 2)


def test_of_a_change_that_all_see_proxies_of_several_scopes_are_told_by_one_object(mesh):
    mesh.put(0, *of_service(0, 7, "shop"))
    mesh.settle()
    pod, ready = mesh.clusters[0]["objects"], {"conditions": {"ready": False}}
    one = next(each for each in pod if each["kind"] == "EndpointSlice" and each["metadata"]["name"] == "s7-x")
    pod[pod.index(one)] = one | {"endpoints": [one["endpoints"][0] | ready]}

    changed = learnt(mesh)

    assert len(changed) == 4
    assert len({id(changes) for changes in changed.values()}) == 2


def test_a_namespace_that_sees_more_has_a_stock_to_itself_until_it_does_not(mesh):
    private = obj("Service", "mine", "till", spec={"clusterIP": "10.90.99.1", "ports": [{"name": "http", "port": 80}]})
    private["metadata"]["annotations"] = {"networking.istio.io/exportTo": "."}
    before = mesh.clusters[0]["objects"]
    mesh.clusters[0]["objects"] = [*before, private]
    mesh.settle()
    assert mesh.kept.stocks == 4

    mesh.clusters[0]["objects"] = before
    mesh.settle()

    assert mesh.kept.stocks == 2


def test_nothing_is_kept_of_scopes_that_nobody_is_in(mesh):
    for proxy in mesh.proxies:
        mesh.kept.disconnect(proxy)
    gc.collect()

    assert (mesh.kept.scopes, mesh.kept.stocks) == (0, 0)


def test_who_comes_while_nothing_changes_takes_no_step(mesh):
    taken = []
    stocks = mesh.kept._stocks
    step = stocks.step
    stocks.step = lambda *given: taken.append(given) or step(*given)

    mesh.kept.connect(mesh.proxies[0])
    list(mesh.kept.settling())

    assert taken == []


def test_versions_are_put_together_once_for_all_who_come_until_a_stock_changes():
    stocks = Stocks()
    first, _ = stocks.step(EMPTY, (BLOCKS["a"],), {BLOCKS["a"]: shelf("a", 1, 1, 0)})
    stocks.settled()
    asked = stocks.versions(first, CLUSTER)

    stocks.settled()
    again = stocks.versions(first, CLUSTER)
    second, _ = stocks.step(first, (BLOCKS["a"],), {BLOCKS["a"]: shelf("a", 2, 1, 0)})
    stocks.settled()

    assert again is asked
    assert stocks.versions(second, CLUSTER).keys() == {"a0", "a1"}


def test_what_a_scope_is_told_is_in_memory_once_for_proxies_that_have_something_of_their_own(mesh):
    """A thousand sidecars that come at once were 40 MB of names, each one's its own."""
    mesh.kept = Tables()
    first = mesh.proxies[0]
    second = replace(first, id=f"{first.id}-as-well")
    for proxy in (first, second):
        mesh.kept.connect(proxy)

    changed = learnt(mesh)

    assert mesh.kept.resources(first).own[CLUSTER].keys() <= changed[first][CLUSTER].keys()
    assert changed[first][ENDPOINTS] is changed[second][ENDPOINTS]
