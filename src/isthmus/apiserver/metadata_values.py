"""Metadata of every object, built-in or custom: names, labels, annotations, owners."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from isthmus.apiserver import names
from isthmus.apiserver.faults import Faults, invalid, too_long
from isthmus.apiserver.kinds import Kind

Object = dict[str, Any]

_ANNOTATIONS_MAX = 262_144
_PATH_SEGMENTS = frozenset({"CertificateSigningRequest", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"})
_LABELS = frozenset({"Namespace", "Service"})
_FINALIZERS = frozenset({"foregroundDeletion", "kubernetes", "orphan"})


def labels(field: str, found: Any) -> Faults:
    for key, value in (found or {}).items():
        if not names.is_qualified(key):
            yield from invalid(field, key, names.qualified(key))
        if not names.is_label_value(value):
            yield from invalid(field, value, names.label_value(value))


def metadata(kind: Kind, found: Object) -> Faults:
    check = names.label if kind.name in _LABELS and not kind.is_custom else names.subdomain
    if kind.name in _PATH_SEGMENTS and not kind.is_custom:
        check = names.path_segment
    if found.get("generateName"):
        yield from invalid("metadata.generateName", found["generateName"], check(found["generateName"].rstrip("-.")))
    yield from invalid("metadata.name", found["name"], check(found["name"]))
    yield from _owners(found.get("ownerReferences") or ())
    yield from labels("metadata.labels", found.get("labels"))
    annotations = found.get("annotations") or {}
    is_about_custom_kinds = kind.is_custom or kind.name == "CustomResourceDefinition"
    for key in annotations:
        yield from invalid("metadata.annotations", key, names.qualified(key.lower()))
    if sum(len(key) + len(text.encode()) for key, text in annotations.items()) > _ANNOTATIONS_MAX:
        yield too_long("metadata.annotations", _ANNOTATIONS_MAX)
    for position, name in enumerate(found.get("finalizers") or ()):
        yield from invalid("metadata.finalizers", name, names.qualified(name))
        if "/" not in name and name not in _FINALIZERS and not is_about_custom_kinds:
            why = "name is neither a standard finalizer name nor is it fully qualified"
            yield from invalid(f"metadata.finalizers[{position}]", name, [why])


def _owners(found: Sequence[Object]) -> Faults:
    controllers = []
    for owner in found:
        for field in ("apiVersion", "kind", "name", "uid"):
            if not owner.get(field):
                yield from invalid(f"metadata.ownerReferences.{field}", owner.get(field) or "", ["must not be empty"])
        if (owner.get("apiVersion"), owner.get("kind")) == ("v1", "Event"):
            yield from invalid("metadata.ownerReferences", owner, ["/v1, Kind=Event is disallowed from being an owner"])
        if owner.get("controller"):
            controllers.append(f"{owner.get('kind')}/{owner.get('name')}")
    if len(controllers) > 1:
        why = "Only one reference can have Controller set to true. "
        why += f'Found "true" in references for {" and ".join(controllers[:2])}'
        yield from invalid("metadata.ownerReferences", list(found), [why])
