"""How much goes where."""

from __future__ import annotations

from dataclasses import replace

import pytest

from isthmus.discovery.balancing import scale_of

MOST = 2**32 - 1


@pytest.mark.parametrize(
    ("gateways", "scale"),
    [
        ({}, 1),
        ({"n1": [("c1", "1.1.1.1")]}, 1),
        ({"n1": [("c1", "1.1.1.1"), ("c1", "1.1.1.2")], "n2": [("c2", "2.2.2.2")]}, 2),
        # Three of the network, of which two are one cluster's.
        ({"n1": [("c1", "1.1.1.1"), ("c1", "1.1.1.2"), ("c2", "1.1.1.3")]}, 6),
        ({"n1": [("c1", f"1.1.1.{n}") for n in range(4)], "n2": [("c2", f"2.2.2.{n}") for n in range(6)]}, 12),
    ],
)
def test_what_one_endpoint_weighs(words, gateways, scale):
    found = {network: [words.gateway(network, *each) for each in said] for network, said in gateways.items()}

    assert scale_of(found) == scale


@pytest.mark.parametrize(
    ("weights", "given_"),
    [
        ([1, 1], [2, 2]),
        ([1, 3], [2, 6]),
        # Envoy takes no more than 2**32 - 1 for all of an upstream together: shares are kept, and nobody gets nothing.
        ([2**31, 2**31], [(MOST - 2) // 2, (MOST - 2) // 2]),
        ([MOST, 1], [MOST - 3, 1]),
        ([3 * 2**40, 2**40], [(MOST - 2) * 3 // 4, (MOST - 2) // 4]),
    ],
)
def test_what_endpoints_weigh_together(words, weights, given_):
    """There are two gateways, so one endpoint counts two."""
    mesh = words.Mesh()
    mesh.gateways = [words.gateway("n2", "c2", address) for address in ("2.2.2.1", "2.2.2.2")]
    mesh.endpoints = [
        replace(words.endpoint(f"10.0.0.{n}", "n1", "c1", f"at=eu/{n}"), weight=weight)
        for n, weight in enumerate(weights)
    ]

    groups = mesh.upstream(words.scope("n1", "c1")).groups

    assert [to.weight for group in groups for to in group.destinations] == given_
    assert [group.weight for group in groups] == given_
