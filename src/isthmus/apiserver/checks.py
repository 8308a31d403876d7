"""What an object must be to be stored, and what a change may not change. Every function may raise Refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from isthmus.apiserver import json_paths, resource_quotas, role_shapes, rules, validation, webhook_shapes
from isthmus.apiserver.authors import Author
from isthmus.apiserver.kinds import BUILT_IN, Kind
from isthmus.apiserver.status import invalid, invalid_fields
from isthmus.apiserver.validation import Fault

Object = dict[str, Any]


def shape(kind: Kind, obj: Object) -> None:
    """What other people's requests rely on."""
    role_shapes.check(kind, obj)
    webhook_shapes.check(kind, obj)


def definition(kind: Kind, obj: Object) -> None:
    """Of a CustomResourceDefinition: kinds are made from it."""
    spec = obj["spec"]
    wanted = f"{spec['names']['plural']}.{spec['group']}"
    if not any(version.get("served") for version in spec["versions"]) or obj["metadata"]["name"] != wanted:
        message = f"must be {wanted!r}, of a definition with a served version"
        raise invalid(kind, obj["metadata"]["name"], "metadata.name", message)
    if any(spec["group"] == built_in.group for built_in in BUILT_IN):
        raise invalid(kind, wanted, "spec.group", f"{spec['group']} is the server's own")
    faults = [
        fault for position, version in enumerate(spec["versions"]) for fault in _version_faults(position, version)
    ]
    if sum(bool(version.get("storage")) for version in spec["versions"]) != 1:
        faults.append(
            Fault("spec.versions", "FieldValueInvalid", "Invalid value: exactly one version is the one that is stored")
        )
    if spec.get("scope") not in ("Namespaced", "Cluster"):
        faults.append(Fault("spec.scope", "FieldValueNotSupported", f"Unsupported value: {spec.get('scope')!r}"))
    if (spec.get("conversion") or {}).get("strategy", "None") != "None":
        message = (
            "Unsupported value: this server converts by strategy None only: versions differ in nothing but their name"
        )
        faults.append(Fault("spec.conversion.strategy", "FieldValueNotSupported", message))
    if not faults:
        faults = [
            Fault(problem.path, "FieldValueInvalid", f"Invalid value: {problem.what}")
            for problem in rules.problems_of(obj)
            if problem.is_wrong
        ]
    if faults:
        raise invalid_fields(kind, wanted, faults)


def quota(kind: Kind, obj: Object, author: Author) -> None:
    """Of a ResourceQuota. Its author is told what of it is not enforced."""
    if found := list(resource_quotas.faults(obj)):
        raise invalid_fields(kind, obj["metadata"]["name"], found)
    for text in resource_quotas.not_enforced(obj):
        author.warn(text)


def _version_faults(position: int, version: Object) -> Iterator[Fault]:
    path = f"spec.versions[{position}].schema.openAPIV3Schema"
    schema = (version.get("schema") or {}).get("openAPIV3Schema")
    if schema is None:
        yield Fault(path, "FieldValueRequired", "Required value: schemas are required")
        return
    yield from validation.schema_faults(schema, path)
    for number, column in enumerate(version.get("additionalPrinterColumns") or ()):
        try:
            json_paths.find(column["jsonPath"], {})
        except json_paths.BadPath as error:
            where = f"spec.versions[{position}].additionalPrinterColumns[{number}].jsonPath"
            yield Fault(where, "FieldValueInvalid", f"Invalid value: {error}")


def change(kind: Kind, old: Object, new: Object) -> None:
    """What stays as it was made."""
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
    if kind.name in ("RoleBinding", "ClusterRoleBinding") and old.get("roleRef") != new.get("roleRef"):
        raise invalid(kind, name, "roleRef", "Invalid value: cannot change roleRef")
