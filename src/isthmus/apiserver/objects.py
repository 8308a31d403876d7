"""What may be done with objects, and what follows: the semantics between the HTTP surface and the store.

A change is made in memory, then made durable, then told to watchers, in the order of resource versions; its author hears of it after that.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from isthmus.apiserver import (
    allocation,
    builtin_values,
    checks,
    defaults,
    ownership,
    resource_quotas,
    rules,
    shapes,
    signing_requests,
)
from isthmus.apiserver.admission import Change
from isthmus.apiserver.authors import SERVER, Author
from isthmus.apiserver.kinds import BUILT_IN, Kind, Kinds, kinds_of
from isthmus.apiserver.persistence import Persistence, Write
from isthmus.apiserver.status import Refused, already_exists, bad_request, conflict, not_found, unprocessable
from isthmus.apiserver.store import Event, Name, Object, Store, Stored, name_of
from isthmus.apiserver.webhooks import Webhooks

_BY_NAME = {kind.name: kind for kind in BUILT_IN}
_NAMESPACE = _BY_NAME["Namespace"]
_DEFINITION = _BY_NAME["CustomResourceDefinition"]
_SERVICE = _BY_NAME["Service"]
FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"
_LASTING = ("default", "kube-system", "kube-public")
_TRIES = 5
"""A write without a resourceVersion is made again on what another left while webhooks were asked."""

_RULES = "ValidationRulesCompiled"
"""A condition that a definition has only while it is False."""
_CLEANUP = "customresourcecleanup.apiextensions.k8s.io"
_SERVER_FIELDS = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation")


class Objects:
    """Creates, changes and deletes. Every method may raise Refused."""

    def __init__(
        self,
        store: Store,
        kinds: Kinds,
        persistence: Persistence,
        service_cidr: str,
        grants: Sequence[Callable[[Change], None]],
    ) -> None:
        """`grants` raise Refused for a change that gives away what its author has not."""
        self.store = store
        self.kinds = kinds
        self._persistence = persistence
        self._webhooks = Webhooks(store, kinds)
        self.quotas = resource_quotas.Quotas(store, kinds)
        self._grants = tuple(grants)
        self._allocations = allocation.Allocations(service_cidr)
        self._load()

    async def create(
        self, kind: Kind, obj: Object, namespace: str, author: Author = SERVER, *, applied: bool = False
    ) -> Object:
        """The object as stored. One that was `applied` says already who owns its fields."""
        owners = (obj.get("metadata") or {}).get("managedFields") if applied else None
        self._require_namespace(kind, namespace)
        if (obj.get("metadata") or {}).get("resourceVersion"):
            raise bad_request("resourceVersion should not be set on objects to be created")
        defaults.new_metadata(kind, obj, namespace)
        if owners:
            obj["metadata"]["managedFields"] = owners
        obj["apiVersion"], obj["kind"] = kind.group_version, kind.name
        if "status" in kind.subresources and kind.is_custom:
            obj.pop("status", None)
        if kind is signing_requests.KIND:
            signing_requests.begin(obj, author.user)
        change = Change(
            operation="CREATE",
            kind=kind,
            namespace=obj["metadata"].get("namespace", ""),
            name=obj["metadata"]["name"],
            new=obj,
            old=None,
            subresource="",
            author=author,
            options={"fieldManager": author.manager},
        )
        obj = await self._admitted(change)
        self._require_namespace(kind, namespace)
        _record(change, obj, applied=applied)
        if self.store.find(kind, name_of(obj)) is not None:
            raise already_exists(kind, name_of(obj)[1])
        self.quotas.check(kind, obj)
        if kind is _SERVICE:
            self._allocations.create(kind, obj)
        if author.dry_run:
            if kind is _SERVICE:
                self._allocations.release(obj)
            return obj
        event = self.store.create(kind, obj)
        if kind is _DEFINITION:
            self.kinds.define(obj)
        await self._commit(kind, event)
        return event.new.obj

    async def apply(
        self, kind: Kind, config: Object, namespace: str, subresource: str, author: Author, *, force: bool
    ) -> tuple[Object, bool]:
        """The object as stored, and whether it is new."""
        name = (namespace if kind.namespaced else "", config["metadata"]["name"])
        me = ownership.owner_of(kind, author.manager, "Apply", subresource, defaults.now())
        expected = str(config["metadata"].pop("resourceVersion", None) or "")
        config = _of_part(kind, config, subresource)
        shapes.settle_configuration(kind, config, author)
        for _ in range(_TRIES):
            live = self.store.find(kind, name)
            if live is None and subresource:
                raise not_found(kind, name[1])
            wanted = ownership.apply(live.obj if live else None, config, shapes.schema_of(kind), me, force=force)
            try:
                if live is None:
                    wanted["metadata"]["resourceVersion"] = expected
                    return await self.create(kind, wanted, namespace, author, applied=True), True
                wanted["metadata"]["resourceVersion"] = expected or str(live.version)
                return await self.replace(kind, wanted, subresource=subresource, author=author, applied=True), False
            except Refused as refusal:
                if expected or refusal.reason not in ("Conflict", "AlreadyExists"):
                    raise
        raise conflict(kind, name[1])

    async def replace(
        self, kind: Kind, obj: Object, *, subresource: str = "", author: Author = SERVER, applied: bool = False
    ) -> Object:
        """The object as stored. Without a resourceVersion in it, whatever is there is replaced."""
        expected = str(obj["metadata"].get("resourceVersion") or "")
        for _ in range(_TRIES):
            old = self.store.get(kind, name_of(obj))
            if expected and expected != str(old.version):
                break
            _check_identity(kind, old, obj)
            change = Change(
                operation="UPDATE",
                kind=kind,
                namespace=name_of(obj)[0],
                name=name_of(obj)[1],
                new=_merged(kind, old.obj, obj, subresource),
                old=old.obj,
                subresource=subresource,
                author=author,
                options={"fieldManager": author.manager},
            )
            new = await self._admitted(change)
            _record(change, new, applied=applied)
            if self.store.find(kind, name_of(obj)) is old:
                return await self._replaced(kind, old, new, author)
        raise conflict(kind, name_of(obj)[1])

    async def _replaced(self, kind: Kind, old: Stored, new: Object, author: Author) -> Object:
        if kind is _SERVICE:
            self.quotas.check(kind, new, old.obj)
            self._allocations.change(kind, old.obj, new, dry_run=author.dry_run)
        if builtin_values.counts(kind, old.obj, new):
            new["metadata"]["generation"] = old.obj["metadata"].get("generation", 1) + 1
        if author.dry_run:
            return new
        event = self.store.update(kind, new, "")
        if event is None:
            if old.version > self.store.published:
                await self._persistence.settled()
            return old.obj
        if kind is _DEFINITION:
            self.kinds.define(new)
        await self._commit(kind, event)
        if new["metadata"].get("deletionTimestamp") and not _held(kind, new):
            await self._remove(kind, name_of(new))
        return event.new.obj

    async def delete(self, kind: Kind, name: Name, options: Object, author: Author = SERVER) -> tuple[Object, bool]:
        """The object, and whether it is gone; one with finalizers or a grace period is only marked."""
        old = self.store.get(kind, name)
        _check_preconditions(kind, old, options)
        if kind is _NAMESPACE and name[1] in _LASTING:
            raise Refused(403, "Forbidden", f'namespaces "{name[1]}" is forbidden: this namespace may not be deleted')
        await self._admitted(
            Change(
                operation="DELETE",
                kind=kind,
                namespace=name[0],
                name=name[1],
                new=None,
                old=old.obj,
                subresource="",
                author=author,
                options=options,
            )
        )
        if author.dry_run:
            return old.obj, True
        if kind is _DEFINITION:
            await self._clear(old.obj)
        old = self.store.get(kind, name)
        _check_preconditions(kind, old, options)
        grace = _grace_seconds(kind, old.obj, options.get("gracePeriodSeconds"))
        finalizers = _finalizers(old.obj, options)
        if (
            not grace
            and not finalizers
            and not _guarded(kind, old.obj | {"metadata": old.obj["metadata"] | {"finalizers": []}})
        ):
            return await self._remove(kind, name), True
        new = copy.deepcopy(old.obj)
        new["metadata"]["finalizers"] = finalizers
        if not finalizers:
            del new["metadata"]["finalizers"]
        shorter = grace < new["metadata"].get("deletionGracePeriodSeconds", 0)
        if (
            "deletionTimestamp" not in new["metadata"]
            or shorter
            or finalizers != old.obj["metadata"].get("finalizers", [])
        ):
            new["metadata"].setdefault("deletionTimestamp", defaults.now())
            new["metadata"]["deletionGracePeriodSeconds"] = grace
            if kind is _NAMESPACE:
                new.setdefault("status", {})["phase"] = "Terminating"
            event = self.store.update(kind, new, "")
            if event is not None:
                await self._commit(kind, event)
        return new, False

    async def _admitted(self, change: Change) -> Object:
        """The object that may be stored (for a deletion: the one that may go), as webhooks, if any, have made it."""
        asked = self._webhooks.asked(change)
        if change.new is not None:
            self._complete(change.kind, change.new, change.author)
        if asked:
            before = change.new
            change = await self._webhooks.mutated(change)
            if change.new is not None and before is not None and change.new is not before:
                _keep_identity(change.kind, before, change.new)
                self._complete(change.kind, change.new, change.author)
        if change.new is not None:
            self._check(change, change.new)
            for check_grant in self._grants:
                check_grant(change)
        if asked:
            await self._webhooks.validated(change)
        obj = change.new if change.new is not None else change.old
        assert obj is not None, "a change has an object"
        return obj

    def _complete(self, kind: Kind, obj: Object, author: Author) -> None:
        """What is not said, before anybody is asked about the object."""
        shapes.settle(kind, obj, author)
        checks.shape(kind, obj)
        defaults.fill(kind, obj)

    def _check(self, change: Change, new: Object) -> None:
        kind, old = change.kind, change.old
        shapes.check(kind, old, new)
        builtin_values.check(kind, old, new)
        if kind is signing_requests.KIND:
            signing_requests.check(change, new)
        if kind is resource_quotas.KIND:
            checks.quota(kind, new, change.author)
        if kind is _DEFINITION:
            checks.definition(kind, new)
            _tell_rules_left_out(old, new, change.author)
        if kind.is_custom and not new["metadata"].get("deletionTimestamp"):
            self._require_definition(kind)
        if old is not None:
            checks.change(kind, old, new)

    async def close(self) -> None:
        await self._webhooks.close()

    def _load(self) -> None:
        rows = sorted(self._persistence.load(), key=lambda row: not row[0].startswith("apiextensions.k8s.io/"))
        for key, version, raw in rows:
            storage, namespace, name = key.split("|", 2)  # A name may have a bar in it, the others have none.
            self.store.load(storage, (namespace, name), version, raw)
        for crd in self.store.items(_DEFINITION):
            self.kinds.define(crd.obj)
        for service in self.store.items(_SERVICE):
            self._allocations.keep(service.obj)

    async def _commit(self, kind: Kind, event: Event) -> None:
        namespace, name = event.new.name
        body = None if event.type == "DELETED" else event.new.raw
        replaces = event.old.version if event.old is not None else None
        write = Write(f"{kind.storage}|{namespace}|{name}", event.version, body, replaces)
        await self._persistence.write(write, partial(self.store.publish, kind, event))

    async def _remove(self, kind: Kind, name: Name) -> Object:
        event = self.store.delete(kind, name)
        if kind is _SERVICE:
            self._allocations.release(event.new.obj)
        if kind is _DEFINITION:
            self.kinds.undefine(event.new.obj)
        await self._commit(kind, event)
        if kind.is_custom and not any(self.store.items(kind)):
            await self._release_definition(kind)
        return event.new.obj

    async def _clear(self, definition: Object) -> None:
        """Objects go with their definition; while one of them is held by finalizers, so is the definition."""
        for kind in list(kinds_of(definition))[:1]:
            for stored in list(self.store.items(kind)):
                if self.store.find(kind, name_of(stored.obj)) is not None:
                    await self.delete(kind, name_of(stored.obj), {})
            if any(self.store.items(kind)):
                held = copy.deepcopy(definition)
                held["metadata"].pop("resourceVersion")
                held["metadata"]["finalizers"] = [*(held["metadata"].get("finalizers") or ()), _CLEANUP]
                if _CLEANUP not in (definition["metadata"].get("finalizers") or ()):
                    await self.replace(_DEFINITION, held)

    async def _release_definition(self, kind: Kind) -> None:
        """The last object is gone: a definition that waited for it may go."""
        stored = self.store.find(_DEFINITION, ("", kind.qualified))
        if stored is None or _CLEANUP not in (stored.obj["metadata"].get("finalizers") or ()):
            return
        released = copy.deepcopy(stored.obj)
        released["metadata"]["finalizers"].remove(_CLEANUP)
        await self.replace(_DEFINITION, released)

    def _require_namespace(self, kind: Kind, namespace: str) -> None:
        if not kind.namespaced:
            return
        stored = self.store.get(_NAMESPACE, ("", namespace))
        if stored.obj["metadata"].get("deletionTimestamp"):
            raise Refused(
                403,
                "Forbidden",
                f"unable to create new content in namespace {namespace} because it is being terminated",
            )

    def _require_definition(self, kind: Kind) -> None:
        """Nothing new of a kind that is going away."""
        stored = self.store.find(_DEFINITION, ("", kind.qualified))
        if stored is not None and stored.obj["metadata"].get("deletionTimestamp"):
            raise Refused(405, "MethodNotAllowed", "create not allowed while custom resource definition is terminating")


def _tell_rules_left_out(old: Object | None, definition: Object, author: Author) -> None:
    """A definition with a rule that this server does not understand does its work without the rule, and says so."""
    problems = rules.problems_of(definition)
    for problem in problems:
        what = (
            "this rule is asked, but its message is not computed"
            if problem.is_message
            else "this rule is kept, and not asked"
        )
        author.warn(f"{what}: {problem.path}: {problem.what}")
    if problems:
        told = [f"{problem.path}: {problem.what}" for problem in problems]
        before = ((old or {}).get("status") or {}).get("conditions") or ()
        since = next((each["lastTransitionTime"] for each in before if each["type"] == _RULES), defaults.now())
        condition = {"type": _RULES, "status": "False", "reason": "NotCompiled", "message": "; ".join(told)}
        definition["status"]["conditions"].append(condition | {"lastTransitionTime": since})


def _record(change: Change, stored: Object, *, applied: bool) -> None:
    """Who owns which field of the object that will be stored."""
    assert change.new is not None, "nothing is recorded of what is deleted"
    kind, schema = change.kind, shapes.schema_of(change.kind)
    me = ownership.owner_of(kind, change.author.manager, "Update", change.subresource, defaults.now())
    if not applied:
        ownership.record_update(change.old, stored, schema, me)
    elif stored is not change.new:
        ownership.record_admission(change.new, stored, schema, me)


def _of_part(kind: Kind, config: Object, subresource: str) -> Object:
    """What a configuration says about the part that it is applied to: the status, or everything else."""
    if subresource in ("status", signing_requests.APPROVAL):
        return {key: value for key, value in config.items() if key in ("apiVersion", "kind", "metadata", "status")}
    return {key: value for key, value in config.items() if key != "status" or "status" not in kind.subresources}


def _keep_identity(kind: Kind, before: Object, after: Object) -> None:
    """Webhooks change what an object says, not which one it is."""
    for field in ("name", "namespace"):
        if before["metadata"].get(field) != after["metadata"].get(field):
            raise Refused(
                500, "InternalError", f"a webhook has changed metadata.{field} of {kind.name} {name_of(before)[1]}"
            )
    for field in (*_SERVER_FIELDS, "resourceVersion"):
        if field in before["metadata"]:
            after["metadata"][field] = before["metadata"][field]
        else:
            after["metadata"].pop(field, None)
    after["apiVersion"], after["kind"] = kind.group_version, kind.name


def _check_preconditions(kind: Kind, old: Stored, options: Object) -> None:
    preconditions, metadata = options.get("preconditions") or {}, old.obj["metadata"]
    for field in ("uid", "resourceVersion"):
        wanted = preconditions.get(field)
        if wanted and wanted != metadata[field]:
            why = f"the {field} in the precondition ({wanted}) does not match ({metadata[field]})"
            raise conflict(kind, metadata["name"], why)


def _check_identity(kind: Kind, old: Stored, wanted: Object) -> None:
    uid, is_ = wanted["metadata"].get("uid"), old.obj["metadata"]["uid"]
    if uid and uid != is_:
        why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {is_}"
        raise conflict(kind, old.obj["metadata"]["name"], why)


def _merged(kind: Kind, old: Object, wanted: Object, subresource: str) -> Object:
    """What a writer may change: through `status` only the status, otherwise everything but it and the server's own fields."""
    if kind is signing_requests.KIND:
        wanted = signing_requests.merged(old, wanted, subresource)
    if subresource in ("status", signing_requests.APPROVAL):
        new = copy.deepcopy(old)
        if "status" in wanted:
            new["status"] = wanted["status"]
        if "managedFields" in wanted["metadata"]:
            new["metadata"]["managedFields"] = wanted["metadata"]["managedFields"]
        return new
    new = copy.deepcopy(wanted)
    new["apiVersion"], new["kind"] = kind.group_version, kind.name
    for field in _SERVER_FIELDS:
        if field in old["metadata"]:
            new["metadata"][field] = old["metadata"][field]
        else:
            new["metadata"].pop(field, None)
    if "status" in kind.subresources:
        new.pop("status", None)
        if "status" in old:
            new["status"] = old["status"]
    if kind is _NAMESPACE and subresource != "finalize":
        new["spec"] = old["spec"]
    return new


def _guarded(kind: Kind, obj: Object) -> bool:
    """Whether finalizers keep the object, however it is deleted."""
    return bool(obj["metadata"].get("finalizers") or (kind is _NAMESPACE and obj.get("spec", {}).get("finalizers")))


def _held(kind: Kind, obj: Object) -> bool:
    """Whether something still has to be done before the object may go: a Pod's containers are given their time."""
    waits = kind.name == "Pod" and obj["metadata"].get("deletionGracePeriodSeconds")
    return bool(waits) or _guarded(kind, obj)


def _finalizers(obj: Object, options: Object) -> list[str]:
    """Those of the object, with the one that the deleter's policy needs and without the others'. Raises Refused."""
    policy = options.get("propagationPolicy")
    if policy is None and options.get("orphanDependents") is not None:
        policy = "Orphan" if options["orphanDependents"] else "Background"
    said = list(obj["metadata"].get("finalizers") or ())
    if policy is None:
        return said
    needed = {"Foreground": [FOREGROUND], "Orphan": [ORPHAN], "Background": []}.get(policy)
    if needed is None:
        supported = 'supported values: "Background", "Foreground", "Orphan"'
        raise unprocessable(f'DeleteOptions: propagationPolicy: Unsupported value: "{policy}": {supported}')
    others = [each for each in said if each not in (FOREGROUND, ORPHAN)]
    return [*others, *needed]


def _grace_seconds(kind: Kind, obj: Object, wanted: Any) -> int:
    """Pods that run somewhere are given time; nothing else is."""
    if kind.name != "Pod" or not obj.get("spec", {}).get("nodeName"):
        return 0
    if obj.get("status", {}).get("phase") in ("Succeeded", "Failed"):
        return 0
    return int(obj["spec"].get("terminationGracePeriodSeconds", 30) if wanted is None else wanted)
