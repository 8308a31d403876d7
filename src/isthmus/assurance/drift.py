"""Drift: in what the rules of several primaries differ; and how one's would be replicated to another. Pure questions over objects.

Each control plane takes its rules from its own cluster, so replicating them is the users' business, and differences may be meant: an object with the
annotation `isthmus.io/drift: ignored` is passed over. What was replicated carries the hash of what it was then. An object that has
another hash now was changed by another hand, and is a conflict, not something to overwrite.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Any

from isthmus.model.values import dataclass

Object = Mapping[str, Any]

IGNORED = "isthmus.io/drift"
FROM, HASH = "isthmus.io/synced-from", "isthmus.io/synced-hash"
_OWN = (FROM, HASH, "kubectl.kubernetes.io/last-applied-configuration")


@dataclass(frozen=True, slots=True, order=True)
class RuleName:
    """`kind` has the group in it where a name is not enough: `Gateway.networking.istio.io`."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


Rules = Mapping[RuleName, Object]


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class Difference:
    """`missing_in` are clusters that do not have it; `fields` those in which the others do not agree, as paths."""

    rule: RuleName
    missing_in: tuple[str, ...]
    fields: tuple[str, ...]


def rules_of(objects: Iterable[tuple[str, Object]]) -> dict[RuleName, Object]:
    """From (kind, object) pairs, without those that are meant to differ."""
    found = {}
    for kind, obj in objects:
        metadata = obj["metadata"]
        if (metadata.get("annotations") or {}).get(IGNORED) != "ignored":
            found[RuleName(kind, metadata.get("namespace", ""), metadata["name"])] = obj
    return found


def content(obj: Object) -> dict[str, Any]:
    """What of an object is the user's: labels, annotations, and what it says. Who wrote it, when and where is not."""
    metadata = obj["metadata"]
    annotations = {key: value for key, value in (metadata.get("annotations") or {}).items() if key not in _OWN}
    said = {key: obj[key] for key in ("spec", "data") if obj.get(key)}
    return {"labels": metadata.get("labels") or {}, "annotations": annotations, **said}


def content_hash(obj: Object) -> str:
    return hashlib.sha256(json.dumps(content(obj), sort_keys=True).encode()).hexdigest()[:16]


def differences(clusters: Mapping[str, Rules]) -> list[Difference]:
    """Every rule that is not the same everywhere."""
    found = []
    for rule in sorted({rule for rules in clusters.values() for rule in rules}):
        missing = tuple(name for name, rules in clusters.items() if rule not in rules)
        contents = [content(rules[rule]) for rules in clusters.values() if rule in rules]
        fields = tuple(sorted({path for other in contents[1:] for path in _differing(contents[0], other, "")}))
        if missing or fields:
            found.append(Difference(rule=rule, missing_in=missing, fields=fields))
    return found


def _differing(one: Any, other: Any, path: str) -> Iterator[str]:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for key in one.keys() | other.keys():
            yield from _differing(one.get(key), other.get(key), f"{path}.{key}" if path else str(key))
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for index, (left, right) in enumerate(zip(one, other, strict=True)):
            yield from _differing(left, right, f"{path}[{index}]")
    elif one != other:
        yield path


class Deed(StrEnum):
    """What is done with one rule of the target."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    KEEP = "keep"
    CONFLICT = "conflict"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """`why` is for people. `wanted` is the object as it is to be; None for one that is deleted, kept as it is, or in conflict."""

    deed: Deed
    rule: RuleName
    why: str
    wanted: dict[str, Any] | None = None


def plan_sync(source: str, ours: Rules, theirs: Rules, *, overwrite: bool, prune: bool) -> list[Step]:
    """The steps that make the target's rules those of the source, but for what other hands wrote there (unless `overwrite`)."""
    steps = []
    for rule, obj in sorted(ours.items(), key=lambda item: item[0]):
        present = theirs.get(rule)
        if present is None:
            steps.append(Step(deed=Deed.CREATE, rule=rule, why=f"only {source} has it", wanted=_replica(source, obj)))
        elif content(present) != content(obj):
            foreign = _foreign(source, present)
            wanted = _replica(source, obj)
            if foreign and not overwrite:
                steps.append(Step(deed=Deed.CONFLICT, rule=rule, why=foreign))
            else:
                steps.append(
                    Step(deed=Deed.UPDATE, rule=rule, why=foreign or f"{source} has changed it", wanted=wanted)
                )
    steps += [
        _beyond(source, rule, present, overwrite=overwrite, prune=prune)
        for rule, present in sorted(theirs.items(), key=lambda item: item[0])
        if rule not in ours
    ]
    return steps


def _beyond(source: str, rule: RuleName, present: Object, *, overwrite: bool, prune: bool) -> Step:
    """What becomes of a rule that the source does not have: it stays, unless it was replicated from there and is to be pruned."""
    foreign, replicated = _foreign(source, present), _annotation(present, FROM) == source
    if not replicated:
        return Step(deed=Deed.KEEP, rule=rule, why=f"{source} does not have it, and {foreign}")
    if not prune:
        return Step(deed=Deed.KEEP, rule=rule, why=f"{source} has it no more: --prune deletes it")
    if foreign and not overwrite:
        return Step(deed=Deed.CONFLICT, rule=rule, why=f"{source} has it no more, and {foreign}")
    return Step(deed=Deed.DELETE, rule=rule, why=f"{source} has it no more")


def _foreign(source: str, present: Object) -> str:
    """Why the target's object is not ours to change; empty if it is as we left it."""
    by = _annotation(present, FROM)
    if not by:
        return "it was made there by another hand"
    if by != source:
        return f"it was replicated from {by}"
    return "" if _annotation(present, HASH) == content_hash(present) else "it was changed there since"


def _replica(source: str, obj: Object) -> dict[str, Any]:
    metadata = obj["metadata"]
    said = content(obj)
    annotations = said["annotations"] | {FROM: source, HASH: content_hash(obj)}
    kept = {key: metadata[key] for key in ("name", "namespace") if metadata.get(key)}
    body = {key: obj[key] for key in ("apiVersion", "kind", "spec", "data") if key in obj}
    return body | {"metadata": kept | {"labels": said["labels"], "annotations": annotations}}


def _annotation(obj: Object, name: str) -> str:
    return str((obj["metadata"].get("annotations") or {}).get(name, ""))
