"""Laws of a view, for any mesh."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from isthmus.discovery.balancing import scale_of

networks = st.sampled_from(["n1", "n2", "n3", "-"])
clusters = st.sampled_from(["c1", "c2", "c3"])
flags = st.lists(st.sampled_from(["bare", "unready", "terminating", "at=eu/a", "at=us/b", "port=other"]), max_size=2)
addresses = st.builds(lambda n: f"10.0.0.{n}", st.integers(1, 20))
drawn_gateways = st.lists(
    st.tuples(st.sampled_from(["n1", "n2", "n3"]), clusters, st.builds(lambda n: f"1.1.1.{n}", st.integers(1, 9))),
    max_size=6,
    unique=True,
)
drawn_endpoints = st.lists(
    st.tuples(addresses, networks, clusters, flags), max_size=12, unique_by=lambda each: each[:3]
)
scopes = st.tuples(networks, clusters)
everywhere = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=150, deadline=None
)


@pytest.fixture
def mesh_of(words):
    def build(gateways, endpoints):
        mesh = words.Mesh()
        mesh.gateways = [words.gateway(*each) for each in gateways]
        mesh.endpoints = [words.endpoint(ip, network, cluster, *said) for ip, network, cluster, said in endpoints]
        return mesh

    return build


@everywhere
@given(drawn_gateways, drawn_endpoints, scopes)
def test_every_endpoint_is_given_or_left_out_and_never_both(mesh_of, words, gateways, endpoints, scope):
    mesh = mesh_of(gateways, endpoints)

    upstream = mesh.upstream(words.scope(*scope))

    given_ = [e for group in upstream.groups for to in group.destinations for e in to.stands_for]
    left = [each.endpoint for each in upstream.left_out]
    assert set(given_) | set(left) == set(mesh.endpoints)
    assert not set(given_) & set(left)


@everywhere
@given(drawn_gateways, drawn_endpoints, scopes)
def test_no_weight_is_zero_and_every_endpoint_counts_the_same(mesh_of, words, gateways, endpoints, scope):
    mesh = mesh_of(gateways, endpoints)

    upstream = mesh.upstream(words.scope(*scope))

    destinations = [to for group in upstream.groups for to in group.destinations]
    given_ = {each for to in destinations for each in to.stands_for}
    assert all(to.weight > 0 for to in destinations)
    assert sum(to.weight for to in destinations) == len(given_) * scale_of(mesh.snapshot().gateways)


@everywhere
@given(drawn_gateways, drawn_endpoints, scopes, st.randoms())
def test_the_order_in_which_things_came_says_nothing(mesh_of, words, gateways, endpoints, scope, chance: random.Random):
    first = mesh_of(gateways, endpoints).upstream(words.scope(*scope))
    chance.shuffle(gateways)
    chance.shuffle(endpoints)

    assert mesh_of(gateways, endpoints).upstream(words.scope(*scope)) == first


@everywhere
@given(drawn_gateways, drawn_endpoints, scopes)
def test_another_networks_address_is_never_called_directly(mesh_of, words, gateways, endpoints, scope):
    who = words.scope(*scope)

    upstream = mesh_of(gateways, endpoints).upstream(who)

    for group in upstream.groups:
        for to in group.destinations:
            if to.through is None and "" not in (who.network, to.network):
                assert to.network == who.network


@everywhere
@given(drawn_gateways, drawn_endpoints, scopes)
def test_what_leads_through_a_gateway_is_mutual_tls(mesh_of, words, gateways, endpoints, scope):
    upstream = mesh_of(gateways, endpoints).upstream(words.scope(*scope))

    for group in upstream.groups:
        for to in group.destinations:
            if to.through is not None:
                assert to.mutual_tls
                assert all(each.workload.meshed for each in to.stands_for)
