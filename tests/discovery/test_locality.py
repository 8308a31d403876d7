"""Near before far."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from isthmus.discovery.kinds import kind_of
from isthmus.discovery.locality import preference_for, priorities, shared_out
from isthmus.discovery.view import outbound_view
from isthmus.model.names import Hostname, Namespace
from isthmus.model.topology import Locality, NetworkGateway
from isthmus.model.traffic import DestinationRule, LocalityPreference, Nearness, OutlierDetection, TrafficPolicy, Wishes

PLACES = ("eu/a/1", "eu/a/2", "eu/b/1", "us/a/1", "asia/a/1")
LABELS = ("topology.istio.io/network", "topology.kubernetes.io/region", "topology.kubernetes.io/zone")


def caller(words, place="eu/a/1", network="n1", cluster="c1"):
    return replace(words.scope(network, cluster), locality=Locality.parse(place))


def everywhere(words):
    return [words.endpoint(f"10.0.0.{n}", "n1", "c1", f"at={place}") for n, place in enumerate(PLACES, start=1)]


def ranked(words, preference, place="eu/a/1"):
    endpoints = everywhere(words)
    found = came(words, endpoints, preference, place)
    return {str(endpoint.workload.locality): priority for endpoint, priority in zip(endpoints, found, strict=True)}


def came(words, endpoints, preference, place="eu/a/1"):
    """The priority of each."""
    kinds = [kind_of(endpoint, by_node=True) for endpoint in endpoints]
    return priorities(caller(words, place), kinds, preference, [0] * len(kinds))


@pytest.mark.parametrize(
    ("preference", "place", "expected"),
    [
        (None, "eu/a/1", (0, 0, 0, 0, 0)),
        (LocalityPreference(), "eu/a/1", (0, 1, 2, 3, 3)),
        (LocalityPreference(), "us/b/9", (1, 1, 1, 0, 1)),
        (LocalityPreference(failover=(("eu", "asia"),)), "eu/a/1", (0, 1, 2, 4, 3)),
        (LocalityPreference(failover=(("us", "asia"),)), "eu/a/1", (0, 1, 2, 3, 3)),
        (LocalityPreference(failover_priority=LABELS[1:]), "eu/a/1", (0, 0, 1, 2, 2)),
        (LocalityPreference(failover_priority=("topology.kubernetes.io/region=us",)), "eu/a/1", (1, 1, 1, 0, 1)),
    ],
)
def test_what_comes_first(words, preference, place, expected):
    assert tuple(ranked(words, preference, place).values()) == expected


def test_another_network_comes_after_everything_nearby(words):
    endpoints = [
        words.endpoint("10.0.0.1", "n1", "c1", "at=asia/z"),
        words.endpoint("20.0.0.1", "n2", "c2", "at=eu/a"),
        words.endpoint("10.0.0.2", "n1", "c1", "at=eu/a"),
    ]

    assert came(words, endpoints, LocalityPreference(failover_priority=LABELS)) == [1, 2, 0]


def test_on_another_network_near_comes_before_far_too(words):
    endpoints = [
        words.endpoint("20.0.0.1", "n2", "c2", "at=asia/z"),
        words.endpoint("20.0.0.2", "n2", "c2", "at=eu/a"),
        words.endpoint("20.0.0.3", "n2", "c2", "at=eu/b"),
        words.endpoint("10.0.0.1", "n1", "c1", "at=asia/z"),
    ]

    assert came(words, endpoints, LocalityPreference(failover_priority=LABELS)) == [3, 1, 2, 0]


def rule(**policy):
    return DestinationRule(
        created="1", namespace=Namespace("ns"), name="r", host=Hostname("s.ns.svc.cluster.local"),
        policy=TrafficPolicy(**policy), port_policies=(), subsets=(), export_to=(),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("policy", "distribution", "mesh", "holds"),
    [
        ({}, "", LocalityPreference(), False),
        ({"outliers": OutlierDetection()}, "", LocalityPreference(), True),
        ({"outliers": OutlierDetection()}, "", LocalityPreference(enabled=False), False),
        ({"outliers": OutlierDetection(), "locality": LocalityPreference(enabled=False)}, "PreferClose", LocalityPreference(), False),
        ({}, "PreferClose", LocalityPreference(), True),
        ({}, "Nonsense", LocalityPreference(), False),
        ({"locality": LocalityPreference(distribute=(("*", (("eu", 100),)),))}, "", LocalityPreference(), True),
    ],
)  # fmt: skip
def test_when_a_place_counts_at_all(words, policy, distribution, mesh, holds):
    snapshot = words.Mesh().snapshot()
    snapshot = replace(snapshot, settings=replace(snapshot.settings, locality=mesh))
    [service] = snapshot.services.values()

    found = preference_for(replace(service, traffic_distribution=distribution), TrafficPolicy(**policy), snapshot)

    assert (found is not None) is holds


def test_shares_are_kept_and_who_gets_none_is_told(words):
    mesh = words.Mesh()
    mesh.endpoints = [*everywhere(words), words.endpoint("10.0.0.9", "n1", "c1", "at=eu/a/1")]
    preference = LocalityPreference(distribute=(("eu/a/*", (("eu/a/*", 90), ("us/*", 10))),))
    snapshot = replace(mesh.snapshot(), destination_rules=(rule(locality=preference),))

    [upstream] = outbound_view(caller(words), snapshot).upstreams

    assert {str(group.locality): group.weight for group in upstream.groups} == {
        "eu/a/1": 600,
        "eu/a/2": 300,
        "us/a/1": 100,
    }
    assert {left.endpoint.ip: left.why.reason.value for left in upstream.left_out} == {
        "10.0.0.3": "no_share",
        "10.0.0.5": "no_share",
    }


def test_a_gateway_with_near_and_far_behind_it_is_there_once_for_each(words):
    mesh = words.Mesh()
    mesh.gateways = [NetworkGateway(address="2.2.2.2", port=15443, network="n2", cluster="c2")]
    mesh.endpoints = [
        words.endpoint("20.0.0.1", "n2", "c2", "at=eu/a"),
        words.endpoint("20.0.0.2", "n2", "c2", "at=us/a"),
    ]
    snapshot = replace(mesh.snapshot(), destination_rules=(rule(outliers=OutlierDetection()),))

    [upstream] = outbound_view(caller(words, "eu/a"), snapshot).upstreams

    assert [(group.priority, str(group.locality), group.destinations[0].address) for group in upstream.groups] == [
        (0, "eu/a", "2.2.2.2"),
        (1, "us/a", "2.2.2.2"),
    ]


places = st.sampled_from(PLACES)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None, max_examples=60
)
@given(
    st.lists(st.tuples(st.integers(1, 9), places), max_size=8, unique_by=lambda each: each[0]),
    places,
    st.sampled_from(
        [
            LocalityPreference(),
            LocalityPreference(failover_priority=LABELS),
            LocalityPreference(failover=(("eu", "us"),)),
        ]
    ),
)
def test_priorities_have_no_gaps_and_nobody_is_lost(words, endpoints, place, preference):
    mesh = words.Mesh()
    mesh.endpoints = [words.endpoint(f"10.0.0.{n}", "n1", "c1", f"at={where}") for n, where in endpoints]
    said = rule(outliers=OutlierDetection(), locality=preference)

    [upstream] = outbound_view(caller(words, place), replace(mesh.snapshot(), destination_rules=(said,))).upstreams

    used = sorted({group.priority for group in upstream.groups})
    assert used == list(range(len(used)))
    assert sum(len(to.stands_for) for group in upstream.groups for to in group.destinations) == len(endpoints)
    assert shared_out(caller(words, place), upstream.groups, preference) == upstream.groups


@pytest.mark.parametrize(
    ("of_rule", "of_service", "of_mesh", "expected"),
    [
        (Wishes(), Wishes(), Wishes(), None),
        (Wishes(), Wishes(fails_over=True), Wishes(), LocalityPreference()),
        (Wishes(fails_over=False), Wishes(fails_over=True), Wishes(fails_over=True), None),
        (
            Wishes(own_cluster_first=True),
            Wishes(),
            Wishes(),
            LocalityPreference(nearness=Nearness.NONE, own_cluster_first=True),
        ),
        (Wishes(), Wishes(own_cluster_first=False), Wishes(own_cluster_first=True), None),
        (
            Wishes(),
            Wishes(own_cluster_first=True),
            Wishes(fails_over=True),
            LocalityPreference(own_cluster_first=True),
        ),
    ],
)
def test_the_narrowest_wish_counts(words, of_rule, of_service, of_mesh, expected):
    snapshot = words.Mesh().snapshot()
    [service] = snapshot.services.values()
    mesh = replace(snapshot, settings=replace(snapshot.settings, wishes=of_mesh))

    found = preference_for(replace(service, wishes=of_service), TrafficPolicy(wishes=of_rule), mesh)

    assert found == expected


def test_the_own_cluster_comes_first_and_then_what_is_near(words):
    endpoints = [
        words.endpoint("10.0.0.1", "n1", "c1", "at=us/a"),
        words.endpoint("10.0.0.2", "n1", "c1", "at=eu/a/1"),
        words.endpoint("10.0.0.3", "n1", "c2", "at=eu/a/1"),
        words.endpoint("10.0.0.4", "n1", "c2", "at=asia/a"),
    ]

    assert came(words, endpoints, LocalityPreference(own_cluster_first=True)) == [1, 0, 2, 3]


def test_where_zones_are_known_to_envoy_regions_alone_are_ranked(words):
    zones = LocalityPreference(failover=(("eu", "asia"),), nearness=Nearness.REGION)

    assert tuple(ranked(words, zones).values()) == (0, 0, 0, 2, 1)
