"""A graph of keyed values that stay current: sources are set, derivations are computed from what they fetch.

The one idea: *push dirty, pull value, stop at equal*. Setting a source marks its readers, and theirs, as suspect; nothing is
computed. `settle` brings the observed cells up to date: a suspect cell first brings what it read up to date, and is computed again
only if one of these really changed. A result equal to the old one stops the wave there.

Laws, held by tests/incremental:

- after `settle`, every observed value equals what computing from scratch gives;
- a cell is computed at most once in a settle, and only if something that it read has changed;
- a computation that raises leaves the last good value in place, and its error in `failures`, until it succeeds;
- a cell that nobody observes and nobody reads is forgotten.

What many cells are behind, and what seldom becomes different, is best *early*: brought up to date before all others, and until then nobody
behind it doubts anything. What reads many cells, of which one changes, is best *patched*: changed where that is, not computed from all.

A derivation may read only through the `Fetch` that it is given; what it read is what it depends on. Beside this module: `indexes` (sources
by what is in their values), `shared` (derivations whose values many subjects share), `recorded` (reading a whole record through a Fetch).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, KeysView, Mapping
from typing import Any, Generic, Protocol, TypeVar, cast

from isthmus.incremental.cells import ABSENT, Cell, Change, Node, Patch, State, take_doubts

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Unavailable(Exception):
    """A value was fetched that was never computed successfully."""


class CycleFound(Exception):
    """A derivation reads itself, directly or through others: a mistake in the program, not in its input."""


_ALL = None
"""The one key of a node that stands for all keys of a source."""


class Follower(Protocol):
    """Something that keeps its own order over a source's values, told of each change before anybody reads it."""

    def moved(self, key: Any, old: Any, new: Any) -> None:
        """The value under the key was `old` and is `new`; ABSENT stands for none."""
        ...


class Source(Generic[K, V]):
    """Values that come from outside, by key."""

    def __init__(self, graph: Graph, name: str) -> None:
        self._graph = graph
        self._node = graph.add(name, None)
        self._keys = graph.add(f"keys of {name}", None)
        self._values: dict[K, V] = {}
        self._followers: list[Follower] = []

    def set(self, key: K, value: V) -> bool:
        """Whether the value differs from the one before. An equal one changes nothing."""
        old = self._values.get(key, ABSENT)
        if old is value or (old is not ABSENT and old == value):
            return False
        self._values[key] = value
        self._moved(key, old, value)
        return True

    def delete(self, key: K) -> bool:
        """Whether there was a value."""
        old = self._values.pop(key, ABSENT)
        if old is ABSENT:
            return False
        self._moved(key, old, ABSENT)
        return True

    def replace(self, values: Mapping[K, V], changed: Iterable[K] | None = None) -> None:
        """Makes exactly these the values: the keys that are missing are deleted. `changed`: the keys are the same, and only these, as the
        caller knows, may have other values; what it costs then does not depend on how many there are.
        """
        if changed is not None:
            for key in changed:
                self.set(key, values[key])
            return
        if len(self._values) != len(values) or self._values.keys() != values.keys():
            for key in [key for key in self._values if key not in values]:
                self.delete(key)
        known = self._values
        for key, value in values.items():
            if known.get(key, ABSENT) is not value:
                self.set(key, value)

    def values(self) -> Mapping[K, V]:
        """Everything that is set."""
        return self._values

    def keys(self) -> KeysView[K]:
        return self._values.keys()

    def follow(self, follower: Follower) -> None:
        """From now on `follower` is told of every change; of what is there already at once."""
        self._followers.append(follower)
        for key, value in self._values.items():
            follower.moved(key, ABSENT, value)

    def _moved(self, key: K, old: Any, new: Any) -> None:
        for follower in self._followers:
            follower.moved(key, old, new)
        self._graph.changed_in(self._node, key)
        if (old is ABSENT) != (new is ABSENT):
            self._graph.changed_in(self._keys, _ALL)


class Derived(Generic[K, V]):
    """Values computed from others, by key, when somebody observes them."""

    def __init__(
        self, graph: Graph, name: str, compute: Callable[[Fetch, K], V], *, deferred: bool, early: bool
    ) -> None:
        self._graph = graph
        self._node = graph.add(name, lambda fetch, cell: compute(fetch, cast(K, cell.key)))
        if deferred:
            self._node.deferred()
        if early:
            self._node.early()

    def observe(self, key: K) -> None:
        """Keeps this value current from the next settle on."""
        self._graph.observe(self._node.cell(key))

    def release(self, key: K) -> None:
        """Ends `observe`. What nobody else needs is forgotten."""
        cell = self._node.cells.get(key)
        if cell is not None:
            self._graph.release(cell)

    def due(self) -> list[K]:
        """If it is deferred: the observed keys whose values may be others now."""
        return [cast(K, cell.key) for cell in self._node.due]

    def bring(self, key: K) -> None:
        """Brings an observed value up to date, where it is due."""
        cell = self._node.cells.get(key)
        if cell is not None and cell in self._node.due:
            self._graph.bring(cell)

    def value(self, key: K) -> V | None:
        """The value as of the last settle; None where there is none yet."""
        cell = self._node.cells.get(key)
        return None if cell is None or cell.value is ABSENT else cast(V, cell.value)


class Fetch:
    """The only door through which a derivation reads."""

    __slots__ = ("_graph", "_reader", "_reads")

    def __init__(self, graph: Graph, reader: Cell, reads: dict[Cell, None]) -> None:
        self._graph = graph
        self._reader = reader
        self._reads = reads

    def get(self, source: Source[K, V] | Derived[K, V], key: K) -> V | None:
        """The value, or None where a source has none. Raises Unavailable for a derivation that never succeeded."""
        cell = source._node.cell(key)
        if isinstance(source, Source):
            self.read(cell)
            return source._values.get(key)
        return cast(V, self.value_of(cell))

    def keys(self, source: Source[K, V]) -> KeysView[K]:
        """Every key that the source has. The reader then depends on keys coming and going, not on their values."""
        self.read(source._keys.cell(_ALL))
        return source.keys()

    def value_of(self, cell: Cell) -> Any:
        """For the modules of this package: a derived cell's value, brought up to date. Raises Unavailable."""
        self.read(cell)
        if cell.value is ABSENT:
            raise Unavailable(f"{cell.node.name}[{cell.key!r}] has no value yet")
        return cell.value

    def read(self, cell: Cell) -> None:
        """For the modules of this package: notes the dependency, and brings the cell up to date."""
        self._reads[cell] = None
        cell.read_by(self._reader)
        if cell.state is not State.CLEAN:
            self._graph.refresh(cell)


class Graph:
    """Sources and derivations that belong together. For one thread; never entered again from inside a derivation."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.log: list[Change] = []
        self.failures: dict[tuple[str, Hashable], BaseException] = {}
        self.due: OrderedDict[Cell, None] = OrderedDict()
        """In a plain dictionary, finding the first costs what has ever been in it."""
        self.early: OrderedDict[Cell, None] = OrderedDict()
        """What is due before all that, observed or not."""
        self._news: dict[Cell, dict[Cell, Any]] = {}
        """What those that can be patched read that is different now, with its old values; ABSENT where they are not known."""

    def source(self, name: str) -> Source[Any, Any]:
        """A new source. Raises ValueError for a name that is taken."""
        return Source(self, name)

    def derive(
        self, name: str, compute: Callable[[Fetch, K], V], *, deferred: bool = False, early: bool = False
    ) -> Derived[K, V]:
        """A new derivation. A deferred one is not settled with the others, but when it is asked to be; an early one before them. Raises ValueError
        for a name that is taken.
        """
        return Derived(self, name, compute, deferred=deferred, early=early)

    def settle(self) -> list[Change]:
        """Brings every observed value up to date; the changes, in the order in which they were found."""
        for _ in self.settling():
            pass
        return self.take_changes()

    def settling(self) -> Iterator[None]:
        """`settle` in slices: yields after each observed cell, so that a caller can let others run in between.

        Sources must not be set while a slice is under way; between slices they may. Ends when nothing is due; take the changes then.
        """
        while self.early or self.due:
            cell, _ = (self.early or self.due).popitem(last=False)
            self.bring(cell)
            yield

    def bring(self, cell: Cell) -> None:
        """For the modules of this package: brings one observed cell up to date."""
        cell.node.due.pop(cell, None)
        self.refresh(cell)
        self.forget_if_unused(cell)

    @property
    def is_due(self) -> bool:
        """Whether something that is observed, and is not deferred, has still to be brought up to date."""
        return bool(self.early or self.due)

    def take_changes(self) -> list[Change]:
        """What has been found to be different since the last call."""
        changes, self.log = self.log, []
        return changes

    def add(self, name: str, compute: Callable[[Fetch, Cell], Any] | None) -> Node:
        """For the modules of this package. Raises ValueError for a name that is taken."""
        if name in self.nodes:
            raise ValueError(f"the graph has a node named {name!r} already")
        node = self.nodes[name] = Node(self, name, compute)
        return node

    def observe(self, cell: Cell) -> None:
        """For the modules of this package: keeps the cell current from the next settle on."""
        cell.observed = True
        if cell.state is not State.CLEAN:
            cell.node.due[cell] = None

    def release(self, cell: Cell) -> None:
        """For the modules of this package: ends `observe`."""
        cell.observed = False
        if not cell.node.is_early:  # Else those who read it wait for it.
            cell.node.due.pop(cell, None)
        self.forget_if_unused(cell)

    def changed_in(self, node: Node, key: Hashable) -> None:
        """For the modules of this package: `changed`, where somebody has read the key."""
        cell = node.cells.get(key)
        if cell is not None:
            self.changed(cell)

    def changed(self, cell: Cell, old: Any = ABSENT) -> None:
        """Marks direct readers dirty and everything behind them suspect, each with what it has to doubt."""
        stack = []
        for reader in cell.all_readers():
            if reader.node.patch is not None:
                known = old if cell.node in reader.node.patched_for else ABSENT
                self._news.setdefault(reader, {}).setdefault(cell, known)
            if self._mark(reader, State.DIRTY):
                stack.append(reader)
        while stack:
            current = stack.pop()
            for reader in current.all_readers():
                if reader.doubts is None:
                    reader.doubts = [current]
                else:
                    reader.doubts.append(current)
                if self._mark(reader, State.SUSPECT):
                    stack.append(reader)

    def _mark(self, cell: Cell, wanted: State) -> bool:
        """Whether the cell was clean until now, so that its readers have to hear of it."""
        was = cell.state
        if was >= wanted:
            return False
        cell.state = wanted
        node = cell.node
        if cell.observed or node.is_early:
            node.due[cell] = None
        return was is State.CLEAN and not node.is_early

    def refresh(self, cell: Cell) -> None:
        """Makes the cell clean: by finding that nothing it read has changed, or by computing it."""
        if cell.state is State.COMPUTING:
            raise CycleFound(f"{cell.node.name}[{cell.key!r}] reads itself")
        if cell.state is State.SUSPECT and not self._read_something_new(cell):
            cell.state = State.CLEAN
            cell.node.cut_off += 1
        if cell.state is State.DIRTY:
            self._compute(cell)

    def _read_something_new(self, cell: Cell) -> bool:
        """Brings what is in doubt up to date, until some of it has changed (and so made the cell dirty). In the order in which it was read:
        whether something would be read at all may depend on what was read before.
        """
        doubts = take_doubts(cell)
        for at, read in enumerate(doubts, 1):
            if read.state is not State.CLEAN:
                self.refresh(read)
            if cell.state is State.DIRTY:
                cell.doubts = doubts[at:]
                return True
        return False

    def _compute(self, cell: Cell) -> None:
        compute = cell.node.compute
        assert compute is not None, "only a derivation is ever dirty"
        if cell.node.patch is not None and self._patch(cell, cell.node.patch):
            return
        before = cell.reads
        for read in before:
            read.read_no_longer_by(cell)
        reads: dict[Cell, None] = {}
        cell.reads = reads
        cell.doubts = None
        cell.state = State.COMPUTING
        cell.node.computed += 1
        identity = (cell.node.name, cell.key)
        try:
            value = compute(Fetch(self, cell, reads), cell)
        except CycleFound:
            cell.state = State.DIRTY
            raise
        except Exception as error:  # A derivation's own fault: keep the last good value, and show the error.
            self.failures[identity] = error
        else:
            self.failures.pop(identity, None)
            self._store(cell, value)
        cell.state = State.CLEAN
        cell.reads = tuple(reads)
        self._news.pop(cell, None)
        for read in before:
            if read not in reads:
                self.forget_if_unused(read)

    def _patch(self, cell: Cell, patch: Patch) -> bool:
        """Whether the cell could be brought up to date without computing it: it is clean then."""
        if cell.value is ABSENT or (cell.node.name, cell.key) in self.failures:
            self._news.pop(cell, None)
            return False
        cell.state = State.COMPUTING
        for read in take_doubts(cell):
            if ABSENT in self._news[cell].values():
                break
            if read.state is not State.CLEAN:
                self.refresh(read)
        cell.state = State.DIRTY
        news = self._news.pop(cell)
        if ABSENT in news.values():
            return False
        value = patch(cell.value, [(old, read.value) for read, old in news.items()])
        if value is None:
            return False
        cell.node.patches += 1
        self._store(cell, value)
        cell.state = State.CLEAN
        return True

    def _store(self, cell: Cell, value: Any) -> None:
        old = cell.value
        if old is value or (old is not ABSENT and old == value):
            cell.node.cut_off += 1
            return
        cell.value = value
        if cell.observed:
            cell.node.reported(cell, old)
        self.changed(cell, old)

    def forget_if_unused(self, cell: Cell) -> None:
        """For the modules of this package: drops a cell that nobody observes or reads, and what only it had read."""
        stack = [cell]
        while stack:
            current = stack.pop()
            if current.observed or current.readers or current.state is State.COMPUTING:
                continue
            if current.node.cells.pop(current.key, None) is None:
                continue
            self.failures.pop((current.node.name, current.key), None)
            current.node.due.pop(current, None)
            self._news.pop(current, None)
            current.node.forgotten(current)
            for read in current.reads:
                read.read_no_longer_by(current)
                stack.append(read)
