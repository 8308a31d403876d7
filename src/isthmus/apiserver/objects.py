"""What may be done with objects, and what follows: the semantics between the HTTP surface and the store.

A change is made in memory, then made durable, then told to watchers, in the order of resource versions; its author hears of it after that.
"""

from __future__ import annotations

import copy
from typing import Any

from isthmus.apiserver import defaults, role_shapes
from isthmus.apiserver.kinds import BUILT_IN, Kind, Kinds, kinds_of
from isthmus.apiserver.persistence import Persistence
from isthmus.apiserver.status import Refused, bad_request, conflict, invalid
from isthmus.apiserver.store import Event, Name, Object, Store, name_of

_BY_NAME = {kind.name: kind for kind in BUILT_IN}
_NAMESPACE = _BY_NAME["Namespace"]
_DEFINITION = _BY_NAME["CustomResourceDefinition"]
_SERVICE = _BY_NAME["Service"]
_CLEANUP = "customresourcecleanup.apiextensions.k8s.io"
_SERVER_FIELDS = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation")


class Objects:
    """Creates, changes and deletes. Every method may raise Refused."""

    def __init__(self, store: Store, kinds: Kinds, persistence: Persistence, service_cidr: str) -> None:
        self.store = store
        self.kinds = kinds
        self._persistence = persistence
        self._addresses = defaults.AddressPool(service_cidr)
        self._load()

    async def create(self, kind: Kind, obj: Object, namespace: str, *, dry_run: bool = False) -> Object:
        """The object as stored."""
        self._require_namespace(kind, namespace)
        if (obj.get("metadata") or {}).get("resourceVersion"):
            raise bad_request("resourceVersion should not be set on objects to be created")
        defaults.new_metadata(kind, obj, namespace)
        obj["apiVersion"], obj["kind"] = kind.group_version, kind.name
        if "status" in kind.subresources and kind.is_custom:
            obj.pop("status", None)
        _check_shape(kind, obj)
        defaults.fill(kind, obj)
        self._check_definition(kind, obj)
        if self.store.find(kind, name_of(obj)) is not None or dry_run:
            return self._refuse_or_pretend(kind, obj)
        if kind is _SERVICE:
            defaults.allocate_cluster_ip(kind, obj, self._addresses)
        event = self.store.create(kind, obj)
        if kind is _DEFINITION:
            self.kinds.define(obj)
        await self._commit(kind, event)
        return event.new.obj

    async def replace(self, kind: Kind, obj: Object, *, subresource: str = "", dry_run: bool = False) -> Object:
        """The object as stored. Without a resourceVersion in it, whatever is there is replaced."""
        old = self.store.get(kind, name_of(obj))
        new = _merged(kind, old.obj, obj, subresource)
        _check_shape(kind, new)
        defaults.fill(kind, new)
        self._check_definition(kind, new)
        self._check_change(kind, old.obj, new)
        expected = str(obj["metadata"].get("resourceVersion") or "")
        if dry_run:
            return new
        if kind is _SERVICE:
            self._reallocate(old.obj, new)
        if kind.has_spec and new.get("spec") != old.obj.get("spec"):
            new["metadata"]["generation"] = old.obj["metadata"].get("generation", 1) + 1
        event = self.store.update(kind, new, expected)
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

    async def delete(self, kind: Kind, name: Name, options: Object, *, dry_run: bool = False) -> tuple[Object, bool]:
        """The object, and whether it is gone; one with finalizers or a grace period is only marked."""
        old = self.store.get(kind, name)
        preconditions = options.get("preconditions") or {}
        metadata = old.obj["metadata"]
        for field in ("uid", "resourceVersion"):
            if preconditions.get(field) and preconditions[field] != metadata[field]:
                raise conflict(
                    kind,
                    name[1],
                    f"the {field} in the precondition ({preconditions[field]}) does not match ({metadata[field]})",
                )
        if kind is _NAMESPACE and name[1] in ("default", "kube-system", "kube-public"):
            raise Refused(403, "Forbidden", f'namespaces "{name[1]}" is forbidden: this namespace may not be deleted')
        if dry_run:
            return old.obj, True
        if kind is _DEFINITION:
            await self._clear(old.obj)
            old = self.store.get(kind, name)
        grace = _grace_seconds(kind, old.obj, options.get("gracePeriodSeconds"))
        if not grace and not _guarded(kind, old.obj):
            return await self._remove(kind, name), True
        new = copy.deepcopy(old.obj)
        if "deletionTimestamp" not in new["metadata"] or grace < new["metadata"].get("deletionGracePeriodSeconds", 0):
            new["metadata"].setdefault("deletionTimestamp", defaults.now())
            new["metadata"]["deletionGracePeriodSeconds"] = grace
            if kind is _NAMESPACE:
                new.setdefault("status", {})["phase"] = "Terminating"
            event = self.store.update(kind, new, "")
            if event is not None:
                await self._commit(kind, event)
        return new, False

    def _load(self) -> None:
        rows = sorted(self._persistence.load(), key=lambda row: not row[0].startswith("apiextensions.k8s.io/"))
        for key, version, raw in rows:
            storage, namespace, name = key.split("|", 2)  # A name may have a bar in it, the others have none.
            self.store.load(storage, (namespace, name), version, raw)
        for crd in self.store.items(_DEFINITION):
            self.kinds.define(crd.obj)
        for service in self.store.items(_SERVICE):
            self._addresses.keep(defaults.cluster_ips(service.obj))

    async def _commit(self, kind: Kind, event: Event) -> None:
        namespace, name = name_of(event.new.obj)
        body = None if event.type == "DELETED" else event.new.raw
        await self._persistence.write((f"{kind.storage}|{namespace}|{name}", event.version, body))
        self.store.publish(kind, event)

    async def _remove(self, kind: Kind, name: Name) -> Object:
        event = self.store.delete(kind, name)
        if kind is _SERVICE:
            self._addresses.release(defaults.cluster_ips(event.new.obj))
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

    def _refuse_or_pretend(self, kind: Kind, obj: Object) -> Object:
        """AlreadyExists for a name that is taken; else, for a dry run, the object that would be."""
        if self.store.find(kind, name_of(obj)) is not None:
            self.store.create(kind, obj)
        return obj

    def _check_definition(self, kind: Kind, obj: Object) -> None:
        """Before it is stored: from a definition kinds are made. And nothing new of a kind that is going away."""
        if kind is _DEFINITION:
            spec = obj["spec"]
            wanted = f"{spec['names']['plural']}.{spec['group']}"
            if not list(kinds_of(obj)) or obj["metadata"]["name"] != wanted:
                message = f"must be {wanted!r}, of a definition with a served version"
                raise invalid(kind, obj["metadata"]["name"], "metadata.name", message)
            if any(spec["group"] == built_in.group for built_in in BUILT_IN):
                raise invalid(kind, wanted, "spec.group", f"{spec['group']} is the server's own")
        if kind.is_custom and not obj["metadata"].get("deletionTimestamp"):
            stored = self.store.find(_DEFINITION, ("", kind.qualified))
            if stored is not None and stored.obj["metadata"].get("deletionTimestamp"):
                raise Refused(
                    405, "MethodNotAllowed", "create not allowed while custom resource definition is terminating"
                )

    def _check_change(self, kind: Kind, old: Object, new: Object) -> None:
        name = old["metadata"]["name"]
        if old["metadata"].get("deletionTimestamp"):
            added = set(new["metadata"].get("finalizers") or ()) - set(old["metadata"].get("finalizers") or ())
            if added:
                raise invalid(
                    kind, name, "metadata.finalizers", f"Forbidden: no new finalizers can be added: {sorted(added)}"
                )
        if old.get("immutable") and kind.name in ("ConfigMap", "Secret"):
            for field in ("data", "binaryData", "immutable"):
                if old.get(field) != new.get(field):
                    raise invalid(kind, name, field, "Forbidden: field is immutable when `immutable` is set")
        if kind.name in ("Deployment", "ReplicaSet") and old["spec"].get("selector") != new["spec"].get("selector"):
            raise invalid(kind, name, "spec.selector", "Invalid value: field is immutable")

    def _reallocate(self, old: Object, new: Object) -> None:
        """An address stays with its Service, unless its type no longer has one."""
        kept = defaults.cluster_ips(old)
        if new["spec"].get("type") == "ExternalName":
            self._addresses.release(kept)
            new["spec"].pop("clusterIP", None)
            new["spec"].pop("clusterIPs", None)
        elif old["spec"].get("clusterIP") and not new["spec"].get("clusterIP"):
            new["spec"]["clusterIP"], new["spec"]["clusterIPs"] = old["spec"]["clusterIP"], old["spec"]["clusterIPs"]
        elif old["spec"].get("clusterIP") and new["spec"]["clusterIP"] != old["spec"]["clusterIP"]:
            raise invalid(_SERVICE, new["metadata"]["name"], "spec.clusterIPs[0]", "Invalid value: field is immutable")
        elif not new["spec"].get("clusterIP"):
            defaults.allocate_cluster_ip(_SERVICE, new, self._addresses)


def _check_shape(kind: Kind, obj: Object) -> None:
    """What selectors and every client rely on. Raises Refused."""
    metadata = obj["metadata"]
    for field in ("labels", "annotations"):
        found = metadata.get(field)
        if found is None:
            continue
        if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
            raise bad_request(f"{kind.name} {metadata['name']}: metadata.{field} is not a map of strings to strings")
    finalizers = metadata.get("finalizers") or []
    if not isinstance(finalizers, list) or not all(isinstance(item, str) for item in finalizers):
        raise bad_request(f"{kind.name} {metadata['name']}: metadata.finalizers is not a list of strings")
    role_shapes.check(kind, obj)


def _merged(kind: Kind, old: Object, wanted: Object, subresource: str) -> Object:
    """What a writer may change: through `status` only the status, otherwise everything but it and the server's own fields."""
    if subresource == "status":
        new = copy.deepcopy(old)
        if "status" in wanted:
            new["status"] = wanted["status"]
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


def _grace_seconds(kind: Kind, obj: Object, wanted: Any) -> int:
    """Pods that run somewhere are given time; nothing else is."""
    if kind.name != "Pod" or not obj.get("spec", {}).get("nodeName"):
        return 0
    if obj.get("status", {}).get("phase") in ("Succeeded", "Failed"):
        return 0
    return int(obj["spec"].get("terminationGracePeriodSeconds", 30) if wanted is None else wanted)
