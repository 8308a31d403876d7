"""Housekeeping: what the server does by itself after a write. Dependents go with their owners, namespaces that end are emptied,
aggregated roles get their rules, token Secrets their token, quotas their numbers.

Events say what to look at; looking is repeatable, so that a look too many does no harm, and after a restart everything is looked at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import structlog

from isthmus.apiserver import namespaces
from isthmus.apiserver.account_tokens import TYPE, AccountTokens
from isthmus.apiserver.aggregation import aggregate
from isthmus.apiserver.dependents import Dependents, owners
from isthmus.apiserver.garbage import GarbageCollector
from isthmus.apiserver.kinds import Kind
from isthmus.apiserver.objects import Objects
from isthmus.apiserver.persistence import StorageFailed
from isthmus.apiserver.resource_quotas import KIND as QUOTA
from isthmus.apiserver.status import Refused
from isthmus.apiserver.store import Event, Name
from isthmus.apiserver.tokens import Tokens

_AT_ONCE = 64
_AGAIN_SECONDS = 1.0

log = structlog.get_logger()

_Look = tuple[str, Kind | None, Name]
"""At what, as which kind; `dependent`, `owner`, `namespace`, `secret`, `roles` or `quotas`."""


class Housekeeping:
    """`run` until cancelled. Events are taken from the first moment on."""

    def __init__(self, objects: Objects, tokens: Tokens, ca_pem: str) -> None:
        self._objects = objects
        self._dependents = Dependents()
        self._garbage = GarbageCollector(objects, self._dependents)
        self._secrets = AccountTokens(objects, tokens, ca_pem)
        self._due: dict[_Look, None] = {}
        self._wake = asyncio.Event()
        objects.store.listen(self._seen)

    def begin(self) -> None:
        """With what the disk has: everything counts as new."""
        for kind in {kind.storage: kind for kind in self._objects.kinds.all()}.values():
            for stored in self._objects.store.items(kind):
                self._seen(kind, Event("ADDED", stored.version, stored, None))

    async def run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._due:
                looks = list(self._due)[:_AT_ONCE]
                for look in looks:
                    del self._due[look]
                async with asyncio.TaskGroup() as tasks:
                    for look in looks:
                        tasks.create_task(self._look(look), name=look[0])

    async def _look(self, look: _Look) -> None:
        """What fails is looked at again: a webhook may have been in the way."""
        try:
            await self._looked(look)
        except Refused as refusal:
            if refusal.reason in ("NotFound", "Conflict"):
                return
            log.warning("housekeeping is refused", what=look[0], name="/".join(look[2]), error=refusal.message[:200])
            asyncio.get_running_loop().call_later(_AGAIN_SECONDS, self._add, look)
        except StorageFailed:
            return  # The server ends.

    def _looked(self, look: _Look) -> Awaitable[None]:
        what, kind, name = look
        match what:
            case "namespace":
                return namespaces.finish(self._objects, name[1])
            case "roles":
                return aggregate(self._objects)
            case "secret":
                return self._secrets.look_at(name)
            case "quotas":
                return self._count(name[0])
        assert kind is not None, "of some kind"
        return (
            self._garbage.look_at_owner(kind, name) if what == "owner" else self._garbage.look_at_dependent(kind, name)
        )

    async def _count(self, namespace: str) -> None:
        for quota in list(self._objects.quotas.statuses(namespace)):
            await self._objects.replace(QUOTA, quota, subresource="status")

    def _add(self, look: _Look) -> None:
        self._due[look] = None
        self._wake.set()

    def _seen(self, kind: Kind, event: Event) -> None:
        obj = event.new.outline
        name = event.new.name
        if event.type == "DELETED":
            for dependent_kind, dependent in self._dependents.of(obj["metadata"]["uid"]):
                self._add(("dependent", dependent_kind, dependent))
            for uid in owners(obj):
                self._add_owner(uid)
            if name[0] and self._is_going(name[0]):
                self._add(("namespace", None, ("", name[0])))
        self._dependents.seen(kind, event)
        if event.type != "DELETED":
            if owners(obj) and (event.old is None or owners(event.old.outline) != owners(obj)):
                self._add(("dependent", kind, name))
            if "deletionTimestamp" in obj["metadata"] and obj["metadata"].get("finalizers"):
                self._add(("owner", kind, name))
        if name[0] and self._objects.quotas.has(name[0]):
            self._add(("quotas", None, (name[0], "")))
        self._seen_of_kind(kind, event, name)

    def _seen_of_kind(self, kind: Kind, event: Event, name: Name) -> None:
        match kind.name:
            case "Namespace" if "deletionTimestamp" in event.new.outline["metadata"]:
                self._add(("namespace", None, name))
            case "ServiceAccount" if event.type == "DELETED":
                self._look_at_secrets_of(name)
            case "ClusterRole":
                self._add(("roles", None, ("", "")))
            case "Secret" if event.new.outline.get("type") == TYPE:
                self._add(("secret", kind, name))

    def _look_at_secrets_of(self, account: Name) -> None:
        secrets = self._objects.kinds.by_name("v1", "Secret")
        assert secrets is not None, "built in"
        for stored in self._objects.store.items(secrets, account[0]):
            if stored.outline.get("type") == TYPE:
                self._add(("secret", secrets, stored.name))

    def _add_owner(self, uid: str) -> None:
        owner = self._dependents.owner(uid)
        if owner is not None:
            self._add(("owner", *owner))

    def _is_going(self, namespace: str) -> bool:
        kind = self._objects.kinds.by_name("v1", "Namespace")
        assert kind is not None, "built in"
        stored = self._objects.store.find(kind, ("", namespace))
        return stored is not None and "deletionTimestamp" in stored.obj["metadata"]
