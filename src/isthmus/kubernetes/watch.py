"""Listing, then watching, as a state machine without I/O: what to ask the server next, and what its answers change.

The cache equals the server's state after any faults, because of three rules:

- a list replaces everything at once: what it does not have is deleted, what is unchanged says nothing;
- an object never goes backwards: an event older than what is known about it is ignored, also when what is known is that it went;
- whatever is not understood ends the watch, and too old a version ends in a list.

WatchList (the list as the beginning of the watch) is asked for first; a server that does not know it refuses, and is listed in pages.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

import msgspec

_NOT_UNDERSTOOD = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that are not what was asked for, depending on what is wrong with them."""

T = TypeVar("T")
Name = tuple[str, str]
"""Namespace (empty for a cluster-scoped object) and name."""

PAGE_SIZE = 500
_DIGITS_MAX = 20
INITIAL_EVENTS_END = "k8s.io/initial-events-end"


@dataclass(frozen=True, slots=True)
class Change(Generic[T]):
    """One object's change. `old` is None when it appeared, `new` is None when it went."""

    name: Name
    old: T | None
    new: T | None


@dataclass(frozen=True, slots=True)
class AskList:
    """GET the collection with these parameters."""

    parameters: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class AskWatch:
    """Watch the collection with these parameters."""

    parameters: tuple[tuple[str, str], ...]


class WatchEnded(Exception):
    """The server said something that ends the request. `expired`: only that what we know is too old, which is nobody's fault."""

    def __init__(self, reason: str, *, expired: bool) -> None:
        super().__init__(reason)
        self.expired = expired


class _Meta(msgspec.Struct, gc=False):
    name: str = ""
    namespace: str = ""
    resourceVersion: str = ""
    annotations: dict[str, str] = {}


class _Headed(msgspec.Struct, gc=False):
    metadata: _Meta = msgspec.field(default_factory=_Meta)
    code: int = 0
    message: str = ""


class _Event(msgspec.Struct, gc=False):
    type: str
    object: msgspec.Raw


class _ListMeta(msgspec.Struct, gc=False):
    resourceVersion: str = ""
    # Servers say `continue`, which is a word of Python's.
    continue_: str = msgspec.field(default="", name="continue")


class _List(msgspec.Struct, gc=False):
    metadata: _ListMeta = msgspec.field(default_factory=_ListMeta)
    items: list[msgspec.Raw] = []


@dataclass(frozen=True, slots=True)
class _Entry(Generic[T]):
    version: int
    value: T


class _Objects(Generic[T]):
    """What is known about each object: its value, or what is wrong with it, or that it is not there; and since which version."""

    def __init__(self) -> None:
        self.entries: dict[Name, _Entry[T]] = {}
        self.malformed: dict[Name, str] = {}
        self._absent: dict[Name, int] = {}
        self._complete = 0

    def knows_newer(self, name: Name, version: int) -> bool:
        """Whether an event of this version comes late, or a second time. Servers without numbers for versions are always believed."""
        entry = self.entries.get(name)
        known = entry.version if entry else self._absent.get(name, 0)
        return 0 < version <= max(known, self._complete)

    def put(self, name: Name, version: int, decoded: Callable[[], T]) -> None:
        try:
            entry = _Entry(version, decoded())
        except (ValueError, msgspec.MsgspecError, RecursionError) as error:
            self.remove(name, version)
            self.malformed[name] = str(error)
        else:
            self.malformed.pop(name, None)
            self._absent.pop(name, None)
            self.entries[name] = entry

    def remove(self, name: Name, version: int) -> None:
        self.entries.pop(name, None)
        self.malformed.pop(name, None)
        self._absent[name] = version

    def complete(self, version: int) -> None:
        """Everything up to this version is known, so that nobody has to remember any longer what went until then."""
        self._complete = max(version, self._complete)
        self._absent = {name: gone for name, gone in self._absent.items() if gone > self._complete}


class ListThenWatch(Generic[T]):
    """One collection. `decode` turns an object's JSON into a value; it may raise ValueError for one that is malformed.

    A malformed object is left out and named in `malformed`, and disturbs no other.
    """

    def __init__(self, decode: Callable[[bytes], T], *, selector: Mapping[str, str] | None = None) -> None:
        self._decode = decode
        self._selector = tuple(sorted((selector or {}).items()))
        self._cache: _Objects[T] = _Objects()
        self._pages: _Objects[T] | None = None
        self._continue = ""
        self._version = ""
        self._initial: _Objects[T] | None = None
        self._watch_list = True
        self.synced = False

    @property
    def values(self) -> dict[Name, T]:
        return {name: entry.value for name, entry in self._cache.entries.items()}

    @property
    def malformed(self) -> Mapping[Name, str]:
        """Objects that could not be decoded, with the reason."""
        return self._cache.malformed

    def next_request(self, timeout_seconds: int) -> AskList | AskWatch:
        """What to do next. Call it when the last request has ended, however it ended."""
        self._initial = None
        if self._version:
            return AskWatch(self._watch(resourceVersion=self._version, timeoutSeconds=str(timeout_seconds)))
        if self._watch_list:
            self._initial = _Objects()
            return AskWatch(
                self._watch(
                    sendInitialEvents="true",
                    resourceVersionMatch="NotOlderThan",
                    timeoutSeconds=str(timeout_seconds),
                )
            )
        page = {"limit": str(PAGE_SIZE)} | ({"continue": self._continue} if self._continue else {})
        return AskList((*self._selector, *sorted(page.items())))

    def refused(self, status: int) -> None:
        """The server answered a request with an error status."""
        if status in (400, 422) and self._watch_list and not self._version:
            self._watch_list = False
        elif status == 410:
            self.expired()

    def absent(self) -> list[Change[T]]:
        """The server does not know the collection: whatever was cached is gone. The next request lists anew."""
        self.expired()
        return self._replace(_Objects(), "")

    def expired(self) -> None:
        """What we know is too old to go on from: the next request lists anew. The cache stays until then."""
        self._version = ""
        self._continue = ""
        self._pages = None

    def page(self, body: bytes) -> list[Change[T]]:
        """A page of the list; changes come with the last one. Raises WatchEnded for what is not a list."""
        try:
            listed = msgspec.json.decode(body, type=_List)
            items = [(bytes(raw), _named(msgspec.json.decode(raw, type=_Headed))) for raw in listed.items]
            _versioned(listed.metadata.resourceVersion)
        except _NOT_UNDERSTOOD as error:
            self.expired()
            raise WatchEnded(f"not a list: {error}", expired=False) from None
        if self._pages is None:
            self._pages = _Objects()
        for raw, headed in items:
            self._put(self._pages, raw, headed)
        self._continue = listed.metadata.continue_
        if self._continue:
            return []
        found, self._pages = self._pages, None
        return self._replace(found, listed.metadata.resourceVersion)

    def line(self, line: bytes) -> list[Change[T]]:
        """One line of a watch. Raises WatchEnded."""
        try:
            event = msgspec.json.decode(line, type=_Event)
            headed = msgspec.json.decode(event.object, type=_Headed)
            return self._event(event, headed)
        except _NOT_UNDERSTOOD as error:
            raise WatchEnded(f"not a watch event: {error}", expired=False) from None

    def _event(self, event: _Event, headed: _Headed) -> list[Change[T]]:
        match event.type:
            case "ADDED" | "MODIFIED":
                return self._stored(bytes(event.object), _named(headed))
            case "DELETED":
                return self._deleted(_named(headed))
            case "BOOKMARK":
                return self._bookmark(headed)
            case "ERROR":
                if headed.code == 410:
                    self.expired()
                raise WatchEnded(headed.message or "the server ended the watch", expired=headed.code == 410)
            case other:
                raise WatchEnded(f"unknown event type {other!r}", expired=False)

    def _watch(self, **parameters: str) -> tuple[tuple[str, str], ...]:
        always = {"watch": "true", "allowWatchBookmarks": "true"}
        return (*self._selector, *sorted((always | parameters).items()))

    def _stored(self, raw: bytes, headed: _Headed) -> list[Change[T]]:
        if self._initial is not None:
            self._put(self._initial, raw, headed)
            return []
        before = self._cache.entries.get(_name(headed))
        self._put(self._cache, raw, headed)
        self._advance(headed)
        return self._change(_name(headed), before)

    def _deleted(self, headed: _Headed) -> list[Change[T]]:
        name, version = _name(headed), _number(headed.metadata.resourceVersion)
        objects = self._cache if self._initial is None else self._initial
        before = objects.entries.get(name)
        if not objects.knows_newer(name, version):
            objects.remove(name, version)
        if objects is self._initial:
            return []
        self._advance(headed)
        return self._change(name, before)

    def _bookmark(self, headed: _Headed) -> list[Change[T]]:
        if self._initial is not None and headed.metadata.annotations.get(INITIAL_EVENTS_END) == "true":
            version = _versioned(headed.metadata.resourceVersion)
            found, self._initial = self._initial, None
            return self._replace(found, version)
        if self._initial is None:
            self._advance(headed)
            self._cache.complete(_number(headed.metadata.resourceVersion))
        return []

    def _advance(self, headed: _Headed) -> None:
        if _number(headed.metadata.resourceVersion) > _number(self._version):
            self._version = headed.metadata.resourceVersion

    def _replace(self, found: _Objects[T], version: str) -> list[Change[T]]:
        """A list is the whole truth, also about objects that seem newer in the cache: the server may have been restored."""
        before, self._cache = self._cache.entries, found
        found.complete(_number(version))
        self._version = version
        self.synced = True
        changes = []
        for name in before.keys() | found.entries.keys():
            changes += self._change(name, before.get(name))
        return sorted(changes, key=lambda change: change.name)

    def _change(self, name: Name, before: _Entry[T] | None) -> list[Change[T]]:
        after = self._cache.entries.get(name)
        old, new = (before.value if before else None), (after.value if after else None)
        if before is None and after is None:
            return []
        if before is not None and after is not None and old == new:
            return []
        return [Change(name, old, new)]

    def _put(self, into: _Objects[T], raw: bytes, headed: _Headed) -> None:
        name, version = _name(headed), _number(headed.metadata.resourceVersion)
        if not into.knows_newer(name, version):
            into.put(name, version, lambda: self._decode(raw))


def plain(raw: bytes) -> dict[str, Any]:
    """The decoder for those who want the object as it is."""
    return cast("dict[str, Any]", msgspec.json.decode(raw))


def _name(headed: _Headed) -> Name:
    return (headed.metadata.namespace, headed.metadata.name)


def _named(headed: _Headed) -> _Headed:
    """An object without a name is none."""
    if not headed.metadata.name:
        raise msgspec.ValidationError("an object without a name")
    return headed


def _versioned(version: str) -> str:
    """A list without a version is none: it could not be gone on from, and may be somebody else's answer."""
    if not version:
        raise msgspec.ValidationError("a list without a version")
    return version


def _number(version: str) -> int:
    """Resource versions are compared as numbers, as the Kubernetes API has promised since 1.35. Zero for what is not an unsigned integer."""
    return int(version) if version.isascii() and version.isdigit() and len(version) <= _DIGITS_MAX else 0
