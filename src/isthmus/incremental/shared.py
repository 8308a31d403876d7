"""Shared: a derivation asked by many subjects, computed once for all that agree on what it looked at.

A subject is a record (of a proxy, say). The computation is given it behind a door that notes which attributes are read; their values, in the
order of reading, are the *path*. Subjects with the same path get the same value, because a computation that reads the same gives the same.
Nobody writes a cache key, so none can lack a part.

What is read may come to differ: when a computation's path changes, all values of its key are forgotten and asked for again.

Laws, held by tests/incremental/test_shared.py: every subject's value is what computing for it alone would give; subjects that differ only in
attributes which were not read cost one computation.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from isthmus.incremental.graph import ABSENT, Cell, Fetch, Graph, Node, State

K = TypeVar("K", bound=Hashable)
S = TypeVar("S", bound=Hashable)
V = TypeVar("V")

Path = tuple[tuple[str, Any], ...]


class _Watched:
    """A subject behind a door: what is read of it is noted, in order."""

    __slots__ = ("_reads", "_subject")

    def __init__(self, subject: Any) -> None:
        self._subject = subject
        self._reads: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        reads = self._reads
        if name in reads:
            return reads[name]
        value = reads[name] = getattr(self._subject, name)
        return value


def _bare(subject: Any) -> Any:
    return subject._subject if isinstance(subject, _Watched) else subject


class _Label:
    """A leaf's name among the node's cells: its own, because a retired leaf and its successor may have one path."""

    __slots__ = ("leaf",)

    def __init__(self, leaf: _Leaf) -> None:
        self.leaf = leaf

    def __repr__(self) -> str:
        told = ", ".join(f"{attribute}={value!r}" for attribute, value in self.leaf.path or ())
        return f"{self.leaf.of!r} for {told or 'everybody'}"


class _Leaf(Cell):
    """One value, for all subjects with one path. `subject` stands for them; `followers` observe it."""

    __slots__ = ("followers", "of", "path", "retired", "subject")

    def __init__(self, node: Node, of: Hashable, subject: Any) -> None:
        super().__init__(node, _Label(self))
        self.of = of
        self.subject = subject
        self.path: Path | None = None
        self.followers: dict[Hashable, None] = {}
        self.retired = False


class _Branch:
    """Where paths part: by the value of one attribute."""

    __slots__ = ("attribute", "children")

    def __init__(self, attribute: str) -> None:
        self.attribute = attribute
        self.children: dict[Any, _Branch | _Leaf] = {}


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

    def __init__(self, graph: Graph, name: str, compute: Callable[[Fetch, K, S], V]) -> None:
        self._graph = graph
        self._compute = compute
        self._node = graph.add(name, self._run)
        self._node.reported = self._report
        self._node.forgotten = self._forgotten
        self._roots: dict[K, _Branch | _Leaf] = {}
        self._moved: dict[tuple[K, S], Any] = {}
        self.changes: list[SharedChange] = []

    @property
    def name(self) -> str:
        return self._node.name

    def of(self, fetch: Fetch, key: K, subject: S) -> V:
        """For derivations: the value for this subject. Raises Unavailable for one that never succeeded."""
        while True:
            leaf = self._current(key, subject)
            if leaf is not None:
                # What tells this subject from others tells the reader's subjects apart, too.
                for attribute, _ in leaf.path or ():
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
            leaf = self._current(key, subject)
            if leaf is None:
                self._moved.setdefault((key, subject), old)
                continue
            leaf.followers[subject] = None
            self._graph.observe(leaf)
            if leaf.value is not ABSENT and (old is ABSENT or (old is not leaf.value and old != leaf.value)):
                self.changes.append(
                    SharedChange(self.name, key, (subject,), None if old is ABSENT else old, leaf.value)
                )
            yield

    def take_changes(self) -> list[SharedChange]:
        """What has been found to be different since the last call."""
        changes, self.changes = self.changes, []
        return changes

    @property
    def is_settled(self) -> bool:
        return not self._moved

    def _find(self, key: K, subject: S) -> _Leaf | None:
        at = self._roots.get(key)
        while isinstance(at, _Branch):
            at = at.children.get(getattr(subject, at.attribute))
        return at

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
            if cell.path is None:
                self._place(cell, tuple(watched._reads.items()))
            raise
        self._place(cell, tuple(watched._reads.items()))
        return value

    def _place(self, leaf: _Leaf, path: Path) -> None:
        """Where subjects with this path find it. Where it cannot stand beside the others, these go."""
        if leaf.path == path or leaf.retired:
            return
        key = cast(K, leaf.of)
        is_new = leaf.path is None
        if is_new:
            leaf.path = path
            if self._insert(key, leaf):
                return
        for each in list(_leaves(self._roots.pop(key, None))):
            if each is not leaf or not is_new:
                self._retire(each)
        if is_new:
            self._insert(key, leaf)

    def _insert(self, key: K, leaf: _Leaf) -> bool:
        """Whether there is room: paths that part must do so at one attribute."""
        assert leaf.path is not None, "a leaf is placed when its path is known"
        if not leaf.path:
            if key in self._roots:
                return False
            self._roots[key] = leaf
            return True
        at = self._roots.setdefault(key, _Branch(leaf.path[0][0]))
        for index, (attribute, value) in enumerate(leaf.path):
            if not isinstance(at, _Branch) or at.attribute != attribute:
                return False
            if index == len(leaf.path) - 1:
                return at.children.setdefault(value, leaf) is leaf
            at = at.children.setdefault(value, _Branch(leaf.path[index + 1][0]))
        raise AssertionError("a path that is not empty ends in its loop")

    def _retire(self, leaf: _Leaf) -> None:
        """Nobody finds it any longer; who read it or observed it asks again."""
        leaf.retired = True
        for subject in leaf.followers:
            self._moved.setdefault((cast(K, leaf.of), cast(S, subject)), leaf.value)
        leaf.followers.clear()
        self._graph.changed(leaf)
        self._graph.release(leaf)

    def _report(self, cell: Cell, old: Any) -> None:
        assert isinstance(cell, _Leaf), "all cells of a shared derivation are leaves"
        if cell.followers:
            self.changes.append(
                SharedChange(self.name, cell.of, tuple(cell.followers), None if old is ABSENT else old, cell.value)
            )

    def _forgotten(self, cell: Cell) -> None:
        """Takes the leaf off its branch, and branches that are bare then."""
        assert isinstance(cell, _Leaf), "all cells of a shared derivation are leaves"
        if cell.retired or cell.path is None:
            return
        key = cast(K, cell.of)
        way: list[tuple[_Branch, Any]] = []
        at = self._roots.get(key)
        for _, value in cell.path:
            if not isinstance(at, _Branch):
                return
            way.append((at, value))
            at = at.children.get(value)
        if at is not cell:
            return
        for branch, value in reversed(way):
            del branch.children[value]
            if branch.children:
                return
        self._roots.pop(key, None)


def _leaves(at: _Branch | _Leaf | None) -> Iterator[_Leaf]:
    if isinstance(at, _Leaf):
        yield at
    elif at is not None:
        for child in at.children.values():
            yield from _leaves(child)
