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
    if not found or (names.is_qualified.all(found) and names.is_label_value.all(found.values())):
        return
    for key, value in found.items():
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
    if check is not names.subdomain or not names.is_subdomain(found["name"]):
        yield from invalid("metadata.name", found["name"], check(found["name"]))
    if found.get("ownerReferences"):
        yield from _owners(found["ownerReferences"])
    if found.get("labels"):
        yield from labels("metadata.labels", found["labels"])
    if found.get("annotations"):
        yield from _annotations(found["annotations"])
    if found.get("finalizers"):
        yield from _finalizers(found["finalizers"], kind.is_custom or kind.name == "CustomResourceDefinition")


def _annotations(found: Object) -> Faults:
    for key in found:
        yield from invalid("metadata.annotations", key, names.qualified(key.lower()))
    if sum(len(key) + len(text.encode()) for key, text in found.items()) > _ANNOTATIONS_MAX:
        yield too_long("metadata.annotations", _ANNOTATIONS_MAX)


def _finalizers(found: Sequence[str], is_about_custom_kinds: bool) -> Faults:
    for position, name in enumerate(found):
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
