"""Actions: the writes that controllers ask for, as values, and the one place that carries them out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from isthmus.kubernetes.client import ApiClient
from isthmus.kubernetes.errors import AlreadyExists, ApiError, Conflict, NotFound
from isthmus.kubernetes.resources import NAMESPACES, ResourcePath
from isthmus.kubernetes.watch import Name

Object = dict[str, Any]
State = Mapping[ResourcePath, Mapping[Name, Object]]
"""All objects of one cluster that controllers look at."""


@dataclass(frozen=True, slots=True)
class Create:
    resource: ResourcePath
    body: Object


@dataclass(frozen=True, slots=True)
class Patch:
    """A merge patch. With a `version`, only onto that version."""

    resource: ResourcePath
    name: Name
    body: Object
    subresource: str = ""


@dataclass(frozen=True, slots=True)
class Replace:
    """The whole object, onto the version that it carries."""

    resource: ResourcePath
    body: Object


@dataclass(frozen=True, slots=True)
class Delete:
    resource: ResourcePath
    name: Name


@dataclass(frozen=True, slots=True)
class EmptyNamespace:
    """Deletes everything in a namespace that is going, and lets it go when nothing is left."""

    name: str


Action = Create | Patch | Replace | Delete | EmptyNamespace


async def carry_out(client: ApiClient, action: Action) -> tuple[ResourcePath, Object] | None:
    """The object as written, None if there is none. Somebody else's earlier write is no error: what follows it will be seen."""
    try:
        match action:
            case Create(resource, body):
                return resource, await client.create(resource, body, body["metadata"].get("namespace", ""))
            case Patch(resource, (namespace, name), body, subresource):
                return resource, await client.patch(resource, name, body, namespace, subresource=subresource)
            case Replace(resource, body):
                return resource, await client.replace(resource, body)
            case Delete(resource, (namespace, name)):
                await client.delete(resource, name, namespace)
            case EmptyNamespace(name):
                await _empty(client, name)
    except (AlreadyExists, Conflict, NotFound):
        pass
    return None


async def _empty(client: ApiClient, namespace: str) -> None:
    left = 0
    for resource in [found async for found in _namespaced(client)]:
        for item in (await client.list_objects(resource, namespace)).get("items", []):
            left += 1
            if not item["metadata"].get("deletionTimestamp"):
                try:
                    await client.delete(resource, item["metadata"]["name"], namespace)
                except NotFound:
                    continue
    if not left:
        current = await client.get(NAMESPACES, namespace)
        current["spec"] = {"finalizers": []}
        await client.replace(NAMESPACES, current, "finalize")


async def _namespaced(client: ApiClient):  # type: ignore[no-untyped-def]  # noqa: ANN202 - an async generator of ResourcePath
    groups = msgspec.json.decode(await client.read("/apis")).get("groups", [])
    versions = ["v1", *(group["preferredVersion"]["groupVersion"] for group in groups)]
    for version in versions:
        path = f"/apis/{version}" if "/" in version else f"/api/{version}"
        try:
            found = msgspec.json.decode(await client.read(path))
        except ApiError:
            continue
        group, _, number = version.rpartition("/")
        for entry in found.get("resources", []):
            if entry["namespaced"] and "/" not in entry["name"] and {"list", "delete"} <= set(entry["verbs"]):
                yield ResourcePath(group=group, version=number, plural=entry["name"], namespaced=True)


def owner_reference(owner: Object, kind: str, api_version: str) -> Object:
    """Makes `owner` the one who looks after an object, and takes it along."""
    return {
        "apiVersion": api_version,
        "kind": kind,
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def owned_by(objects: Mapping[Name, Object], owner: Object) -> Iterator[Object]:
    """Those whose controller is `owner`."""
    uid, namespace = owner["metadata"]["uid"], owner["metadata"]["namespace"]
    for (inside, _), obj in objects.items():
        if inside == namespace and uid in (ref["uid"] for ref in obj["metadata"].get("ownerReferences") or ()):
            yield obj


def is_going(obj: Object) -> bool:
    return "deletionTimestamp" in obj["metadata"]


def is_ready(pod: Object) -> bool:
    """What the Pod's Ready condition says."""
    return condition(pod, "Ready") == "True"


def condition(obj: Object, kind: str) -> str:
    """The status of a condition; empty if there is none."""
    for entry in obj.get("status", {}).get("conditions") or ():
        if entry["type"] == kind:
            return str(entry["status"])
    return ""


def conditions(before: Object, wanted: Mapping[str, tuple[bool, str, str]], now: str) -> list[Object]:
    """Conditions from type → (status, reason, message). The time of a change stays until the status changes."""
    known = {entry["type"]: entry for entry in before.get("status", {}).get("conditions") or ()}
    found = []
    for kind, (holds, reason, message) in wanted.items():
        status = "True" if holds else "False"
        old = known.get(kind, {})
        since = old.get("lastTransitionTime") if old.get("status") == status else None
        found.append(
            {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": since or now}
        )
    return found


def name_of(obj: Object) -> Name:
    return (obj["metadata"].get("namespace", ""), obj["metadata"]["name"])
