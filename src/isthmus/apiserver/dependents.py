"""Dependents: which objects belong to which, kept current by events. No decisions here."""

from __future__ import annotations

from typing import Any

from isthmus.apiserver.kinds import Kind
from isthmus.apiserver.store import Event, Name

Object = dict[str, Any]
Key = tuple[str, Name]
"""Storage and name: an object in whatever version of its kind."""

_NOBODY: frozenset[str] = frozenset()


class Dependents:
    """`seen` with every event, from the first object on."""

    def __init__(self) -> None:
        self._by_uid: dict[str, tuple[Kind, Name]] = {}
        self._of: dict[str, dict[Key, Kind]] = {}

    def seen(self, kind: Kind, event: Event) -> None:
        obj = event.new.outline
        key = (kind.storage, event.new.name)
        if event.type == "DELETED":
            self._by_uid.pop(obj["metadata"]["uid"], None)
        elif event.type == "ADDED":
            self._by_uid[obj["metadata"]["uid"]] = (kind, key[1])
        before = owners(event.old.outline) if event.old is not None else _NOBODY
        after = owners(obj) if event.type != "DELETED" else _NOBODY
        if before == after:
            return
        for uid in before - after:
            known = self._of.get(uid, {})
            known.pop(key, None)
            if not known:
                self._of.pop(uid, None)
        for uid in after - before:
            self._of.setdefault(uid, {})[key] = kind

    def owner(self, uid: str) -> tuple[Kind, Name] | None:
        """Where the object with the uid is; None if there is none."""
        return self._by_uid.get(uid)

    def of(self, uid: str) -> list[tuple[Kind, Name]]:
        """What says that it belongs to the object with the uid."""
        return [(kind, name) for (_, name), kind in self._of.get(uid, {}).items()]


def references(obj: Object) -> list[Object]:
    return list(obj["metadata"].get("ownerReferences") or ())


def owners(obj: Object) -> frozenset[str]:
    """Their uids."""
    found = obj["metadata"].get("ownerReferences")
    return frozenset(reference.get("uid", "") for reference in found) if found else _NOBODY
