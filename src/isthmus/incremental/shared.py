"""Shared: a derivation asked by many subjects, computed once for all that agree on what it looked at.

A subject is a record (of a proxy, say). The computation is given it behind a door that notes which attributes are read; their values, in the
order of reading, are the *path*. Subjects with the same path get the same value, because a computation that reads the same gives the same.
Nobody writes a cache key, so none can lack a part.

What is read may come to differ: when a value's path changes, its subjects may have parted, and all of them ask again.

Laws, held by tests/incremental/test_shared.py: every subject's value is what computing for it alone would give; subjects that differ only in
attributes which were not read cost one computation.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from isthmus.incremental.cells import ABSENT, Cell, Node, State
from isthmus.incremental.graph import Derived, Fetch, Graph

K = TypeVar("K", bound=Hashable)
S = TypeVar("S", bound=Hashable)
V = TypeVar("V")

Attributes = tuple[str, ...]
Values = tuple[Any, ...]


class _Watched:
    """A subject behind a door: what is read of it is noted, in order, in the instance's own dictionary, where Python looks first."""

    __slots__ = ("__dict__", "_subject")

    def __init__(self, subject: Any) -> None:
        self._subject = subject

    def __getattr__(self, name: str) -> Any:
        value = self.__dict__[name] = getattr(self._subject, name)
        return value


def _bare(subject: Any) -> Any:
    return subject._subject if isinstance(subject, _Watched) else subject


class _Label:
    """A leaf's name among the node's cells: its own, because a retired leaf and its successor may have one path."""

    __slots__ = ("leaf",)

    def __init__(self, leaf: _Leaf) -> None:
        self.leaf = leaf

    def __repr__(self) -> str:
        path = zip(self.leaf.attributes, self.leaf.values, strict=True) if self.leaf.is_placed else ()
        told = ", ".join(f"{attribute}={value!r}" for attribute, value in path)
        return f"{self.leaf.of!r} for {told or 'everybody'}"


def asked_for(key: Hashable) -> Hashable:
    """What the cell under this key of any node, shared or not, is the value of."""
    return key.leaf.of if isinstance(key, _Label) else key


class _Leaf(Cell):
    """One value, for all subjects with one path: attributes and their values. `subject` stands for them; `followers` observe it."""

    __slots__ = ("attributes", "followers", "is_placed", "of", "retired", "subject", "values")

    def __init__(self, node: Node, of: Hashable, subject: Any) -> None:
        super().__init__(node, _Label(self))
        self.of = of
        self.subject = subject
        self.attributes: Attributes = ()
        self.values: Values = ()
        self.is_placed = False
        self.followers: dict[Hashable, None] = _NOBODY
        self.retired = False


@dataclass(frozen=True, slots=True)
class SharedChange:
    """A value that became different for those that observe it. `old` is None where there was none."""

    node: str
    key: Hashable
    subjects: tuple[Hashable, ...]
    old: Any
    new: Any


class Shared(Generic[K, S, V]):
    """Values by key and subject."""

    def __init__(
        self,
        graph: Graph,
        name: str,
        compute: Callable[[Fetch, K, S], V],
        *,
        deferred: bool = False,
        early: bool = False,
    ) -> None:
        self._graph = graph
        self._compute = compute
        self._node = graph.add(name, self._run)
        if deferred:
            self._node.deferred()
        if early:
            self._node.early()
        self._node.reported = self._report
        self._node.forgotten = self._forgotten
        self._leaves: dict[K, dict[Attributes, dict[Values, _Leaf]]] = {}
        self._moved: dict[tuple[K, S], Any] = {}
        self.changes: list[SharedChange] = []

    def patched(
        self,
        patch: Callable[[V, Sequence[tuple[Any, Any]]], V | None],
        *sources: Shared[Any, S, Any] | Derived[Any, Any],
    ) -> None:
        """`Node.patched`: what is made of many values of `sources` is changed where they change."""
        self._node.patched(patch, *(source._node for source in sources))

    @property
    def name(self) -> str:
        return self._node.name

    def of(self, fetch: Fetch, key: K, subject: S) -> V:
        """For derivations: the value for this subject. Raises Unavailable for one that never succeeded."""
        while True:
            leaf = self._current(key, subject)
            if leaf is not None:
                # What tells this subject from others tells the reader's subjects apart, too.
                for attribute in leaf.attributes:
                    getattr(subject, attribute)
                return cast(V, fetch.value_of(leaf))

    def observe(self, key: K, subject: S) -> None:
        """Keeps the value for this subject current from the next settle on, and reports its changes under the subject's name."""
        self._moved.setdefault((key, subject), ABSENT)

    def release(self, key: K, subject: S) -> None:
        """Ends `observe`."""
        self._moved.pop((key, subject), None)
        leaf = self._find(key, subject)
        if leaf is not None and subject in leaf.followers:
            del leaf.followers[subject]
            if not leaf.followers:
                self._graph.release(leaf)

    def settling(self) -> Iterator[None]:
        """Gives each subject that was moved, or is new, its value. Call it before the graph's own settling, and again until it gives nothing."""
        while self._moved:
            (key, subject), old = self._moved.popitem()
            self._follow(key, subject, old)
            yield
        self._moved = {}  # What was large stays large, even when it is empty.

    @property
    def is_due(self) -> bool:
        """If it is deferred: whether `due` has anything to say."""
        return bool(self._node.due or self._moved)

    def due(self) -> list[tuple[K, S]]:
        """If it is deferred: who observes what, of which the value may be another one now."""
        leaves = [cast(_Leaf, cell) for cell in self._node.due]
        return [*((cast(K, leaf.of), cast(S, each)) for leaf in leaves for each in leaf.followers), *self._moved]

    def bring(self, key: K, subject: S) -> None:
        """Brings what the subject observes up to date, where it is due."""
        leaf = self._find(key, subject)
        if leaf is not None and leaf in self._node.due:
            self._graph.bring(leaf)
        while (key, subject) in self._moved:
            self._follow(key, subject, self._moved.pop((key, subject)))

    def _follow(self, key: K, subject: S, old: Any) -> None:
        """Where the value is found by now. `old` is what the subject had before."""
        leaf = self._current(key, subject)
        if leaf is None:
            self._moved.setdefault((key, subject), old)
            return
        if leaf.followers is _NOBODY:
            leaf.followers = {}
        leaf.followers[subject] = None
        self._graph.observe(leaf)
        if leaf.value is not ABSENT and (old is ABSENT or (old is not leaf.value and old != leaf.value)):
            self.changes.append(SharedChange(self.name, key, (subject,), None if old is ABSENT else old, leaf.value))

    def take_changes(self) -> list[SharedChange]:
        """What has been found to be different since the last call."""
        changes, self.changes = self.changes, []
        return changes

    @property
    def is_settled(self) -> bool:
        return not self._moved

    def _find(self, key: K, subject: S) -> _Leaf | None:
        """Whatever path the subject agrees with: a computation for it would read the same."""
        bare = _bare(subject)
        for attributes, leaves in self._leaves.get(key, _NONE).items():
            leaf = leaves.get(tuple([getattr(bare, attribute) for attribute in attributes]))
            if leaf is not None:
                return leaf
        return None

    def _current(self, key: K, subject: S) -> _Leaf | None:
        """The subject's leaf, brought up to date; None where that made its path another one: ask again."""
        leaf = self._find(key, subject)
        if leaf is None:
            leaf = _Leaf(self._node, key, _bare(subject))
            self._node.cells[leaf.key] = leaf
        if leaf.state is not State.CLEAN:
            self._graph.refresh(leaf)
        if leaf.retired:
            self._graph.forget_if_unused(leaf)
            return None
        return leaf

    def _run(self, fetch: Fetch, cell: Cell) -> Any:
        assert isinstance(cell, _Leaf), "all cells of a shared derivation are leaves"
        watched = _Watched(cell.subject)
        try:
            value = self._compute(fetch, cast(K, cell.of), cast(S, watched))
        except Exception:
            if not cell.is_placed:
                self._place(cell, vars(watched))
            raise
        self._place(cell, vars(watched))
        return value

    def _place(self, leaf: _Leaf, reads: dict[str, Any]) -> None:
        """Where subjects with its path find it. If that has become another one, its subjects may have parted: all of them ask again."""
        attributes, values = _SAME.setdefault(tuple(reads), tuple(reads)), tuple(reads.values())
        if leaf.is_placed:
            parted = (leaf.attributes, leaf.values) != (attributes, values)
            # In another order it is the same path: subjects that agree on it do so either way.
            if parted and dict(zip(leaf.attributes, leaf.values, strict=True)) != reads and not leaf.retired:
                self._retire(leaf)
            return
        leaf.attributes, leaf.values, leaf.is_placed = attributes, values, True
        self._leaves.setdefault(cast(K, leaf.of), {}).setdefault(attributes, {})[values] = leaf

    def _retire(self, leaf: _Leaf) -> None:
        """Nobody finds it any longer; who read it or observed it asks again."""
        leaf.retired = True
        self._take_off(leaf)
        for subject in leaf.followers:
            self._moved.setdefault((cast(K, leaf.of), cast(S, subject)), leaf.value)
        leaf.followers = _NOBODY
        self._graph.changed(leaf)
        self._graph.release(leaf)

    def _report(self, cell: Cell, old: Any) -> None:
        assert isinstance(cell, _Leaf), "all cells of a shared derivation are leaves"
        if cell.followers:
            self.changes.append(
                SharedChange(self.name, cell.of, tuple(cell.followers), None if old is ABSENT else old, cell.value)
            )

    def _forgotten(self, cell: Cell) -> None:
        assert isinstance(cell, _Leaf), "all cells of a shared derivation are leaves"
        if cell.is_placed and not cell.retired:
            self._take_off(cell)
        cell.key = None  # Its label knows it: what it was would wait for a search for garbage.

    def _take_off(self, leaf: _Leaf) -> None:
        key = cast(K, leaf.of)
        by_attributes = self._leaves[key]
        leaves = by_attributes[leaf.attributes]
        if leaves.get(leaf.values) is leaf:
            del leaves[leaf.values]
        if not leaves:
            del by_attributes[leaf.attributes]
        if not by_attributes:
            del self._leaves[key]


_NOBODY: dict[Hashable, None] = {}
"""Followers of all leaves that have none: nearly all are read by others only. Never changed."""

_NONE: dict[Attributes, dict[Values, _Leaf]] = {}

_SAME: dict[Attributes, Attributes] = {}
"""One object for each sequence of attributes: there are few, and many paths."""
