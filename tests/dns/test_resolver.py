"""Which full names a resolver tries."""

from __future__ import annotations

import pytest

from isthmus.dns.resolver import Resolver, tried

IN_SHOP = Resolver.of_pods("shop", "cluster.local")


@pytest.mark.parametrize(
    ("name", "ndots", "names"),
    [
        ("cart", 5, ["cart.shop.svc.cluster.local", "cart.svc.cluster.local", "cart.cluster.local", "cart"]),
        ("Cart.", 5, ["cart"]),
        ("a.b", 2, ["a.b.shop.svc.cluster.local", "a.b.svc.cluster.local", "a.b.cluster.local", "a.b"]),
        ("a.b", 1, ["a.b", "a.b.shop.svc.cluster.local", "a.b.svc.cluster.local", "a.b.cluster.local"]),
        ("a.b", 0, ["a.b", "a.b.shop.svc.cluster.local", "a.b.svc.cluster.local", "a.b.cluster.local"]),
    ],
)
def test_a_name_with_fewer_dots_than_ndots_is_completed_first(name, ndots, names):
    assert [each.name for each in tried(name, Resolver(IN_SHOP.search, ndots))] == names


def test_without_search_domains_a_name_is_asked_for_once():
    assert [each.name for each in tried("cart", Resolver((), 5))] == ["cart"]
