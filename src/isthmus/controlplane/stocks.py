"""Stocks: what scopes are given of the hosts that they see, once for all the scopes for which that is the same.

A stock is made of shelves and never changes: when a shelf does, another stock takes its place, for all who had the first and have the new shelf
now. So a scope costs a reference, and a change is found once, however many scopes there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from weakref import WeakValueDictionary

from isthmus.controlplane.derived import Shelf
from isthmus.envoy.resources import CLUSTER, ENDPOINTS, SECRET, Changes, Resource

Named = Mapping[str, Resource]
_NOTHING: Named = {}


class Stock:
    """Resources by type and name."""

    __slots__ = ("__weakref__", "by_type", "shelves")

    def __init__(self, shelves: tuple[Shelf, ...], by_type: Mapping[str, Named]) -> None:
        self.shelves = shelves
        self.by_type = by_type

    def of_type(self, type_url: str) -> Named:
        return self.by_type.get(type_url, _NOTHING)


EMPTY = Stock((), {})


class Stocks:
    """Every stock that a scope has. Equal ones are one object."""

    def __init__(self) -> None:
        self._known: WeakValueDictionary[tuple[int, ...], Stock] = WeakValueDictionary()
        """By the identities of its shelves, which it keeps."""
        self._steps: dict[tuple[int, int], tuple[Stock, Stock, Changes]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def step(self, before: Stock, shelves: tuple[Shelf, ...]) -> tuple[Stock, Changes]:
        """The stock of these shelves, and what is different in it from the one before: the same objects for all who take the same step."""
        key = tuple(map(id, shelves))
        after = self._known.get(key)
        if after is before:
            return before, {}
        if after is not None:
            taken = self._steps.get((id(before), id(after)))
            if taken is not None:
                return after, taken[2]
        different = dict(_different(before, shelves))
        if after is None:
            after = self._known[key] = Stock(shelves, _replaced(before, different))
        changes = {
            type_url: {name: known.version if known else "" for name, (known, _) in found.items()}
            for type_url, found in different.items()
        }
        self._steps[id(before), id(after)] = before, after, changes
        return after, changes

    def forget_steps(self) -> None:
        """Nobody will take those again: everybody is where they lead to."""
        self._steps.clear()


_Pair = tuple[Resource | None, Resource | None]


def _different(before: Stock, shelves: tuple[Shelf, ...]) -> Iterator[tuple[str, dict[str, _Pair]]]:
    """By type, each name of which there was another resource than there will be."""
    had, has = frozenset(before.shelves), frozenset(shelves)
    gone = [shelf for shelf in before.shelves if shelf not in has]
    come = [shelf for shelf in shelves if shelf not in had]
    pairs = {
        CLUSTER: _pairs(_by_name(s.clusters for s in gone), _by_name(s.clusters for s in come)),
        ENDPOINTS: _pairs(_by_name(s.endpoints for s in gone), _by_name(s.endpoints for s in come)),
    }
    if any(shelf.secrets for shelf in (*gone, *come)):
        pairs[SECRET] = _pairs(before.of_type(SECRET), _by_name(shelf.secrets for shelf in shelves))
    return ((type_url, found) for type_url, found in pairs.items() if found)


def _by_name(resources: Iterable[Iterable[Resource]]) -> Named:
    return {resource.name: resource for some in resources for resource in some}


def _pairs(had: Named, has: Named) -> dict[str, _Pair]:
    found: dict[str, _Pair] = {name: (known, has.get(name)) for name, known in had.items() if has.get(name) != known}
    found.update((name, (None, new)) for name, new in has.items() if name not in had)
    return found


def _replaced(before: Stock, different: Mapping[str, Mapping[str, _Pair]]) -> Mapping[str, Named]:
    by_type = dict(before.by_type)
    for type_url, pairs in different.items():
        replaced = dict(before.of_type(type_url))
        for name, (_, new) in pairs.items():
            if new is None:
                replaced.pop(name, None)
            else:
                replaced[name] = new
        by_type[type_url] = replaced
    return by_type
