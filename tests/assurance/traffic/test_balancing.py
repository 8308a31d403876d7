"""Shares of endpoints by priority, locality and weight."""

from __future__ import annotations

import pytest

from isthmus.assurance.traffic.balancing import shares


def group(priority: int, *weights: int, healthy: int | None = None, zone: str = "", weight: int = 0):
    """`healthy` of the endpoints are."""
    good = len(weights) if healthy is None else healthy
    return {
        "priority": priority,
        "locality": {"zone": zone},
        "loadBalancingWeight": weight or sum(weights),
        "lbEndpoints": [
            {
                "endpoint": {"address": {"socketAddress": {"address": f"{zone}{priority}-{index}", "portValue": 1}}},
                "loadBalancingWeight": weight,
                "healthStatus": "UNKNOWN" if index < good else "UNHEALTHY",
            }
            for index, weight in enumerate(weights)
        ],
    }


def percent(*groups, weighted: bool = False):
    upstream = {"name": "u", "commonLbConfig": {"localityWeightedLbConfig": {}} if weighted else {}}
    return {each.address: round(each.percent, 2) for each in shares(upstream, groups)}


def test_by_weight():
    assert percent(group(0, 1, 3)) == {"0-1": 75, "0-0": 25}


def test_the_next_priority_takes_what_the_first_cannot():
    assert percent(group(0, 1, 1), group(1, 1)) == {"0-0": 50, "0-1": 50, "1-0": 0}
    # One of two is healthy: 70 %, as measured of Envoy (72 / 28).
    assert percent(group(0, 1, 1, healthy=1), group(1, 1)) == {"0-0": 70, "0-1": 0, "1-0": 30}
    assert percent(group(0, 1, healthy=0), group(1, 1)) == {"0-0": 0, "1-0": 100}


def test_localities_by_their_own_weight_where_that_is_on():
    both = (group(0, 1, zone="a", weight=80), group(0, 1, 1, zone="b", weight=20))

    assert percent(*both, weighted=True) == {"a0-0": 80, "b0-0": 10, "b0-1": 10}
    assert percent(*both) == {"a0-0": 33.33, "b0-0": 33.33, "b0-1": 33.33}


@pytest.mark.parametrize("groups", [(), (group(0, 1, healthy=0),)])
def test_nothing_healthy_takes_nothing(groups):
    assert set(percent(*groups).values()) <= {0}
