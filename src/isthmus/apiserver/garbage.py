"""Garbage collection: what belonged to an object goes with it, before it, or is left to itself, as its deleter wants.

`Background`: the object goes at once, its dependents after it. `Foreground`: it stays until those are gone that say `blockOwnerDeletion`.
`Orphan`: it stays until its dependents no longer name it.
"""

from __future__ import annotations

from typing import Any

from isthmus.apiserver.authors import controller
from isthmus.apiserver.dependents import Dependents, references
from isthmus.apiserver.kinds import Kind
from isthmus.apiserver.objects import FOREGROUND, ORPHAN, Objects
from isthmus.apiserver.status import Refused
from isthmus.apiserver.store import Name, Stored, name_of

Object = dict[str, Any]

_AUTHOR = controller("generic-garbage-collector")


class GarbageCollector:
    """Two questions about one object at a time; each answer is written at once, and what follows from it comes back as an event."""

    def __init__(self, objects: Objects, dependents: Dependents) -> None:
        self._objects = objects
        self._dependents = dependents

    async def look_at_dependent(self, kind: Kind, name: Name) -> None:
        """Whether anybody is left whom it belongs to."""
        stored = self._objects.store.find(kind, name)
        if stored is None or not references(stored.obj):
            return
        states = [(self._state(reference, name[0]), reference) for reference in references(stored.obj)]
        kept = [reference for state, reference in states if state == "kept"]
        waiting = any(state == "waiting" for state, _ in states)
        if kept:
            if len(kept) < len(states):
                await self._name_only(kind, stored, kept)
        elif "deletionTimestamp" not in stored.obj["metadata"]:
            deep = waiting and bool(self._dependents.of(stored.obj["metadata"]["uid"]))
            await self._delete(kind, stored, "Foreground" if deep else "Background")

    async def look_at_owner(self, kind: Kind, name: Name) -> None:
        """Whether an object that is going has what it waits for."""
        stored = self._objects.store.find(kind, name)
        if stored is None or "deletionTimestamp" not in stored.obj["metadata"]:
            return
        finalizers = stored.obj["metadata"].get("finalizers") or ()
        uid = stored.obj["metadata"]["uid"]
        if ORPHAN in finalizers:
            for dependent_kind, dependent in self._dependents.of(uid):
                await self._forget(dependent_kind, dependent, uid)
            await self._release(kind, name, ORPHAN)
        elif FOREGROUND in finalizers:
            for dependent_kind, dependent in self._dependents.of(uid):
                await self.look_at_dependent(dependent_kind, dependent)
            if not any(self._blocks(*dependent, uid) for dependent in self._dependents.of(uid)):
                await self._release(kind, name, FOREGROUND)

    def _state(self, reference: Object, namespace: str) -> str:
        """`kept`, `lost`, or `waiting` for its dependents to go first."""
        found = self._dependents.owner(str(reference.get("uid", "")))
        if found is None:
            known = self._objects.kinds.by_name(str(reference.get("apiVersion", "")), str(reference.get("kind", "")))
            return "lost" if known is not None else "kept"  # Of a kind that nobody serves, nothing can be said.
        kind, name = found
        if kind.namespaced and name[0] != namespace:
            return "lost"  # Nothing belongs to an object of another namespace.
        metadata = self._objects.store.get(kind, name).outline["metadata"]
        going = "deletionTimestamp" in metadata and FOREGROUND in (metadata.get("finalizers") or ())
        return "waiting" if going else "kept"

    def _blocks(self, kind: Kind, name: Name, uid: str) -> bool:
        stored = self._objects.store.find(kind, name)
        if stored is None:
            return False
        return any(
            reference.get("uid") == uid and reference.get("blockOwnerDeletion") for reference in references(stored.obj)
        )

    async def _forget(self, kind: Kind, name: Name, uid: str) -> None:
        stored = self._objects.store.find(kind, name)
        if stored is not None:
            await self._name_only(kind, stored, [each for each in references(stored.obj) if each.get("uid") != uid])

    async def _name_only(self, kind: Kind, stored: Stored, kept: list[Object]) -> None:
        metadata = {key: value for key, value in stored.obj["metadata"].items() if key != "ownerReferences"}
        if kept:
            metadata["ownerReferences"] = kept
        await self._objects.replace(kind, stored.obj | {"metadata": metadata}, author=_AUTHOR)

    async def _release(self, kind: Kind, name: Name, finalizer: str) -> None:
        stored = self._objects.store.find(kind, name)
        if stored is None:
            return
        left = [each for each in stored.obj["metadata"].get("finalizers") or () if each != finalizer]
        metadata = stored.obj["metadata"] | {"finalizers": left}
        await self._objects.replace(kind, stored.obj | {"metadata": metadata}, author=_AUTHOR)

    async def _delete(self, kind: Kind, stored: Stored, policy: str) -> None:
        options = {"preconditions": {"uid": stored.obj["metadata"]["uid"]}, "propagationPolicy": policy}
        try:
            await self._objects.delete(kind, name_of(stored.obj), options, _AUTHOR)
        except Refused as refusal:
            if refusal.reason not in ("NotFound", "Conflict"):
                raise
