"""Shared derivations: each subject has what computing for it alone gives, and subjects that agree on what was read cost one computation."""

from __future__ import annotations

import gc
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from isthmus.incremental.graph import Cell, Derived, Fetch, Graph, Source
from isthmus.incremental.shared import Shared


@dataclass(frozen=True)
class Reader:
    language: str
    town: str
    age: int


class Library:
    """Books that say `TEXT`, or `by language: …`, `by town: …`, `by both: …`; shelves hold books, and a reader sees a shelf."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.graph = Graph()
        self.book: Source[str, str] = self.graph.source("book")
        self.shelf: Source[str, tuple[str, ...]] = self.graph.source("shelf")
        self.text: Shared[str, Reader, str] = Shared(self.graph, "text", self._text)
        self.view: Shared[str, Reader, tuple[str, ...]] = Shared(self.graph, "view", self._view)
        self.length: Derived[str, int] = self.graph.derive("length", self._length)

    def _text(self, fetch: Fetch, book: str, reader: Reader) -> str:
        self.ran.append(f"text {book}")
        text = fetch.get(self.book, book) or ""
        if text.startswith("fails"):
            raise ValueError(text)
        if text.startswith("by language"):
            return f"{text} {reader.language}"
        if text.startswith("by town"):
            return f"{text} {reader.town}"
        if text.startswith("by both"):
            return f"{text} {reader.language} {reader.town}" if reader.language == "en" else f"{text} {reader.town}"
        return text

    def _view(self, fetch: Fetch, shelf: str, reader: Reader) -> tuple[str, ...]:
        self.ran.append(f"view {shelf}")
        return tuple(self.text.of(fetch, book, reader) for book in fetch.get(self.shelf, shelf) or ())

    def _length(self, fetch: Fetch, book: str) -> int:
        return len(self.text.of(fetch, book, ANN))

    def settle(self) -> dict[tuple[str, Reader], tuple[str, ...]]:
        """What changed, for whom."""
        while not self.view.is_settled or self.graph.is_due:
            for _ in self.view.settling():
                pass
            for _ in self.graph.settling():
                pass
        return {(change.key, subject): change.new for change in self.view.take_changes() for subject in change.subjects}


ANN = Reader("en", "york", 30)
BEN = Reader("en", "york", 40)
EVA = Reader("de", "york", 30)


def library(**books: str) -> Library:
    found = Library()
    found.book.replace(books)
    found.shelf.set("all", tuple(books))
    return found


def observed(found: Library, *readers: Reader) -> None:
    for reader in readers:
        found.view.observe("all", reader)
    found.settle()
    found.ran.clear()


def test_subjects_that_differ_in_what_nobody_read_cost_one_computation() -> None:
    found = library(a="plain", b="by town")
    for reader in (ANN, BEN, EVA):
        found.view.observe("all", reader)

    changed = found.settle()

    assert changed == {("all", reader): ("plain", "by town york") for reader in (ANN, BEN, EVA)}
    assert found.ran == ["view all", "text a", "text b"]


def test_a_change_is_computed_once_for_all_who_share_it() -> None:
    found = library(a="plain", b="by language")
    observed(found, ANN, BEN, EVA)

    found.book.set("b", "by language:")
    changed = found.settle()

    assert changed[("all", BEN)] == ("plain", "by language: en")
    assert changed[("all", EVA)] == ("plain", "by language: de")
    assert sorted(found.ran) == ["text b", "text b", "view all", "view all"]


def test_when_more_comes_to_be_read_subjects_part() -> None:
    found = library(a="plain")
    observed(found, ANN, EVA)

    found.book.set("a", "by language")

    assert found.settle() == {("all", ANN): ("by language en",), ("all", EVA): ("by language de",)}


def test_when_less_is_read_subjects_join_and_a_value_that_stays_is_not_reported() -> None:
    found = library(a="by language", b="plain")
    observed(found, ANN, EVA)

    found.book.set("a", "by language")
    assert found.settle() == {}
    found.book.set("a", "one")
    found.settle()
    found.ran.clear()
    found.book.set("b", "two")

    assert found.settle() == {("all", ANN): ("one", "two"), ("all", EVA): ("one", "two")}
    assert found.ran == ["text b", "view all"]


def test_what_is_read_in_another_order_is_computed_once_and_nobody_parts() -> None:
    found = library(a="by language", b="by town")
    observed(found, ANN, BEN)

    found.shelf.set("all", ("b", "a"))

    both = ("by town york", "by language en")
    assert found.settle() == {("all", ANN): both, ("all", BEN): both}
    assert found.ran == ["view all"]


def test_a_deferred_one_is_brought_up_to_date_for_the_subject_that_is_named_and_for_those_who_share_it() -> None:
    graph = Graph()
    book: Source[str, str] = graph.source("book")

    def read(fetch: Fetch, name: str, reader: Reader) -> str:
        text = fetch.get(book, name) or ""
        return f"{text} {reader.town}" if text.startswith("by town") else text

    text: Shared[str, Reader, str] = Shared(graph, "text", read, deferred=True)
    ann, bob = Reader("en", "york", 30), Reader("en", "bath", 40)
    book.set("a", "hello")
    text.observe("a", ann)
    text.observe("a", bob)
    graph.settle()
    assert sorted(text.due(), key=str) == [("a", bob), ("a", ann)]

    text.bring("a", ann)
    text.bring("a", bob)
    text.take_changes()
    book.set("a", "good day")
    text.bring("a", ann)

    assert text.due() == []
    assert [(each.subjects, each.new) for each in text.take_changes()] == [((ann, bob), "good day")]

    book.set("a", "by town")
    text.bring("a", ann)

    assert text.due() == [("a", bob)]
    assert [(each.subjects, each.new) for each in text.take_changes()] == [((ann,), "by town york")]


def test_a_failure_leaves_the_last_good_value_and_is_mended_by_the_next_change() -> None:
    found = library(a="by language")
    observed(found, ANN, EVA)

    found.book.set("a", "fails")
    assert found.settle() == {}
    assert len(found.graph.failures) == 2
    found.book.set("a", "by town")

    assert found.settle() == {("all", ANN): ("by town york",), ("all", EVA): ("by town york",)}
    assert found.graph.failures == {}


def test_what_is_forgotten_leaves_nothing_that_a_search_for_garbage_would_have_to_find() -> None:
    found = library(a="by language", b="by town")
    observed(found, ANN)
    gc.collect()
    gc.disable()
    try:
        found.view.release("all", ANN)
        assert not [each for each in gc.get_objects() if isinstance(each, Cell) and each.node.name in ("view", "text")]
    finally:
        gc.enable()


def test_what_nobody_observes_is_forgotten() -> None:
    found = library(a="by language", b="by town")
    observed(found, ANN, EVA)
    found.book.set("a", "by both")
    found.settle()

    for reader in (ANN, EVA):
        found.view.release("all", reader)

    assert {node.name: len(node.cells) for node in found.graph.nodes.values() if node.cells} == {}


SAYINGS = st.sampled_from(["", "plain", "by language", "by town", "by both", "by both!", "fails"])
READERS = st.sampled_from([Reader(language, town, age) for language in ("en", "de") for town in "xy" for age in (1, 2)])
EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("book"), st.sampled_from("abc"), SAYINGS),
        st.tuples(st.just("shelf"), st.sampled_from("st"), st.lists(st.sampled_from("abc"), max_size=3)),
        st.tuples(st.just("observe"), st.sampled_from("st"), READERS),
        st.tuples(st.just("release"), st.sampled_from("st"), READERS),
        st.just(("settle", "", "")),
    ),
    max_size=40,
)


@given(EVENTS)
def test_after_any_changes_every_subject_has_what_computing_for_it_alone_gives(events) -> None:
    found = Library()
    told: dict[tuple[str, Reader], tuple[str, ...]] = {}
    wanted: set[tuple[str, Reader]] = set()
    for what, key, value in [*events, ("settle", "", "")]:
        match what:
            case "book":
                found.book.set(key, value)
            case "shelf":
                found.shelf.set(key, tuple(value))
            case "observe":
                found.view.observe(key, value)
                wanted.add((key, value))
            case "release" if (key, value) in wanted:
                found.view.release(key, value)
                wanted.discard((key, value))
                told.pop((key, value), None)
            case "settle":
                told |= found.settle()

    for shelf, reader in wanted:
        books = [found.book.values().get(book, "") for book in found.shelf.values().get(shelf, ())]
        if not any(text.startswith("fails") for text in books):
            alone = Library()
            alone.book.replace(dict(found.book.values()))
            alone.shelf.replace(dict(found.shelf.values()))
            alone.view.observe(shelf, reader)
            assert told[shelf, reader] == alone.settle()[shelf, reader]
    for shelf, reader in wanted:
        found.view.release(shelf, reader)
    assert {node.name: len(node.cells) for node in found.graph.nodes.values() if node.cells} == {}
