"""Cells and nodes: what a graph is made of. For the modules of this package."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Any, Protocol


class _Absent(Enum):
    ABSENT = "absent"


ABSENT = _Absent.ABSENT


class State(IntEnum):
    """How far a cell can be believed."""

    CLEAN = 0
    SUSPECT = 1
    """Something further up has changed; whether a direct read has is not known yet."""
    DIRTY = 2
    COMPUTING = 3


class Cell:
    """One value of one node, with what it read and who read it."""

    __slots__ = ("doubts", "key", "node", "observed", "readers", "reads", "state", "value")

    def __init__(self, node: Node, key: Hashable) -> None:
        self.node = node
        self.key = key
        self.value: Any = ABSENT
        self.state = State.DIRTY if node.compute else State.CLEAN
        self.reads: Collection[Cell] = ()
        """In the order of reading. A tuple, but while it is computed: there are many cells, most have read one or two others, and a dictionary is
        three times as large."""
        self.readers: dict[Cell, None] | Cell | None = None
        """The one reader itself, where there is one: half of all cells have no more, and a dictionary for it is larger than all else of a cell."""
        self.doubts: list[Cell] | None = None
        """Of what it read, what may have changed: while it is suspect."""
        self.observed = False

    def read_by(self, reader: Cell) -> None:
        known = self.readers
        if known is None:
            self.readers = reader
        elif isinstance(known, dict):
            known[reader] = None
        elif known is not reader:
            self.readers = {known: None, reader: None}

    def read_no_longer_by(self, reader: Cell) -> None:
        known = self.readers
        if known is reader:
            self.readers = None
        elif isinstance(known, dict):
            known.pop(reader, None)

    def all_readers(self) -> Collection[Cell]:
        known = self.readers
        return known if isinstance(known, dict) else () if known is None else (known,)


Patch = Callable[[Any, Sequence[tuple[Any, Any]]], Any]
"""From a value, and what there was and is now of each value that it was made of and that is another one, to the new value. None: compute it."""


class Queues(Protocol):
    """What a node knows of its graph: where its cells wait, and where it writes what has changed."""

    due: OrderedDict[Cell, None]
    early: OrderedDict[Cell, None]
    log: list[Change]


class Node:
    """A named family of cells. `compute` is absent where values come from outside; else it is given a Fetch and the cell."""

    def __init__(self, graph: Queues, name: str, compute: Callable[[Any, Cell], Any] | None) -> None:
        self.graph = graph
        self.name = name
        self.compute = compute
        self.cells: dict[Hashable, Cell] = {}
        self.computed = 0
        self.cut_off = 0
        self.patches = 0
        self.reported: Callable[[Cell, Any], None] = self._report
        """Told of each observed cell that changed, with its old value."""
        self.due = graph.due
        """Where its observed cells wait to be brought up to date: with all others, unless it is `deferred` or `early`."""
        self.is_early = False
        self.patch: Patch | None = None
        self.patched_for: frozenset[Node] = frozenset()
        self.forgotten: Callable[[Cell], None] = lambda cell: None
        """Told of each cell that nobody needs any longer."""

    def deferred(self) -> None:
        """From now on its cells are brought up to date one by one, with `Graph.bring`, and not by settling."""
        self.due = OrderedDict()

    def early(self) -> None:
        """From now on its cells are brought up to date before all others, observed or not, and until one is different its readers hear nothing.
        One that reads another early one, however indirectly, may be computed twice in a settle.
        """
        self.due = self.graph.early
        self.is_early = True

    def patched(self, patch: Patch, *sources: Node) -> None:
        """From now on a cell that read nothing new but values of `sources` is given them to change its own value. What it reads must not
        depend on them.
        """
        self.patch, self.patched_for = patch, frozenset(sources)

    def cell(self, key: Hashable) -> Cell:
        cell = self.cells.get(key)
        if cell is None:
            cell = self.cells[key] = Cell(self, key)
        return cell

    def _report(self, cell: Cell, old: Any) -> None:
        self.graph.log.append(Change(self.name, cell.key, None if old is ABSENT else old, cell.value))


@dataclass(frozen=True, slots=True)
class Change:
    """An observed value that a settle made different. `old` is None where there was none."""

    node: str
    key: Hashable
    old: Any
    new: Any


def take_doubts(cell: Cell) -> list[Cell]:
    """In the order of reading."""
    doubts, cell.doubts = cell.doubts or [], None
    if len(doubts) > 1:
        doubted = frozenset(doubts)
        return [read for read in cell.reads if read in doubted]
    return doubts
