"""IPv4 and IPv6: what a client can call, and how shares are kept when it can use some gateways only."""

from __future__ import annotations

from dataclasses import replace

import pytest

from isthmus.discovery.balancing import scale_of


def seen(words, families, endpoints=(), gateways=()):
    mesh = words.Mesh()
    mesh.endpoints = [words.endpoint(ip, network, "c2") for ip, network in endpoints]
    mesh.gateways = [words.gateway("n2", "c2", address) for address in gateways]
    return words.transcript(mesh.upstream(replace(words.scope("n1", "c1"), ip_families=families)))


@pytest.mark.parametrize(
    ("families", "lines"),
    [
        ((4,), ["10.0.0.1:8080 1 direct", "fd00::1 - no_address", "somewhere - no_address"]),
        ((6,), ["fd00::1:8080 1 direct", "10.0.0.1 - no_address", "somewhere - no_address"]),
        ((4, 6), ["10.0.0.1:8080 1 direct", "fd00::1:8080 1 direct", "somewhere - no_address"]),
    ],
)
def test_a_client_is_given_addresses_that_it_can_call(words, families, lines):
    assert seen(words, families, [("10.0.0.1", "n1"), ("fd00::1", "n1"), ("somewhere", "n1")]) == lines


@pytest.mark.parametrize(
    ("families", "lines"),
    [
        ((4,), ["2.2.2.1:15443 3 gateway of n2, for 10.0.0.1", "2.2.2.2:15443 3 gateway of n2, for 10.0.0.1"]),
        ((6,), ["fd00::1:15443 6 gateway of n2, for 10.0.0.1"]),
    ],
)
def test_shares_are_whole_however_many_gateways_a_client_can_use(words, families, lines):
    """Three gateways, of which a client of one family can use two, or one: an endpoint weighs 6 for all."""
    assert seen(words, families, [("10.0.0.1", "n2")], ["2.2.2.1", "2.2.2.2", "fd00::1"]) == lines


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
