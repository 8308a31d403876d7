"""Early and patched derivations: the same values, sooner and with less to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from isthmus.incremental.graph import Derived, Fetch, Graph, Source

Line = tuple[str, int]


class Bill:
    """A line for each item, if its price is not negative; the bill of all lines, patched; which items are dear, early; and all that are."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.graph = Graph()
        self.price: Source[str, int] = self.graph.source("price")
        self.rate: Source[str, int] = self.graph.source("rate")
        self.line: Derived[str, Line] = self.graph.derive("line", self._line)
        self.is_dear: Derived[str, bool] = self.graph.derive("is dear", self._is_dear, early=True)
        self.bill: Derived[str, tuple[Line, ...]] = self.graph.derive("bill", self._bill)
        self.graph.nodes["bill"].patched(self._patch, self.graph.nodes["line"])
        self.dear: Derived[str, frozenset[str]] = self.graph.derive("dear", self._dear)
        self.bill.observe("")
        self.dear.observe("")

    def _line(self, fetch: Fetch, item: str) -> Line:
        self.ran.append(f"line {item}")
        price = fetch.get(self.price, item) or 0
        if price < 0:
            raise ValueError("negative")
        return item, price

    def _is_dear(self, fetch: Fetch, item: str) -> bool:
        self.ran.append(f"is dear {item}")
        line = fetch.get(self.line, item)
        return line is not None and line[1] > 10

    def _bill(self, fetch: Fetch, _: str) -> tuple[Line, ...]:
        self.ran.append("bill")
        fetch.get(self.rate, "")
        return tuple(fetch.get(self.line, item) or ("", 0) for item in sorted(fetch.keys(self.price)))

    def _patch(self, bill: tuple[Line, ...], changes: Sequence[tuple[Line, Line]]) -> tuple[Line, ...] | None:
        self.ran.append("patch")
        new = dict(changed for _, changed in changes)
        return tuple((item, new.get(item, price)) for item, price in bill) if "none" not in new else None

    def _dear(self, fetch: Fetch, _: str) -> frozenset[str]:
        self.ran.append("dear")
        return frozenset(item for item in fetch.keys(self.price) if fetch.get(self.is_dear, item))

    def settle(self) -> list[str]:
        self.ran.clear()
        self.graph.settle()
        return self.ran


def bill_of(**prices: int) -> Bill:
    bill = Bill()
    bill.price.replace(prices)
    bill.settle()
    return bill


def test_behind_an_early_value_that_stays_the_same_nobody_is_marked() -> None:
    bill = bill_of(tea=5, pot=30)
    spared = bill.graph.nodes["dear"].cut_off
    bill.price.set("tea", 6)
    assert sorted(bill.settle()) == ["is dear tea", "line tea", "patch"]
    assert bill.graph.nodes["dear"].cut_off == spared, "it was not even asked"

    bill.price.set("tea", 60)
    assert "dear" in bill.settle()
    assert bill.dear.value("") == {"tea", "pot"}


def test_an_early_value_that_nobody_observes_any_longer_is_still_early_for_those_who_read_it() -> None:
    bill = bill_of(tea=5)
    bill.is_dear.observe("tea")
    bill.price.set("tea", 60)
    bill.is_dear.release("tea")
    bill.settle()
    assert bill.dear.value("") == {"tea"}


def test_of_many_values_the_one_that_changed_is_patched_in() -> None:
    bill = bill_of(tea=5, pot=30)
    bill.price.set("tea", 7)
    assert "bill" not in bill.settle()
    assert bill.bill.value("") == (("pot", 30), ("tea", 7))


def test_whatever_else_changes_is_computed_from_all() -> None:
    bill = bill_of(tea=5, pot=30)
    bill.rate.set("", 2)
    bill.price.set("tea", 7)
    assert {"bill", "patch"} & set(bill.settle()) == {"bill"}
    bill.price.set("cup", 1)
    assert {"bill", "patch"} & set(bill.settle()) == {"bill"}


def test_a_patch_that_cannot_be_made_is_computed() -> None:
    bill = bill_of(none=5)
    bill.price.set("none", 7)
    assert {"bill", "patch"} <= set(bill.settle())
    assert bill.bill.value("") == (("none", 7),)


items = st.sampled_from(["tea", "pot", "cup", "none"])
steps = st.one_of(
    st.tuples(st.just("price"), items, st.integers(-3, 20)),
    st.tuples(st.just("no price"), items, st.none()),
    st.tuples(st.just("rate"), st.none(), st.integers(0, 2)),
    st.tuples(st.just("settle"), st.none(), st.none()),
    st.tuples(st.sampled_from(["observe", "release"]), items, st.none()),
)


@given(st.lists(steps, max_size=40))
def test_incremental_equals_from_scratch(script: list[tuple[str, Any, Any]]) -> None:
    """Of prices that can be computed; what cannot is what it was before, and is mended when it can."""
    bill = Bill()
    for verb, key, value in script:
        match verb:
            case "price":
                bill.price.set(key, value)
            case "no price":
                bill.price.delete(key)
            case "rate":
                bill.rate.set("", value)
            case "observe":
                bill.is_dear.observe(key)
            case "release":
                bill.is_dear.release(key)
            case _:
                ran = bill.settle()
                assert len(ran) == len(set(ran)), "nothing runs twice in a settle"
    for key, value in dict(bill.price.values()).items():
        bill.price.set(key, abs(value))
    bill.settle()

    scratch = Bill()
    scratch.price.replace(bill.price.values())
    scratch.settle()
    assert bill.bill.value("") == scratch.bill.value("")
    assert bill.dear.value("") == scratch.dear.value("")
    assert not bill.graph.failures
    assert not bill.graph._news, "nothing waits for what is settled"
