"""Indexes: a source's keys by what is in its values, kept as the source moves, so that nobody scans it.

A derivation that reads one entry of an index depends on that entry alone.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Any, Generic, TypeVar

from isthmus.incremental.cells import ABSENT
from isthmus.incremental.graph import Fetch, Graph, Source

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
I = TypeVar("I", bound=Hashable)  # noqa: E741 the letter of the index


class Index(Generic[I, K]):
    """`under` says under which entries a value stands: none, one or several."""

    def __init__(self, graph: Graph, name: str, source: Source[K, V], under: Callable[[V], Iterable[I]]) -> None:
        self._graph = graph
        self._node = graph.add(name, None)
        self._under: Callable[[Any], Iterable[I]] = under
        self._entries: dict[I, dict[K, None]] = {}
        source.follow(self)

    def moved(self, key: K, old: Any, new: Any) -> None:
        """A `Follower`'s: keeps the entries, and tells those who read the ones that are different now."""
        before = frozenset(self._under(old)) if old is not ABSENT else frozenset()
        after = frozenset(self._under(new)) if new is not ABSENT else frozenset()
        for entry in before - after:
            keys = self._entries[entry]
            del keys[key]
            if not keys:
                del self._entries[entry]
            self._tell(entry)
        for entry in after - before:
            self._entries.setdefault(entry, {})[key] = None
            self._tell(entry)

    def keys(self, fetch: Fetch, entry: I) -> tuple[K, ...]:
        """The keys that stand under the entry, in the order in which they came."""
        fetch.read(self._node.cell(entry))
        return tuple(self._entries.get(entry, ()))

    def entries(self) -> Iterable[I]:
        """Everything that some value stands under."""
        return self._entries.keys()

    def _tell(self, entry: I) -> None:
        self._graph.changed_in(self._node, entry)
