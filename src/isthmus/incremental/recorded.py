"""Recorded: a frozen record read through a Fetch, so that a function written for the record depends on exactly what it looked at.

Each field is a source of its own; of a field that is a mapping, each key. A function of the record needs to know nothing of the graph, and no
dependency is ever written by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import fields
from functools import cached_property
from types import MappingProxyType
from typing import Any, Generic, TypeVar, cast

from isthmus.incremental.cells import ABSENT, Cell, State
from isthmus.incremental.graph import Fetch, Graph, Source, Unavailable
from isthmus.incremental.indexes import Index

R = TypeVar("R")
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_WHOLE = "whole"

Lookup = Callable[[Fetch, Any], Any]
"""An entry of a mapping that is derived from the record; None where there is none."""


class RecordSource(Generic[R]):
    """The newest record, as sources.

    A cached property of the record is a mapping that is asked by key: it is derived once, and each entry that is asked for stands on its own.
    `indexed` keeps one that would be costly to derive again after each change.
    """

    def __init__(self, graph: Graph, name: str, kind: type[R]) -> None:
        self._graph = graph
        self._name = name
        record: Any = kind
        self.fields: dict[str, Source[Any, Any]] = {
            field.name: graph.source(f"{name}.{field.name}") for field in fields(record)
        }
        self.newest: R | None = None
        self._derived: list[_Entries] = []
        self.lookups: dict[str, Lookup] = {
            attribute: self._entries(attribute, found.func)
            for attribute, found in vars(kind).items()
            if isinstance(found, cached_property)
        }
        self._mappings: frozenset[str] = frozenset()

    def indexed(self, lookup: str, field: str, under: Callable[[Any], Iterable[Any]]) -> None:
        """Keeps a lookup that gives the keys of a mapping field by what is in their values."""
        index: Index[Any, Any] = Index(self._graph, f"{self._name}.{lookup} index", self.fields[field], under)
        self.lookups[lookup] = index.keys

    def set(self, record: R, changed: Mapping[str, Iterable[Any]] = MappingProxyType({})) -> None:
        """What differs from the one before is due. Of a mapping field, keys whose values are the same objects cost next to nothing, and
        nothing at all if `changed` says of the field which keys alone have other values than in the record before.
        """
        before, self.newest = self.newest, record
        for name, source in self.fields.items():
            value = getattr(record, name)
            if before is not None and getattr(before, name) is value:
                continue
            if isinstance(value, Mapping):
                self._mappings |= {name}
                source.replace(value, changed.get(name))
            else:
                source.set(_WHOLE, value)
        for entries in self._derived:
            entries.follow()

    def seen_through(self, fetch: Fetch, instead: Mapping[str, Lookup] = MappingProxyType({})) -> R:
        """The record, for a derivation: every read of it is recorded. `instead` of these mapping fields, entries are what these lookups give."""
        assert self.newest is not None, "derivations run after the first record"
        found = _Recorded(fetch, self)
        for name, lookup in instead.items():
            vars(found)[name] = _RecordedLookup(fetch, lookup)
        return cast(R, found)

    def is_mapping(self, name: str) -> bool:
        return name in self._mappings

    def _entries(self, attribute: str, whole_of: Callable[[Any], Mapping[Any, Any]]) -> Lookup:
        entries = _Entries(self._graph, f"{self._name}.{attribute}", lambda fetch: whole_of(self.seen_through(fetch)))
        self._derived.append(entries)
        return entries.get


class _Entries:
    """A mapping that is derived from the record. It is made anew as soon as there is a newer record, so that only those are told whose entry
    is another one; derived like everything else, it would make all its readers doubt.
    """

    def __init__(self, graph: Graph, name: str, whole_of: Callable[[Fetch], Mapping[Any, Any]]) -> None:
        self._graph = graph
        self._whole = graph.add(name, lambda fetch, _: whole_of(fetch))
        self._whole.reported = self._report
        self._asked = graph.add(f"{name} entry", None)

    def get(self, fetch: Fetch, key: Hashable) -> Any:
        """The entry, or None. Raises Unavailable while the mapping could never be made."""
        fetch.read(self._asked.cell(key))
        whole = self._whole.cell(_WHOLE)
        if not whole.observed:
            self._graph.observe(whole)
            self._graph.refresh(whole)
        if whole.value is ABSENT:
            raise Unavailable(f"{self._whole.name} has no value yet")
        return whole.value.get(key)

    def follow(self) -> None:
        """The record is another one."""
        whole = self._whole.cells.get(_WHOLE)
        if whole is not None and whole.state is not State.CLEAN:
            self._graph.refresh(whole)

    def _report(self, whole: Cell, old: Any) -> None:
        for key in list(self._asked.cells):
            # Who asked in vain, while there was no mapping, asks again, whatever it is told.
            if old is ABSENT or old.get(key) != whole.value.get(key):
                self._graph.changed_in(self._asked, key)


class _Recorded:
    """Asked once for each attribute: what was read stays in the instance, where Python looks first."""

    def __init__(self, fetch: Fetch, source: RecordSource[Any]) -> None:
        self._fetch = fetch
        self._source = source

    def __getattr__(self, name: str) -> Any:
        found = self.__dict__[name] = self._read(name)
        return found

    def _read(self, name: str) -> Any:
        source = self._source.fields.get(name)
        if source is not None:
            if self._source.is_mapping(name):
                return RecordedMapping(self._fetch, source)
            return self._fetch.get(source, _WHOLE)
        lookup = self._source.lookups.get(name)
        if lookup is not None:
            return _RecordedLookup(self._fetch, lookup)
        # A method or property of the record's own: it reads through this object, so what it reads is recorded, too.
        found = getattr(type(self._source.newest), name)
        return found.__get__(self, type(self._source.newest)) if hasattr(found, "__get__") else found


class RecordedMapping(Mapping[K, V]):
    """A mapping field: reading a key depends on that key, iterating depends on which keys there are."""

    __slots__ = ("_fetch", "_found", "_source")

    def __init__(self, fetch: Fetch, source: Source[K, V]) -> None:
        self._fetch = fetch
        self._source = source
        self._found: dict[K, V | None] = {}

    def __getitem__(self, key: K) -> V:
        found = self.get(key)
        if found is None:
            raise KeyError(key)
        return cast(V, found)

    def get(self, key: K, default: Any = None) -> Any:
        known = self._found
        if key not in known:
            known[key] = self._fetch.get(self._source, key)
        found = known[key]
        return default if found is None else found

    def __contains__(self, key: object) -> bool:
        return self.get(cast(K, key)) is not None

    def __iter__(self) -> Iterator[K]:
        return iter(self._fetch.keys(self._source))

    def __len__(self) -> int:
        return len(self._fetch.keys(self._source))


class _RecordedLookup(Mapping[Any, Any]):
    """Asked by key only: nobody may depend on all of it at once."""

    __slots__ = ("_fetch", "_found", "_lookup")

    def __init__(self, fetch: Fetch, lookup: Lookup) -> None:
        self._fetch = fetch
        self._lookup = lookup
        self._found: dict[Any, Any] = {}

    def __getitem__(self, key: Any) -> Any:
        found = self.get(key)
        if found is None:
            raise KeyError(key)
        return found

    def get(self, key: Any, default: Any = None) -> Any:
        known = self._found
        if key not in known:
            known[key] = self._lookup(self._fetch, key)
        found = known[key]
        return default if found is None else found

    def __iter__(self) -> Iterator[Any]:
        raise TypeError("a lookup is asked by key: iterate over the field that it is derived from")

    def __len__(self) -> int:
        raise TypeError("a lookup is asked by key: count the field that it is derived from")
