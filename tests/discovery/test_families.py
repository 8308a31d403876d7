"""IPv4 and IPv6: what a client can call, and how shares are kept when it can use some gateways only."""

from __future__ import annotations

from dataclasses import replace

import pytest

from isthmus.discovery.naming import name_table, virtual_ips
from isthmus.discovery.sight import sight_of


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
    ("families", "own", "foreign", "ips"),
    [
        ((4,), ("10.96.0.1", "fd00:96::1"), (), ("10.96.0.1",)),
        ((4, 6), ("10.96.0.1", "fd00:96::1"), (), ("10.96.0.1", "fd00:96::1")),
        # Where its own cluster's addresses are of no use to it, another's are: its proxy listens for them.
        ((4,), ("fd00:96::1",), ("10.97.0.1",), ("10.97.0.1",)),
        ((6,), ("10.96.0.1",), (), ()),
    ],
)
def test_names_lead_to_addresses_that_a_client_can_call(words, families, own, foreign, ips):
    scope = replace(words.scope("n1", "c1"), ip_families=families)
    mesh = words.Mesh().snapshot()
    [service] = mesh.services.values()
    service = replace(service, virtual_ips=(("c1", own), *([("c2", foreign)] if foreign else [])))

    mesh = replace(mesh, services={words.KEY: service})
    records = name_table(scope, sight_of(scope, mesh), mesh)

    assert virtual_ips(scope, service) == ips
    assert [record.ips for record in records] == ([ips] if ips else [])


def test_a_headless_services_name_leads_to_pods_that_a_client_can_call(words):
    mesh = words.Mesh(
        endpoints=[words.endpoint(ip, "n1", "c1") for ip in ("10.0.0.1", "fd00::1", "somewhere")]
    ).snapshot()
    [service] = mesh.services.values()

    mesh, scope = replace(mesh, services={words.KEY: replace(service, headless=True)}), words.scope("n1", "c1")
    [record] = name_table(scope, sight_of(scope, mesh), mesh)

    assert record.ips == ("10.0.0.1",)
