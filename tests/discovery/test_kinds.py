"""Endpoints of one kind are decided for together, and what is decided of one is what would be decided if there were no others."""

from __future__ import annotations

from dataclasses import replace

import pytest
from generated_meshes import World, callers, histories
from hypothesis import assume, given, settings

from isthmus.discovery.kinds import HOSTNAME
from isthmus.discovery.spreading import Use, scales_of, spread
from isthmus.discovery.view import outbound_view
from isthmus.model.names import ClusterId
from isthmus.model.traffic import Subset, TrafficPolicy
from isthmus.model.views import ProxyKind


@pytest.fixture
def on_nodes(words):
    """Two endpoints that differ in address and node alone, a caller on the first one's node, and who gets to what."""
    endpoints = [words.endpoint(f"10.0.0.{number}", "n1", "c1") for number in (1, 2)]
    endpoints = [
        replace(each, workload=replace(each.workload, node=f"node-{number}"))
        for number, each in enumerate(endpoints, start=1)
    ]
    snapshot = words.Mesh(endpoints=endpoints).snapshot()
    caller = replace(words.scope("n1", "c1"), node="node-1")

    def groups(*, subset=None, **service):
        known = replace(snapshot.services[words.KEY], **service)
        changed = replace(snapshot, services={words.KEY: known})
        use = Use(words.KEY, known.ports[0], TrafficPolicy(), subset)
        labelled = replace(caller, labels=((HOSTNAME, "node-1"),))
        found = spread(labelled, use, changed, scales_of(changed))
        return [(group.priority, to.address) for group in found.groups for to in group.destinations]

    return groups


def test_where_nodes_say_nothing_all_are_alike(on_nodes):
    assert on_nodes() == [(0, "10.0.0.1"), (0, "10.0.0.2")]


def test_nodes_count_where_callers_stay_on_theirs(on_nodes):
    assert on_nodes(node_local_in=(ClusterId("c1"),)) == [(0, "10.0.0.1")]


def test_nodes_count_where_a_subset_is_that_of_a_node(on_nodes):
    of_node = Subset(name="near", labels=((HOSTNAME, "node-2"),), policy=TrafficPolicy())
    assert on_nodes(subset=of_node) == [(0, "10.0.0.2")]


@settings(max_examples=100)
@given(histories, callers)
def test_what_is_decided_of_an_endpoint_depends_on_no_other(history, caller):
    """But for weights and order, and for clients without a proxy, which do mutual TLS with all or none."""
    world = World(history)
    snapshot, scope = world.snapshot(), world.proxy(caller).scope

    def found(endpoints):
        view = outbound_view(scope, replace(snapshot, endpoints={**snapshot.endpoints, **endpoints}))
        return {
            (each.name, endpoint): what
            for each in view.upstreams
            for endpoint, what in (
                *((left.endpoint, left.why) for left in each.left_out),
                *(
                    (endpoint, (to.mutual_tls, to.through))
                    for group in each.groups
                    for to in group.destinations
                    for endpoint in to.stands_for
                ),
            )
        }

    assume(scope.kind is not ProxyKind.PROXYLESS)
    whole = found({})
    alone = {}
    for key, endpoints in snapshot.endpoints.items():
        for each in endpoints:
            alone.update({k: v for k, v in found({key: (each,)}).items() if k[1] == each})
    assert alone == whole
