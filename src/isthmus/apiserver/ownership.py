"""Ownership of fields: who has set which part of an object (`metadata.managedFields`), and what applying a configuration does with it.

Who changes a value by a plain write becomes its owner. Who applies a configuration owns what it says; another owner's value is a conflict, and
what an applier says no more is removed, unless somebody else has set it too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from isthmus.apiserver import field_sets
from isthmus.apiserver.field_sets import Fields
from isthmus.apiserver.kinds import Kind
from isthmus.apiserver.schemas import Schema
from isthmus.apiserver.status import Refused, unprocessable

Object = dict[str, Any]

_UPDATERS_MAX = 10
_ANCIENT = "ancient-changes"
_BEFORE = "before-first-apply"
_OF_SERVER = frozenset(
    {"name", "namespace", "creationTimestamp", "selfLink", "uid", "generation", "managedFields", "resourceVersion",
     "deletionTimestamp", "deletionGracePeriodSeconds"}
)  # fmt: skip
_NEVER_OWNED: Fields = {
    "f:apiVersion": {},
    "f:kind": {},
    "f:metadata": {".": {}} | {f"f:{name}": {} for name in _OF_SERVER},
}
_HEAD = frozenset({"apiVersion", "kind", "metadata"})
_NAME: Fields = {"f:metadata": {"f:name": {}}}


class _Entry(msgspec.Struct, rename="camel"):
    manager: str = ""
    operation: Literal["Apply", "Update"] = "Update"
    api_version: str = ""
    time: str = ""
    fields_type: str = "FieldsV1"
    fields_v1: dict[str, Any] = msgspec.field(name="fieldsV1", default={})
    subresource: str = ""


class Owner(msgspec.Struct, frozen=True, kw_only=True):
    """Who, how and when, and what."""

    manager: str
    operation: Literal["Apply", "Update"]
    api_version: str
    subresource: str
    time: str
    fields: Fields

    @property
    def key(self) -> tuple[str, str, str, str]:
        return (self.manager, self.operation, self.api_version, self.subresource)

    @property
    def document(self) -> Object:
        found: Object = {
            "manager": self.manager,
            "operation": self.operation,
            "apiVersion": self.api_version,
            "time": self.time,
            "fieldsType": "FieldsV1",
            "fieldsV1": self.fields,
        }
        if self.subresource:
            found["subresource"] = self.subresource
        return found

    @property
    def told(self) -> str:
        """As conflicts name it."""
        if self.operation == "Apply":
            return f'"{self.manager}"'
        part = f' with subresource "{self.subresource}"' if self.subresource else ""
        return f'"{self.manager}"{part} using {self.api_version}'


def record_update(old: Object | None, new: Object, schema: Schema, me: Owner) -> None:
    """Writes into `new` who owns what after a plain write. `me.fields` is not read.

    An object whose fields nobody has kept until now stays so until somebody applies something.
    """
    if old is None:
        fields = _added(new, schema)
        new["metadata"]["managedFields"] = [replace(me, fields=fields).document]
        return
    owners = _owners(old, new, of_subresource=bool(me.subresource))
    if not owners and not old["metadata"].get("managedFields"):
        new["metadata"].pop("managedFields", None)
        return
    changed, removed = _differences(old, new, schema)
    _write(new, _after_change(owners, changed, removed, me))


def apply(live: Object | None, config: Object, schema: Schema, me: Owner, *, force: bool) -> Object:
    """The object that the configuration makes of the live one. Raises Refused for conflicts, unless they are forced."""
    try:
        mine = _ownable(field_sets.owned(config, schema))
    except field_sets.Ambiguous as error:
        raise unprocessable(f"the configuration has {error}") from None
    before: Object = live or {"metadata": {}}
    owners = _owners(live, before, of_subresource=False)
    if live is not None and not owners:
        everything = _added(live, schema)
        owners = [replace(me, manager=_BEFORE, operation="Update", subresource="", fields=everything)]
    last = next((owner for owner in owners if owner.key == me.key), None)
    others = [owner for owner in owners if owner.key != me.key]
    after: Object = field_sets.merge(before, config, schema)
    if last is not None:
        kept = mine
        for owner in others:
            kept = field_sets.union(kept, owner.fields)
        after = field_sets.without(after, last.fields, field_sets.union(kept, _NAME), schema)
    changed, removed = _differences(before, after, schema)
    if not force:
        _check_conflicts(others, changed, config)
    unchanged = last is not None and last.fields == mine
    applied = replace(me, fields=mine, time=last.time if last is not None and unchanged else me.time)
    gone = field_sets.union(changed, removed)
    left = [_without(owner, gone, me.time) for owner in others]
    after["metadata"] = dict(after["metadata"])
    _write(after, [*left, applied])
    return after


def record_admission(before: Object, after: Object, schema: Schema, me: Owner) -> None:
    """What webhooks changed in what was applied belongs to the applier as by a plain write."""
    changed, removed = _differences(before, after, schema)
    if changed or removed:
        _write(after, _after_change(_owners(before, before, of_subresource=False), changed, removed, me))


def _after_change(owners: Sequence[Owner], changed: Fields, removed: Fields, me: Owner) -> list[Owner]:
    if not changed and not removed:
        return list(owners)
    gone = field_sets.union(changed, removed)
    mine = next((owner.fields for owner in owners if owner.key == me.key), {})
    own = field_sets.union(field_sets.difference(mine, removed), changed)
    left = [_without(owner, gone, me.time) for owner in owners if owner.key != me.key]
    return [*left, replace(me, fields=own)]


def _without(owner: Owner, gone: Fields, now: str) -> Owner:
    fields = field_sets.difference(owner.fields, gone)
    return owner if fields == owner.fields else replace(owner, fields=fields, time=now)


def _added(obj: Object, schema: Schema) -> Fields:
    """All that can be owned of an object."""
    fields = field_sets.added(obj, schema, _HEAD)
    if of_metadata := field_sets.added(obj["metadata"], schema.child("metadata"), _OF_SERVER):
        fields["f:metadata"] = of_metadata
    return fields


def _differences(old: Object, new: Object, schema: Schema) -> tuple[Fields, Fields]:
    changed, removed = field_sets.compare(old, new, schema)
    return _ownable(changed), _ownable(removed)


def _ownable(fields: Fields) -> Fields:
    return field_sets.difference(fields, _NEVER_OWNED)


def _owners(live: Object | None, new: Object, *, of_subresource: bool) -> list[Owner]:
    """Those of the live object, unless the writer says others: `[{}]` forgets all."""
    said = new["metadata"].get("managedFields")
    if said == [{}] and not of_subresource:
        return []
    found = [] if of_subresource else _decoded(said)
    return found or (_decoded(live["metadata"].get("managedFields")) if live is not None else [])


def _decoded(raw: Any) -> list[Owner]:
    """Empty for what cannot be read: a client that does not know them must not lose them."""
    try:
        entries = msgspec.convert(raw or [], list[_Entry])
    except msgspec.ValidationError:
        return []
    if any(not entry.api_version or entry.fields_type != "FieldsV1" for entry in entries):
        return []
    return [
        Owner(
            manager=entry.manager,
            operation=entry.operation,
            api_version=entry.api_version,
            subresource=entry.subresource,
            time=entry.time,
            fields=entry.fields_v1,
        )
        for entry in entries
    ]


def _write(obj: Object, owners: Iterable[Owner]) -> None:
    """Appliers first, then by time. The oldest of too many writers are counted as one."""
    found = sorted(
        (owner for owner in owners if owner.fields), key=lambda owner: (owner.operation, owner.time, owner.manager)
    )
    updaters = [owner for owner in found if owner.operation == "Update"]
    surplus = updaters[: max(len(updaters) - _UPDATERS_MAX + 1, 0)] if len(updaters) > _UPDATERS_MAX else []
    if surplus:
        fields: Fields = {}
        for owner in surplus:
            fields = field_sets.union(fields, owner.fields)
        ancient = replace(surplus[-1], manager=_ANCIENT, subresource="", fields=fields)
        first = found.index(surplus[0])
        found[first : first + len(surplus)] = [ancient]
    if found:
        obj["metadata"]["managedFields"] = [owner.document for owner in found]
    else:
        obj["metadata"].pop("managedFields", None)


def _check_conflicts(others: Iterable[Owner], changed: Fields, config: Object) -> None:
    conflicts = [
        (owner, path) for owner in others for path in field_sets.paths(field_sets.intersection(owner.fields, changed))
    ]
    if not conflicts:
        return
    conflicts.sort(key=lambda conflict: (conflict[0].manager, conflict[1]))
    if len(conflicts) == 1:
        owner, path = conflicts[0]
        told = f"conflict with {owner.told}: {path}"
    else:
        lines: list[str] = []
        for owner, path in conflicts:
            head = f"conflicts with {owner.told}:"
            lines += [*([] if head in lines else [head]), f"- {path}"]
        told = "\n".join(lines)
    causes = [
        {"reason": "FieldManagerConflict", "message": f"conflict with {owner.told}", "field": path}
        for owner, path in conflicts
    ]
    number = f"{len(conflicts)} conflict{'s' if len(conflicts) > 1 else ''}"
    details = {"name": config["metadata"].get("name", ""), "causes": causes}
    raise Refused(409, "Conflict", f"Apply failed with {number}: {told}", details)


def owner_of(kind: Kind, manager: str, operation: Literal["Apply", "Update"], subresource: str, now: str) -> Owner:
    return Owner(
        manager=manager,
        operation=operation,
        api_version=kind.group_version,
        subresource=subresource,
        time=now,
        fields={},
    )
