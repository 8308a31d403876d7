"""Stocks: what scopes are given of the hosts that they see, once for all the scopes for which that is the same.

A stock is made of shelves and never changes: when a shelf does, another stock takes its place, for all who had the first and have the new shelf
now. So a scope costs a reference, and a change is found once, however many scopes there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple
from weakref import WeakValueDictionary, ref

from isthmus.controlplane.derived import Block, Shelf
from isthmus.envoy.resources import CLUSTER, ENDPOINTS, SECRET, Changes, Resource, versions_in

Named = Mapping[str, Resource]
_Pair = tuple[Resource | None, Resource | None]
"""What there was of a name, and what there is now."""

_NOTHING: Named = {}
_VERSIONS_KEPT = 16


class Stock:
    """Resources by type and name, and the shelves that they are on, by block. `mark` is equal where the shelves are, and seldom elsewhere."""

    __slots__ = ("__weakref__", "_by_type", "mark", "shelves")

    def __init__(self, shelves: Mapping[Block, Shelf], by_type: Mapping[str, Named], mark: int) -> None:
        self.shelves = shelves
        self.mark = mark
        self._by_type = by_type

    def of_type(self, type_url: str) -> Named:
        return self._by_type.get(type_url, _NOTHING)

    def replaced(
        self, shelves: Mapping[Block, Shelf], mark: int, different: Mapping[str, Mapping[str, _Pair]]
    ) -> Stock:
        """The stock of these shelves. Types of which nothing is different are not copied."""
        by_type = dict(self._by_type)
        for type_url, pairs in different.items():
            found = by_type[type_url] = dict(self.of_type(type_url))
            for name, (_, new) in pairs.items():
                if new is None:
                    found.pop(name, None)
                else:
                    found[name] = new
        return Stock(shelves, by_type, mark)


EMPTY = Stock({}, {}, 0)


class _Step(NamedTuple):
    """`before`, `blocks` and `fresh` are kept so that no others come to have their identities."""

    before: Stock
    blocks: tuple[Block, ...]
    fresh: Mapping[Block, Shelf]
    after: Stock
    changes: Changes


class Stocks:
    """Every stock that a scope has. Equal ones are one object."""

    def __init__(self) -> None:
        self._known: WeakValueDictionary[int, Stock] = WeakValueDictionary()
        """By their marks."""
        self._steps: dict[tuple[int, ...], _Step] = {}
        self._last: _Step | None = None
        """Scopes that take the same step come one after the other."""
        self._versions: dict[tuple[int, str], tuple[ref[Stock], Mapping[str, str]]] = {}
        """What was asked last: proxies that come back at once are compared with the same."""

    def __len__(self) -> int:
        return len(self._known)

    def step(self, before: Stock, blocks: tuple[Block, ...], fresh: Mapping[Block, Shelf]) -> tuple[Stock, Changes]:
        """The stock of these blocks, which has the shelves of the one before, but for fresh ones; and what is different in it. All who take the same
        step get the same objects.
        """
        step = self._last
        if step is None or step.before is not before or step.blocks is not blocks or step.fresh != fresh:
            key = (id(before), id(blocks), *map(id, fresh), *map(id, fresh.values()))
            step = self._steps.get(key)
            if step is None:
                step = self._steps[key] = self._step(before, blocks, fresh)
            self._last = step
        return step.after, step.changes

    def _step(self, before: Stock, blocks: tuple[Block, ...], fresh: Mapping[Block, Shelf]) -> _Step:
        had = before.shelves
        if len(had) == len(blocks) and fresh.keys() <= had.keys() and all(map(had.__contains__, blocks)):
            shelves = {**had, **fresh}  # As nearly always: the blocks are those of before, and it costs what is fresh.
            gone, come = [had[block] for block in fresh], [*fresh.values()]
            mark = before.mark + sum([_mark(block, shelf) - _mark(block, had[block]) for block, shelf in fresh.items()])
        else:
            shelves = {block: found for block in blocks if (found := fresh.get(block) or had.get(block))}
            gone, come = [*had.values()], [*shelves.values()]
            mark = sum([_mark(block, shelf) for block, shelf in shelves.items()])
        secrets = before.of_type(SECRET)
        different = dict(_different(gone, come, shelves.values(), secrets))
        after = self._known.get(mark)
        if after is None or after.shelves != shelves:
            after = self._known[mark] = before.replaced(shelves, mark, different)
        changes = {
            type_url: {name: old.version if old else "" for name, (old, _) in pairs.items()}
            for type_url, pairs in different.items()
        }
        return _Step(before, blocks, fresh, after, changes)

    def versions(self, stock: Stock, type_url: str) -> Mapping[str, str]:
        """Of everything of the type in the stock, by name."""
        known = self._versions.get((id(stock), type_url))
        if known is None or known[0]() is not stock:
            if len(self._versions) >= _VERSIONS_KEPT:
                self._versions.clear()
            known = self._versions[id(stock), type_url] = ref(stock), versions_in(stock.of_type(type_url))
        return known[1]

    def settled(self) -> None:
        """Nobody will take the same steps again: everybody is where they lead to. Where none was taken, there are the same stocks as before."""
        if self._steps:
            self._steps.clear()
            self._last = None
            self._versions.clear()


def _mark(block: Block, shelf: Shelf) -> int:
    return hash((id(block), id(shelf)))


def _different(
    before: Iterable[Shelf], after: Iterable[Shelf], all_after: Iterable[Shelf], secrets: Named
) -> Iterator[tuple[str, dict[str, _Pair]]]:
    """By type, each name of which there was another resource than there will be. `secrets` are those before: several shelves may have one."""
    had, has = dict.fromkeys(before), dict.fromkeys(after)
    gone = [shelf for shelf in had if shelf not in has]
    come = [shelf for shelf in has if shelf not in had]
    pairs = {
        CLUSTER: _pairs(_by_name(s.clusters for s in gone), _by_name(s.clusters for s in come)),
        ENDPOINTS: _pairs(_by_name(s.endpoints for s in gone), _by_name(s.endpoints for s in come)),
    }
    if any(shelf.secrets for shelf in (*gone, *come)):
        pairs[SECRET] = _pairs(secrets, _by_name(shelf.secrets for shelf in all_after))
    return ((type_url, found) for type_url, found in pairs.items() if found)


def _by_name(resources: Iterable[Iterable[Resource]]) -> Named:
    return {resource.name: resource for some in resources for resource in some}


def _pairs(had: Named, has: Named) -> dict[str, _Pair]:
    found: dict[str, _Pair] = {name: (known, has.get(name)) for name, known in had.items() if has.get(name) != known}
    found.update((name, (None, new)) for name, new in has.items() if name not in had)
    return found
