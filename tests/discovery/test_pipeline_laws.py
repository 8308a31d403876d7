"""Laws of the way from objects to what proxies know, for any objects of any clusters, and any changes of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from enum import Enum

from generated_meshes import CLUSTERS, World, callers, changes, histories, obj, pods, slices
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.discovery.view import outbound_view, view_for
from isthmus.ingest.cache import IngestCache
from isthmus.ingest.patching import patched
from isthmus.model.names import ClusterId
from isthmus.model.views import Reason

moves = st.tuples(st.sampled_from(CLUSTERS), st.booleans(), st.one_of(pods, slices))
some = settings(deadline=None, max_examples=100)


@some
@given(histories, callers, st.randoms())
def test_the_order_in_which_objects_came_says_nothing(history, caller, chance):
    world = World(history)

    first = world.snapshot()
    other = world.snapshot(chance=chance)

    assert other == first
    assert view_for(world.proxy(caller), other) == view_for(world.proxy(caller), first)


@some
@given(histories, st.lists(st.lists(changes, max_size=3), max_size=6))
def test_what_is_remembered_changes_nothing(before, rounds):
    """Whatever happens, in whatever rounds: with the cache of the last round comes what comes without."""
    cache, world = IngestCache(), World(before)

    for happened in ((), *rounds):
        for change in happened:
            world.happens(*change)
        assert world.snapshot(cache=cache) == world.snapshot()


@some
@given(histories, st.lists(st.lists(moves, max_size=3), min_size=1, max_size=6))
def test_what_is_patched_equals_what_is_read_anew(before, rounds):
    """Where nothing but Pods and EndpointSlices change. A patch may decline; then the whole is read, and patched again."""
    cache, world = IngestCache(), World(before)
    reading = world.reading(cache)
    for happened in rounds:
        names: dict[ClusterId, dict[str, set[tuple[str, str]]]] = {}
        for cluster, goes, (kind, body) in happened:
            world.happens(cluster, goes, (kind, body))
            name = (body["metadata"]["namespace"], body["metadata"]["name"])
            names.setdefault(ClusterId(cluster), {}).setdefault(kind, set()).add(name)
        reading = patched(reading, names, {each.id: each.objects for each in world.inputs()}) or world.reading(cache)
        assert reading.snapshot == world.snapshot()


@some
@given(histories, callers)
def test_nothing_disappears(history, caller):
    """Every endpoint of a service that a proxy sees is given to it, or left out with a reason; never both."""
    world = World(history)
    snapshot = world.snapshot()

    view = outbound_view(world.proxy(caller).scope, snapshot)

    for upstream in (*view.upstreams, *(each for _, each in view.exposed)):
        given_ = {e for group in upstream.groups for to in group.destinations for e in to.stands_for}
        left = [each.endpoint for each in upstream.left_out]
        assert len(left) == len(set(left))
        assert not given_ & set(left)
        assert given_ | set(left) == set(snapshot.endpoints[upstream.service.key])
        assert all(each.why.detail for each in upstream.left_out)
    for _, upstream in view.exposed:
        assert all(each.why.reason is not Reason.NODE_LOCAL for each in upstream.left_out), "callers are elsewhere"


@some
@given(histories, callers)
def test_nobody_weighs_nothing_or_too_much(history, caller):
    """Envoy takes weights from 1 to 2^32 - 1, and groups whose destinations weigh no more than that together."""
    world = World(history)

    view = outbound_view(world.proxy(caller).scope, world.snapshot())

    for upstream in view.upstreams:
        for group in upstream.groups:
            assert 0 < group.weight < 2**32
            assert all(to.weight > 0 for to in group.destinations)
            assert sum(to.weight for to in group.destinations) < 2**32


@some
@given(histories, callers)
def test_priorities_begin_at_zero_and_have_no_gaps(history, caller):
    world = World(history)

    for upstream in outbound_view(world.proxy(caller).scope, world.snapshot()).upstreams:
        priorities = {group.priority for group in upstream.groups}
        assert priorities == set(range(len(priorities)))


@some
@given(histories, callers)
def test_a_proxy_can_call_what_it_is_given(history, caller):
    """Its own families, its own network or none; another network's by gateways of that network, with mutual TLS."""
    world = World(history)
    scope = world.proxy(caller).scope

    for upstream in outbound_view(scope, world.snapshot()).upstreams:
        for to in (to for group in upstream.groups for to in group.destinations):
            assert upstream.service.resolution == "dns" or (6 if ":" in to.address else 4) in scope.ip_families
            if to.through is None:
                assert "" in (scope.network, to.network) or to.network == scope.network
            else:
                assert to.mutual_tls
                assert {each.network for each in to.stands_for} == {to.through.network}


@some
@given(histories)
def test_every_issue_says_what_is_wrong_and_what_to_do(history):
    for issue in World(history).snapshot().issues:
        assert issue.code.startswith("ISM0")
        assert issue.what
        assert issue.fix
        assert issue.subject.kind


@some
@given(histories, callers)
def test_clusters_by_other_names_make_the_same_mesh(history, caller):
    """In the same order, by which conflicts are decided. What any proxy is to know is the same but for the names."""
    other = {"a": "kilo", "b": "lima", "c": "mike"}
    node, metadata = caller
    here = World(history)
    there = World(history, names=other)

    view = view_for(here.proxy(caller), here.snapshot())
    renamed = view_for(there.proxy((node, metadata | {"CLUSTER_ID": other[metadata["CLUSTER_ID"]]})), there.snapshot())

    assert with_names(renamed, {new: old for old, new in other.items()}) == view


@some
@given(histories, callers, st.sampled_from(CLUSTERS))
def test_what_nobody_sees_changes_nothing(history, caller, cluster):
    """A service that is exported to nobody, with its Pod, its endpoint and its policies."""
    unseen = [
        obj("Service", "unseen", "elsewhere", spec={"clusterIP": "10.96.9.9", "ports": [{"name": "odd", "port": 9999}]}),
        obj("Pod", "unseen-1", "elsewhere", spec={"nodeName": "n"}, status={"podIP": "10.0.9.9"}),
        obj(
            "EndpointSlice", "unseen-1", "elsewhere", {"kubernetes.io/service-name": "unseen"},
            addressType="IPv4", ports=[{"name": "odd", "port": 9999}],
            endpoints=[{"addresses": ["10.0.9.9"], "targetRef": {"kind": "Pod", "name": "unseen-1"}}],
        ),
        obj("PeerAuthentication", "unseen", "elsewhere", spec={"mtls": {"mode": "STRICT"}}),
        obj("AuthorizationPolicy", "unseen", "elsewhere", spec={"action": "DENY", "rules": [{}]}),
    ]  # fmt: skip
    unseen[0][1]["metadata"]["annotations"] = {"networking.istio.io/exportTo": "~"}
    before, after = World(history), World(history.and_then((cluster, False, each) for each in unseen))

    assert view_for(after.proxy(caller), after.snapshot()) == view_for(before.proxy(caller), before.snapshot())


def with_names(value, names):
    """The value with other cluster ids, wherever they are, also in sentences."""
    if isinstance(value, Enum) or value is None:
        return value
    if isinstance(value, str):
        return type(value)(re.sub(r"\b(kilo|lima|mike)\b", lambda found: names[found[0]], value))
    if is_dataclass(value):
        changed = {each.name: with_names(getattr(value, each.name), names) for each in fields(value) if each.init}
        return replace(value, **changed)
    if isinstance(value, Mapping):
        return {with_names(key, names): with_names(each, names) for key, each in value.items()}
    if isinstance(value, tuple | frozenset | list):
        return type(value)(with_names(each, names) for each in value)
    return value
