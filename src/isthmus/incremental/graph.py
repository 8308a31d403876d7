"""A graph of keyed values that stay current: sources are set, derivations are computed from what they fetch.

The one idea: *push dirty, pull value, stop at equal*. Setting a source marks its readers, and theirs, as suspect; nothing is
computed. `settle` brings the observed cells up to date: a suspect cell first brings what it read up to date, and is computed again
only if one of these really changed. A result equal to the old one stops the wave there.

Laws, held by tests/incremental:

- after `settle`, every observed value equals what computing from scratch gives;
- a cell is computed at most once in a settle, and only if something that it read has changed;
- a computation that raises leaves the last good value in place, and its error in `failures`, until it succeeds;
- a cell that nobody observes and nobody reads is forgotten.

A derivation may read only through the `Fetch` that it is given; what it read is what it depends on.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, Generic, TypeVar, cast

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Unavailable(Exception):
    """A value was fetched that was never computed successfully."""


class CycleFound(Exception):
    """A derivation reads itself, directly or through others: a mistake in the program, not in its input."""


class _Absent(Enum):
    ABSENT = "absent"


ABSENT = _Absent.ABSENT


class _State(Enum):
    CLEAN = 0
    SUSPECT = 1
    """Something further up has changed; whether a direct read has is not known yet."""
    DIRTY = 2
    COMPUTING = 3


class _Cell:
    """One value of one node, with what it read and who read it."""

    __slots__ = ("key", "node", "observed", "readers", "reads", "state", "value")

    def __init__(self, node: _Node, key: Hashable) -> None:
        self.node = node
        self.key = key
        self.value: Any = ABSENT
        self.state = _State.DIRTY
        self.reads: dict[_Cell, None] = {}
        self.readers: dict[_Cell, None] = {}
        self.observed = False


class _Node:
    """A named family of cells. `compute` is absent for a source."""

    def __init__(self, graph: Graph, name: str, compute: Callable[[Fetch, Any], Any] | None) -> None:
        self.graph = graph
        self.name = name
        self.compute = compute
        self.cells: dict[Hashable, _Cell] = {}
        self.computed = 0
        self.cut_off = 0

    def cell(self, key: Hashable) -> _Cell:
        cell = self.cells.get(key)
        if cell is None:
            cell = self.cells[key] = _Cell(self, key)
            if self.compute is None:
                cell.state = _State.CLEAN
        return cell


_KEYS = "keys of "


class Source(Generic[K, V]):
    """Values that come from outside, by key."""

    def __init__(self, graph: Graph, name: str) -> None:
        self._graph = graph
        self._node = graph._add(name, None)
        self._keys = graph._add(_KEYS + name, None)
        self._keys.cell(None).value = frozenset()

    def set(self, key: K, value: V) -> bool:
        """Whether the value differs from the one before. An equal one changes nothing."""
        cell = self._node.cell(key)
        if cell.value is value or cell.value == value:
            return False
        appeared = cell.value is ABSENT
        cell.value = value
        self._graph._changed(cell)
        if appeared:
            self._set_keys(self.keys() | {key})
        return True

    def delete(self, key: K) -> bool:
        """Whether there was a value."""
        cell = self._node.cells.get(key)
        if cell is None or cell.value is ABSENT:
            return False
        cell.value = ABSENT
        self._graph._changed(cell)
        self._set_keys(self.keys() - {key})
        self._graph._forget_if_unused(cell)
        return True

    def replace(self, values: dict[K, V]) -> None:
        """Makes exactly these the values: the keys that are missing are deleted."""
        for key in self.keys() - values.keys():
            self.delete(key)
        for key, value in values.items():
            self.set(key, value)

    def values(self) -> dict[K, V]:
        """Everything that is set."""
        return {cast(K, key): cast(V, cell.value) for key, cell in self._node.cells.items() if cell.value is not ABSENT}

    def keys(self) -> frozenset[K]:
        return cast("frozenset[K]", self._keys.cell(None).value)

    def _set_keys(self, keys: frozenset[K]) -> None:
        cell = self._keys.cell(None)
        cell.value = keys
        self._graph._changed(cell)


class Derived(Generic[K, V]):
    """Values computed from others, by key, when somebody observes them."""

    def __init__(self, graph: Graph, name: str, compute: Callable[[Fetch, K], V]) -> None:
        self._graph = graph
        self._node = graph._add(name, compute)

    def observe(self, key: K) -> None:
        """Keeps this value current from the next settle on."""
        cell = self._node.cell(key)
        cell.observed = True
        if cell.state is not _State.CLEAN:
            self._graph._due[cell] = None

    def release(self, key: K) -> None:
        """Ends `observe`. What nobody else needs is forgotten."""
        cell = self._node.cells.get(key)
        if cell is not None:
            cell.observed = False
            self._graph._due.pop(cell, None)
            self._graph._forget_if_unused(cell)

    def value(self, key: K) -> V | None:
        """The value as of the last settle; None where there is none yet."""
        cell = self._node.cells.get(key)
        return None if cell is None or cell.value is ABSENT else cast(V, cell.value)


class Fetch:
    """The only door through which a derivation reads."""

    def __init__(self, graph: Graph, reader: _Cell) -> None:
        self._graph = graph
        self._reader = reader

    def get(self, source: Source[K, V] | Derived[K, V], key: K) -> V | None:
        """The value, or None where a source has none. Raises Unavailable for a derivation that never succeeded."""
        cell = source._node.cell(key)
        value = self._read(cell)
        if value is ABSENT:
            if cell.node.compute is not None:
                raise Unavailable(f"{cell.node.name}[{key!r}] has no value yet")
            return None
        return cast(V, value)

    def keys(self, source: Source[K, V]) -> frozenset[K]:
        """Every key that the source has. The reader then depends on keys coming and going, not on their values."""
        return cast("frozenset[K]", self._read(source._keys.cell(None)))

    def _read(self, cell: _Cell) -> Any:
        self._reader.reads[cell] = None
        cell.readers[self._reader] = None
        self._graph._refresh(cell)
        return cell.value


@dataclass(frozen=True, slots=True)
class Change:
    """An observed value that a settle made different. `old` is None where there was none."""

    node: str
    key: Hashable
    old: Any
    new: Any


class Graph:
    """Sources and derivations that belong together. For one thread; never entered again from inside a derivation."""

    def __init__(self) -> None:
        self._nodes: dict[str, _Node] = {}
        self._due: dict[_Cell, None] = {}
        self._log: list[Change] = []
        self.failures: dict[tuple[str, Hashable], BaseException] = {}

    def source(self, name: str) -> Source[Any, Any]:
        """A new source. Raises ValueError for a name that is taken."""
        return Source(self, name)

    def derive(self, name: str, compute: Callable[[Fetch, K], V]) -> Derived[K, V]:
        """A new derivation. Raises ValueError for a name that is taken."""
        return Derived(self, name, compute)

    def settle(self) -> list[Change]:
        """Brings every observed value up to date; the changes, in the order in which they were found."""
        for _ in self.settling():
            pass
        changes, self._log = self._log, []
        return changes

    def settling(self) -> Iterator[None]:
        """`settle` in slices: yields after each observed cell, so that a caller can let others run in between.

        Sources must not be set while a slice is under way; between slices they may. Ends when nothing is due; call `settle` then
        for the changes.
        """
        while self._due:
            cell = next(iter(self._due))
            del self._due[cell]
            self._refresh(cell)
            yield

    def _add(self, name: str, compute: Callable[[Fetch, Any], Any] | None) -> _Node:
        if name in self._nodes:
            raise ValueError(f"the graph has a node named {name!r} already")
        node = self._nodes[name] = _Node(self, name, compute)
        return node

    def _changed(self, cell: _Cell) -> None:
        """Marks direct readers dirty and everything behind them suspect."""
        for reader in cell.readers:
            self._mark(reader, _State.DIRTY)

    def _mark(self, cell: _Cell, state: _State) -> None:
        stack = [(cell, state)]
        while stack:
            current, wanted = stack.pop()
            if current.state is _State.COMPUTING or current.state.value >= wanted.value:
                continue
            was_clean = current.state is _State.CLEAN
            current.state = wanted
            if current.observed:
                self._due[current] = None
            if was_clean:
                stack.extend((reader, _State.SUSPECT) for reader in current.readers)

    def _refresh(self, cell: _Cell) -> None:
        """Makes the cell clean: by finding that nothing it read has changed, or by computing it."""
        if cell.state is _State.COMPUTING:
            raise CycleFound(f"{cell.node.name}[{cell.key!r}] reads itself")
        if cell.state is _State.SUSPECT and not self._read_something_new(cell):
            cell.state = _State.CLEAN
            cell.node.cut_off += 1
        if cell.state is _State.DIRTY:
            self._compute(cell)

    def _read_something_new(self, cell: _Cell) -> bool:
        """Brings what the cell read up to date, in order, until one of these has changed (and so made the cell dirty)."""
        for read in list(cell.reads):
            self._refresh(read)
            if cell.state is _State.DIRTY:
                return True
        return False

    def _compute(self, cell: _Cell) -> None:
        compute = cell.node.compute
        assert compute is not None, "only a derivation is ever dirty"
        before = cell.reads
        for read in before:
            read.readers.pop(cell, None)
        cell.reads = {}
        cell.state = _State.COMPUTING
        cell.node.computed += 1
        identity = (cell.node.name, cell.key)
        try:
            value = compute(Fetch(self, cell), cell.key)
        except CycleFound:
            cell.state = _State.DIRTY
            raise
        except Exception as error:  # A derivation's own fault: keep the last good value, and show the error.
            self.failures[identity] = error
        else:
            self.failures.pop(identity, None)
            self._store(cell, value)
        cell.state = _State.CLEAN
        for read in before:
            if read not in cell.reads:
                self._forget_if_unused(read)

    def _store(self, cell: _Cell, value: Any) -> None:
        old = cell.value
        if old is value or (old is not ABSENT and old == value):
            cell.node.cut_off += 1
            return
        cell.value = value
        if cell.observed:
            self._log.append(Change(cell.node.name, cell.key, None if old is ABSENT else old, value))
        self._changed(cell)

    def _forget_if_unused(self, cell: _Cell) -> None:
        stack = [cell]
        while stack:
            current = stack.pop()
            if current.observed or current.readers or current.state is _State.COMPUTING:
                continue
            if current.node.compute is None and current.value is not ABSENT:
                continue
            if current.node.cells.pop(current.key, None) is None:
                continue
            self.failures.pop((current.node.name, current.key), None)
            for read in current.reads:
                read.readers.pop(current, None)
                stack.append(read)
