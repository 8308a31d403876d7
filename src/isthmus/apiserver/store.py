"""The store: what an API server's objects are and how they change. Memory is the read path; it does no I/O itself.

Laws: resource versions only grow, over all kinds; a write of an equal object changes nothing and says nothing; a watch from version N followed
to the end gives the same as a list now.
"""

from __future__ import annotations

import sys
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from typing import Any, Literal

import msgspec

from isthmus.apiserver.kinds import Kind
from isthmus.apiserver.status import already_exists, conflict, expired, not_found

Object = dict[str, Any]
EventType = Literal["ADDED", "MODIFIED", "DELETED"]
Name = tuple[str, str]
"""Namespace (empty for a cluster-scoped object) and name."""
_EVENTS_KEPT = 4096
_VALUES_KEPT = 256

_encode = msgspec.json.Encoder().encode


class Stored:
    """One object at one version. What is kept of it is its JSON, `raw`: the value is made of that when somebody looks at it, and is five times as
    large. It must not be changed.
    """

    __slots__ = ("_obj", "_recent", "api_version", "name", "raw", "version")

    def __init__(
        self, version: int, raw: bytes, name: Name, api_version: str, recent: deque[Stored], obj: Object | None
    ) -> None:
        self.version = version
        self.raw = raw
        self.name = name
        self.api_version = api_version
        self._recent = recent
        self._obj: Object | None = None
        if obj is not None:
            self._remember(obj)

    @property
    def obj(self) -> Object:
        found = self._obj
        if found is None:
            found = msgspec.json.decode(self.raw)
            self._remember(found)
        return found

    @property
    def outline(self) -> Object:
        """What is asked of many objects at once: labels, owners, and whether it is going. A look at the JSON is enough."""
        return self._obj if self._obj is not None else msgspec.to_builtins(_outlined(self.raw))

    def _remember(self, obj: Object) -> None:
        """What was looked at last will be looked at again: by the next watcher, or by who changes it."""
        recent = self._recent
        if len(recent) == recent.maxlen:
            recent.popleft()._obj = None
        recent.append(self)
        self._obj = obj


class _Metadata(msgspec.Struct, omit_defaults=True, rename="camel", gc=False):
    name: str
    uid: str = ""
    namespace: str = ""
    labels: dict[str, Any] | None = None
    owner_references: list[Any] | None = None
    finalizers: list[Any] | None = None
    deletion_timestamp: str | None = None


class _Outline(msgspec.Struct, omit_defaults=True, rename="camel", gc=False):
    metadata: _Metadata
    api_version: str = ""
    type: Any = None


_outlined = msgspec.json.Decoder(_Outline).decode


class Event(msgspec.Struct, frozen=True, gc=False):
    """One change. `old` is absent for ADDED; a DELETED object carries the version of its deletion."""

    type: EventType
    version: int
    new: Stored
    old: Stored | None


Watcher = Callable[[Event], None]


class _Collection:
    """All objects of one kind, and its latest events."""

    def __init__(self, since: int) -> None:
        self.objects: dict[Name, Stored] = {}
        self.events: deque[Event] = deque(maxlen=_EVENTS_KEPT)
        self.complete_since = since
        """Events after this version are all kept."""
        self.watchers: dict[Watcher, None] = {}
        self.changes = 0


class Store:
    """Objects by kind, namespace and name. Writers get the change to make durable; `publish` tells watchers after that."""

    def __init__(self, first_version: int = 1) -> None:
        self.version = first_version
        self.published = first_version
        """The newest version that watchers know; a change that is being made durable is newer."""
        self._since = first_version
        self._collections: defaultdict[str, _Collection] = defaultdict(lambda: _Collection(first_version))
        self._listeners: list[Callable[[Kind, Event], None]] = []
        self._recent: deque[Stored] = deque(maxlen=_VALUES_KEPT)

    def load(self, storage: str, name: Name, version: int, raw: bytes) -> None:
        """An object from the disk, before anything is served."""
        api_version = sys.intern(_outlined(raw).api_version)
        self._collections[storage].objects[name] = Stored(version, raw, name, api_version, self._recent, None)

    def get(self, kind: Kind, name: Name) -> Stored:
        """Raises Refused (NotFound)."""
        stored = self.find(kind, name)
        if stored is None:
            raise not_found(kind, name[1])
        return stored

    def find(self, kind: Kind, name: Name) -> Stored | None:
        return self._collections[kind.storage].objects.get(name)

    def items(self, kind: Kind, namespace: str = "") -> Iterator[Stored]:
        """All of the kind, or of one namespace, in the order of namespace and name."""
        objects = self._collections[kind.storage].objects
        for name in sorted(name for name in objects if name[0] == namespace) if namespace else sorted(objects):
            yield objects[name]

    def has(self, kind: Kind) -> bool:
        """Whether there is any object of the kind."""
        return bool(self._collections[kind.storage].objects)

    def changes(self, kind: Kind) -> int:
        """How often objects of the kind have changed: what was derived from them holds while this is the same."""
        return self._collections[kind.storage].changes

    def create(self, kind: Kind, obj: Object) -> Event:
        """Raises Refused (AlreadyExists)."""
        name = name_of(obj)
        collection = self._collections[kind.storage]
        if name in collection.objects:
            raise already_exists(kind, name[1])
        stored = self._next(collection, name, obj)
        collection.objects[name] = stored
        return Event("ADDED", stored.version, stored, None)

    def update(self, kind: Kind, obj: Object, expected_version: str) -> Event | None:
        """None if nothing would change. Raises Refused: NotFound, or Conflict if `expected_version` is not the current one."""
        name = name_of(obj)
        old = self.get(kind, name)
        if expected_version and expected_version != str(old.version):
            raise conflict(kind, name[1])
        obj["metadata"]["resourceVersion"] = str(old.version)
        if obj == old.obj:
            return None
        collection = self._collections[kind.storage]
        stored = self._next(collection, name, obj)
        collection.objects[name] = stored
        return Event("MODIFIED", stored.version, stored, old)

    def delete(self, kind: Kind, name: Name) -> Event:
        """Raises Refused (NotFound)."""
        old = self.get(kind, name)
        collection = self._collections[kind.storage]
        del collection.objects[name]
        stored = self._next(collection, name, _copied(old.obj))
        return Event("DELETED", stored.version, stored, old)

    def publish(self, kind: Kind, event: Event) -> None:
        """Tells watchers; to be called once the change is durable, in the order of versions."""
        collection = self._collections[kind.storage]
        if len(collection.events) == collection.events.maxlen:
            collection.complete_since = collection.events[0].version
        collection.events.append(event)
        self.published = event.version
        for watcher in list(collection.watchers):
            watcher(event)
        for listener in self._listeners:
            listener(kind, event)

    def listen(self, listener: Callable[[Kind, Event], None]) -> None:
        """For events of every kind."""
        self._listeners.append(listener)

    def watch(self, kind: Kind, since: int, watcher: Watcher) -> list[Event]:
        """Registers the watcher, and returns what has happened after `since` already. Raises Refused (Expired).

        A version that has not been comes from another life of the server: its client would miss everything until then.
        """
        collection = self._collections[kind.storage]
        if not collection.complete_since <= since <= self.version:
            raise expired(since, collection.complete_since)
        missed = [event for event in collection.events if event.version > since]
        collection.watchers[watcher] = None
        return missed

    def unwatch(self, kind: Kind, watcher: Watcher) -> None:
        self._collections[kind.storage].watchers.pop(watcher, None)

    @property
    def oldest_version(self) -> int:
        """Versions before this are not known any more (after a restart: none from before it)."""
        return self._since

    def _next(self, collection: _Collection, name: Name, obj: Object) -> Stored:
        self.version += 1
        collection.changes += 1
        obj["metadata"]["resourceVersion"] = str(self.version)
        return _stored(self.version, name, obj, self._recent)


def stored_as(version: int, obj: Object) -> Stored:
    """An object that is shown as if it were stored."""
    return _stored(version, name_of(obj), obj, deque(maxlen=1))


def _stored(version: int, name: Name, obj: Object, recent: deque[Stored]) -> Stored:
    return Stored(version, _encode(obj), name, obj["apiVersion"], recent, obj)


def served_as(kind: Kind, stored: Stored) -> Stored:
    """The object in the version that it is asked for in: versions of one kind differ in nothing but their name."""
    if stored.api_version == kind.group_version:
        return stored
    return stored_as(stored.version, stored.obj | {"apiVersion": kind.group_version})


def name_of(obj: Object) -> Name:
    metadata = obj["metadata"]
    return (metadata.get("namespace", ""), metadata["name"])


def _copied(obj: Object) -> Object:
    """Deep enough: only metadata is changed afterwards."""
    return obj | {"metadata": dict(obj["metadata"])}
