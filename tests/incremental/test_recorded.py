"""Recorded: a record read through a Fetch. Who asks for an entry of a lookup depends on that entry alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import pytest

from isthmus.incremental.graph import Derived, Fetch, Graph
from isthmus.incremental.recorded import RecordSource


@dataclass(frozen=True)
class Orders:
    """What was bought, by whom."""

    lines: tuple[tuple[str, str], ...] = ()

    @cached_property
    def by_buyer(self) -> Mapping[str, tuple[str, ...]]:
        if ("", "") in self.lines:
            raise ValueError("a line without a buyer")
        buyers = dict.fromkeys(buyer for buyer, _ in self.lines)
        return {buyer: tuple(what for who, what in self.lines if who == buyer) for buyer in buyers}


class Shop:
    """Bills by buyer, kept current; `written` are those that were computed since somebody looked."""

    def __init__(self, *lines: tuple[str, str]) -> None:
        self.graph = Graph()
        self.orders: RecordSource[Orders] = RecordSource(self.graph, "orders", Orders)
        self.bills: Derived[str, str] = self.graph.derive("bills", self._bill)
        self.written: list[str] = []
        self.orders.set(Orders(lines))
        for buyer in ("ann", "bob"):
            self.bills.observe(buyer)
        self.graph.settle()

    def _bill(self, fetch: Fetch, buyer: str) -> str:
        self.written.append(buyer)
        return ", ".join(self.orders.seen_through(fetch).by_buyer.get(buyer, ()))

    def hears(self, *lines: tuple[str, str]) -> list[str]:
        """What is written because these are the lines now."""
        self.written.clear()
        self.orders.set(Orders(lines))
        self.graph.settle()
        return self.written


def test_only_those_are_told_whose_entry_is_another_one():
    shop = Shop(("ann", "tea"), ("bob", "salt"))

    assert shop.hears(("ann", "tea"), ("bob", "salt"), ("bob", "rice")) == ["bob"]
    assert shop.hears(("bob", "salt"), ("bob", "rice")) == ["ann"]
    assert shop.hears(("bob", "salt"), ("bob", "rice"), ("cid", "ink")) == []
    assert (shop.bills.value("ann"), shop.bills.value("bob")) == ("", "salt, rice")


@pytest.mark.parametrize("first", [(), (("ann", "tea"),)])
def test_a_lookup_that_fails_keeps_what_it_had_and_recovers(first):
    shop = Shop(*first, ("", ""))
    assert shop.bills.value("bob") is None

    shop.hears(("ann", "tea"))
    assert (shop.bills.value("ann"), shop.bills.value("bob")) == ("tea", "")

    assert shop.hears(("ann", "milk"), ("", "")) == []
    assert shop.bills.value("ann") == "tea"
    assert shop.hears(("ann", "milk")) == ["ann"]
