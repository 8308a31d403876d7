"""Lookups: a record's values by what people ask for, so that nobody scans them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import Generic, TypeVar

from isthmus.model.names import Hostname, covers

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


def grouped(values: Iterable[V], under: Callable[[V], Iterable[K]]) -> Mapping[K, tuple[V, ...]]:
    """The values under each thing that they stand for, in their order."""
    found: dict[K, list[V]] = defaultdict(list)
    for value in values:
        for key in under(value):
            found[key].append(value)
    return {key: tuple(each) for key, each in found.items()}


class ByHost(Mapping[Hostname, tuple[V, ...]], Generic[V]):
    """Values that say for which hosts they are, by name or `*.` and its end: asked for one host, those that cover it, in their order."""

    def __init__(self, values: Iterable[V], hosts_of: Callable[[V], Iterable[str]]) -> None:
        self._exact: dict[str, dict[int, V]] = defaultdict(dict)
        self._wild: list[tuple[int, str, V]] = []
        for position, value in enumerate(values):
            for host in hosts_of(value):
                if host.startswith("*"):
                    self._wild.append((position, host, value))
                else:
                    self._exact[host][position] = value

    def __getitem__(self, host: Hostname) -> tuple[V, ...]:
        exact = self._exact.get(host, {})
        if not self._wild:
            return tuple(exact.values())
        found = dict(exact)
        found.update((position, value) for position, pattern, value in self._wild if covers(pattern, host))
        return tuple(found[position] for position in sorted(found))

    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __iter__(self) -> Iterator[Hostname]:
        return (Hostname(host) for host in self._exact)

    def __len__(self) -> int:
        return len(self._exact)
