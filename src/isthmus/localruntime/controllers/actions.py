"""Actions: the writes that controllers ask for, as values, and the one place that carries them out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from isthmus.kubernetes.client import ApiClient
from isthmus.kubernetes.errors import AlreadyExists, Conflict, NotFound
from isthmus.kubernetes.resources import ResourcePath
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


Action = Create | Patch | Replace | Delete


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
    except (AlreadyExists, Conflict, NotFound):
        pass
    return None


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
