"""The engine: incremental equals from scratch, and only what must run runs."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.incremental.describe import mermaid, summaries
from isthmus.incremental.graph import CycleFound, Derived, Fetch, Graph, Source


class Prices:
    """Items with prices, carts that hold items, totals that read both, and a report over all carts."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.graph = Graph()
        self.price: Source[str, int] = self.graph.source("price")
        self.cart: Source[str, tuple[str, ...]] = self.graph.source("cart")
        self.is_cheap: Derived[str, bool] = self.graph.derive("is_cheap", self._is_cheap)
        self.total: Derived[str, int] = self.graph.derive("total", self._total)
        self.report: Derived[str, tuple[tuple[str, int], ...]] = self.graph.derive("report", self._report)
        self.cheap_count: Derived[str, int] = self.graph.derive("cheap_count", self._cheap_count)

    def _is_cheap(self, fetch: Fetch, item: str) -> bool:
        self.ran.append(f"is_cheap {item}")
        return (fetch.get(self.price, item) or 0) < 10

    def _total(self, fetch: Fetch, cart: str) -> int:
        self.ran.append(f"total {cart}")
        return sum(fetch.get(self.price, item) or 0 for item in fetch.get(self.cart, cart) or ())

    def _cheap_count(self, fetch: Fetch, _: str) -> int:
        self.ran.append("cheap_count")
        return sum(1 for item in fetch.keys(self.price) if fetch.get(self.is_cheap, item))

    def _report(self, fetch: Fetch, _: str) -> tuple[tuple[str, int], ...]:
        self.ran.append("report")
        return tuple((cart, fetch.get(self.total, cart) or 0) for cart in sorted(fetch.keys(self.cart)))

    def settle(self) -> list[str]:
        self.ran.clear()
        self.graph.settle()
        return self.ran


def shop() -> Prices:
    prices = Prices()
    prices.price.replace({"tea": 5, "pot": 30, "cup": 8})
    prices.cart.replace({"ann": ("tea", "pot"), "bob": ("cup",)})
    prices.report.observe("all")
    prices.cheap_count.observe("all")
    prices.settle()
    return prices


def test_one_change_runs_exactly_what_read_it() -> None:
    prices = shop()
    prices.price.set("pot", 31)
    assert sorted(prices.settle()) == ["is_cheap pot", "report", "total ann"]
    assert prices.report.value("all") == (("ann", 36), ("bob", 8))


def test_equal_results_stop_the_wave() -> None:
    prices = shop()
    prices.cart.set("bob", ("cup", "nothing"))
    assert prices.settle() == ["total bob"]


def test_an_equal_value_is_no_change() -> None:
    prices = shop()
    assert not prices.price.set("pot", 30)
    assert prices.settle() == []


def test_keys_that_come_and_go_reach_those_who_read_the_keys() -> None:
    prices = shop()
    prices.cart.set("cat", ("tea",))
    assert sorted(prices.settle()) == ["report", "total cat"]
    prices.cart.delete("cat")
    prices.settle()
    assert prices.report.value("all") == (("ann", 35), ("bob", 8))


def test_what_nobody_observes_is_neither_computed_nor_kept() -> None:
    prices = shop()
    prices.report.release("all")
    prices.price.set("tea", 6)
    assert prices.settle() == ["is_cheap tea"]
    assert {s.name: s.cells for s in summaries(prices.graph)}["total"] == 0


def test_a_derivation_that_raises_keeps_its_last_good_value_and_shows_the_error() -> None:
    graph = Graph()
    number: Source[str, int] = graph.source("number")
    inverse: Derived[str, float] = graph.derive("inverse", lambda fetch, key: 1 / (fetch.get(number, key) or 0))
    doubled: Derived[str, float] = graph.derive("doubled", lambda fetch, key: 2 * (fetch.get(inverse, key) or 0))
    number.set("a", 4)
    doubled.observe("a")
    graph.settle()
    number.set("a", 0)
    graph.settle()
    assert doubled.value("a") == 0.5
    assert isinstance(graph.failures["inverse", "a"], ZeroDivisionError)
    number.set("a", 2)
    graph.settle()
    assert doubled.value("a") == 1.0
    assert graph.failures == {}


def test_what_is_in_doubt_is_asked_in_the_order_in_which_it_was_read() -> None:
    """The second may be the value of something that the first names, and that nobody names any longer."""
    graph = Graph()
    ran: list[str] = []
    length: Source[str, int] = graph.source("length")
    text: Source[str, str] = graph.source("text")
    longest: Derived[str, str] = graph.derive(
        "longest", lambda fetch, _: max(fetch.keys(length), key=lambda name: fetch.get(length, name) or 0)
    )

    def spell(fetch: Fetch, name: str) -> str:
        ran.append(name)
        found = fetch.get(text, name)
        assert found is not None
        return found

    spelled: Derived[str, str] = graph.derive("spelled", spell)
    shown: Derived[str, str] = graph.derive(
        "shown", lambda fetch, _: str(fetch.get(spelled, fetch.get(longest, "of all") or ""))
    )
    length.replace({"ode": 100, "epic": 9000})
    text.replace({"ode": "O", "epic": "Sing"})
    shown.observe("it")
    graph.settle()

    ran.clear()
    text.delete("epic")
    length.delete("epic")
    graph.settle()

    assert ran == ["ode"]
    assert shown.value("it") == "O"


def test_what_is_deferred_is_brought_up_to_date_when_somebody_asks_for_it() -> None:
    graph = Graph()
    number: Source[str, int] = graph.source("number")
    double: Derived[str, int] = graph.derive(
        "double", lambda fetch, key: 2 * (fetch.get(number, key) or 0), deferred=True
    )
    number.replace({"a": 1, "b": 2})
    double.observe("a")
    double.observe("b")

    graph.settle()
    assert (double.due(), double.value("a"), graph.is_due) == (["a", "b"], None, False)

    double.bring("b")
    assert (double.due(), double.value("a"), double.value("b")) == (["a"], None, 4)
    assert [change.key for change in graph.take_changes()] == ["b"]

    double.bring("a")
    number.set("b", 3)
    assert (double.due(), double.value("b")) == (["b"], 4)

    double.release("b")
    assert double.due() == []


def test_a_derivation_that_reads_itself_is_told() -> None:
    graph = Graph()
    loop: Derived[str, Any] = graph.derive("loop", lambda fetch, key: fetch.get(loop, key))
    loop.observe("x")
    with pytest.raises(CycleFound, match="loop"):
        graph.settle()


def test_changes_name_the_observed_values_that_became_different() -> None:
    prices = shop()
    prices.price.set("tea", 6)
    changes = prices.graph.settle()
    assert [(change.node, change.old, change.new) for change in changes] == [
        ("report", (("ann", 35), ("bob", 8)), (("ann", 36), ("bob", 8)))
    ]


def test_the_graph_can_be_drawn() -> None:
    assert "flowchart LR" in mermaid(shop().graph)
    assert "total (2)" in mermaid(shop().graph)


items = st.sampled_from("abcd")
carts = st.sampled_from("xyz")
steps = st.one_of(
    st.tuples(st.just("price"), items, st.integers(0, 20)),
    st.tuples(st.just("cart"), carts, st.lists(items, max_size=3).map(tuple)),
    st.tuples(st.just("no price"), items, st.none()),
    st.tuples(st.just("no cart"), carts, st.none()),
    st.tuples(st.just("settle"), st.none(), st.none()),
    st.tuples(st.sampled_from(["observe", "release"]), carts, st.none()),
)


@given(st.lists(steps, max_size=40))
def test_incremental_equals_from_scratch(script: list[tuple[str, Any, Any]]) -> None:
    incremental = Prices()
    incremental.report.observe("all")
    incremental.cheap_count.observe("all")
    for verb, key, value in script:
        match verb:
            case "price":
                incremental.price.set(key, value)
            case "cart":
                incremental.cart.set(key, value)
            case "no price":
                incremental.price.delete(key)
            case "no cart":
                incremental.cart.delete(key)
            case "observe":
                incremental.total.observe(key)
            case "release":
                incremental.total.release(key)
            case _:
                ran = incremental.settle()
                assert len(ran) == len(set(ran)), "nothing runs twice in a settle"
    incremental.settle()

    scratch = Prices()
    scratch.price.replace(incremental.price.values())
    scratch.cart.replace(incremental.cart.values())
    scratch.report.observe("all")
    scratch.cheap_count.observe("all")
    scratch.settle()
    assert incremental.report.value("all") == scratch.report.value("all")
    assert incremental.cheap_count.value("all") == scratch.cheap_count.value("all")
    live = {s.name: s.cells for s in summaries(incremental.graph)}
    assert live["is_cheap"] == len(incremental.price.keys()), "nothing is kept for keys that are gone"
