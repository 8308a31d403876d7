"""What is to be written about machines into one cluster: which WorkloadEntries are made, changed, told their health, deleted.

An entry is looked after by the control plane that its annotation names. Another one takes it over when its machine is connected there, and the
first has said that it is gone, or has not renewed its Lease: so that two to which one machine is connected never undo each other's work. An
entry whose machine is connected nowhere that we know of is deleted when the grace is over, by who looks after it, or by anybody if nobody does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from isthmus.api.networking import WorkloadEntry
from isthmus.ingest.machines import (
    CONNECTED_AT,
    CONTROLLER,
    DISCONNECTED_AT,
    GROUP,
    HEALTHY,
    Registration,
    condition_of,
)
from isthmus.xds.health import HealthReport

Name = tuple[str, str]
Object = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One that is connected here. `connected_at` is a stamp; `health` what it has said since."""

    registration: Registration
    connected_at: str
    health: HealthReport | None = None


@dataclass(frozen=True, slots=True)
class Create:
    """A new entry."""

    name: Name
    body: Object


@dataclass(frozen=True, slots=True)
class Change:
    """A merge patch of an entry, or of its status, onto the version that was read."""

    name: Name
    body: Object
    subresource: str = ""


@dataclass(frozen=True, slots=True)
class Delete:
    """The entry that was read, not one made in its place."""

    name: Name
    uid: str


Step = Create | Change | Delete


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What one control plane sees of a cluster's machines. `left_for` is how long, in seconds, an entry has been without a machine."""

    me: str
    machines: Mapping[Name, Machine]
    entries: Mapping[Name, WorkloadEntry]
    abandoned: frozenset[str]
    """Control planes that have let their Leases run out."""
    left_for: Mapping[Name, float]
    grace_seconds: float
    stamp: str


def registered(entries: Mapping[Name, object]) -> dict[Name, WorkloadEntry]:
    """Those that were made for machines that registered themselves."""
    return {
        name: entry
        for name, entry in entries.items()
        if isinstance(entry, WorkloadEntry)
        and GROUP in entry.metadata.annotations
        and not entry.metadata.deletion_timestamp
    }


def without_machine(sight: Sight) -> set[Name]:
    """The entries that we have to see to, and whose machines are not connected here."""
    return {
        name
        for name, entry in sight.entries.items()
        if name not in sight.machines and _owner(entry) in (sight.me, "", *sight.abandoned)
    }


def steps(sight: Sight) -> Iterator[Step]:
    """In the order of names."""
    for name, machine in sorted(sight.machines.items()):
        entry = sight.entries.get(name)
        if entry is None:
            yield Create(name, _new(machine, sight))
        else:
            yield from _looked_after(name, machine, entry, sight)
    for name in sorted(without_machine(sight)):
        entry = sight.entries[name]
        if sight.left_for.get(name, 0.0) >= sight.grace_seconds:
            yield Delete(name, entry.metadata.uid)
        elif DISCONNECTED_AT not in entry.metadata.annotations:
            said = {DISCONNECTED_AT: sight.stamp, CONNECTED_AT: None}
            yield Change(name, {"metadata": _version(entry) | {"annotations": said}})


def _new(machine: Machine, sight: Sight) -> Object:
    body = machine.registration.entry()
    body["metadata"]["annotations"] |= {CONTROLLER: sight.me, CONNECTED_AT: machine.connected_at}
    return body


def _looked_after(name: Name, machine: Machine, entry: WorkloadEntry, sight: Sight) -> Iterator[Step]:
    owner, annotations = _owner(entry), entry.metadata.annotations
    is_free = owner in ("", *sight.abandoned) or DISCONNECTED_AT in annotations
    if owner == sight.me or is_free:
        wanted = _new(machine, sight)
        before: Object = {
            "metadata": {"annotations": {**annotations}, "labels": {**entry.metadata.labels}},
            "spec": _said(entry),
        }
        after: Object = {
            # What others have written beside it stays.
            "metadata": {
                "annotations": {k: v for k, v in annotations.items() if k != DISCONNECTED_AT}
                | wanted["metadata"]["annotations"],
                "labels": wanted["metadata"]["labels"],
            },
            "spec": wanted["spec"],
        }
        if owner == sight.me and CONNECTED_AT in annotations:
            after["metadata"]["annotations"][CONNECTED_AT] = annotations[CONNECTED_AT]
        patch = _difference(before, after)
        if patch:
            patch["metadata"] = _version(entry) | patch.get("metadata", {})
            yield Change(name, patch)
            return
    told = condition_of(entry)
    wanted_status = None if machine.health is None else ("True" if machine.health.healthy else "False")
    if machine.health is not None and (
        told is None or (told.status, told.message) != (wanted_status, machine.health.message)
    ):
        condition = {
            "type": HEALTHY,
            "status": wanted_status,
            "message": machine.health.message,
            "lastProbeTime": sight.stamp,
            "lastTransitionTime": sight.stamp,
        }
        others = [msgspec.to_builtins(each) for each in entry.status.conditions if each.type != HEALTHY]
        body = {"metadata": _version(entry), "status": {"conditions": [*others, condition]}}
        yield Change(name, body, "status")


def _owner(entry: WorkloadEntry) -> str:
    return entry.metadata.annotations.get(CONTROLLER, "")


def _version(entry: WorkloadEntry) -> Object:
    return {"resourceVersion": entry.metadata.resource_version}


def _said(entry: WorkloadEntry) -> Object:
    """Its spec without what is not said."""
    spec: Object = msgspec.to_builtins(entry.spec)
    return {key: value for key, value in spec.items() if value}


def _difference(before: Object, after: Object) -> Object:
    """The merge patch (RFC 7386) that makes one of the other."""
    patch: Object = {key: None for key in before if key not in after}
    for key, value in after.items():
        old = before.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            inner = _difference(old, value)
            if inner:
                patch[key] = inner
        elif value != old:
            patch[key] = value
    return patch
