"""Schemas of the built-in kinds, from a table of names and types; `tools/builtin_types.py` writes it."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Annotated, Any, NamedTuple

import msgspec

from isthmus.apiserver.schemas import ANY, Schema

_SCALARS = {"string": "string", "integer": "integer", "number": "number", "boolean": "boolean", "time": "string"}
_PYTHON: dict[str, Any] = {
    "string": str,
    "integer": int,
    "number": float,
    "boolean": bool,
    "time": Annotated[str, msgspec.Meta(pattern=r"^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)$")],
    "any": Any,
    "quantity": Annotated[str, msgspec.Meta(pattern=r"^[+-]?[0-9.]+([eEinumkKMGTP]*[-+]?[0-9]*)$")] | int | float,
    "int-or-string": str | int,
}

_LIST_KEYS: dict[str, tuple[str, ...]] = {
    **{f"PodSpec.{field}": ("name",) for field in ("containers", "ephemeralContainers", "imagePullSecrets", "initContainers",
                                                   "resourceClaims", "schedulingGates", "volumes")},
    "PodSpec.hostAliases": ("ip",),
    "PodSpec.topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
    "PodStatus.podIPs": ("ip",),
    **{f"{kind}.{field}": (key,) for kind in ("Container", "EphemeralContainer")
       for field, key in (("env", "name"), ("volumeMounts", "mountPath"), ("volumeDevices", "devicePath"))},
    "Container.ports": ("containerPort", "protocol"),
    "EphemeralContainer.ports": ("containerPort", "protocol"),
    "ServiceSpec.ports": ("port", "protocol"),
    "ServiceAccount.secrets": ("name",),
    "ObjectMeta.ownerReferences": ("uid",),
    "NodeStatus.addresses": ("type",),
    **{f"{kind}Status.conditions": ("type",) for kind in (
        "CertificateSigningRequest", "CustomResourceDefinition", "DaemonSet", "Deployment", "Job", "Namespace", "Node", "Pod",
        "PersistentVolumeClaim", "ReplicaSet", "ReplicationController", "Service", "StatefulSet")},
    "MutatingWebhookConfiguration.webhooks": ("name",),
    "ValidatingWebhookConfiguration.webhooks": ("name",),
}  # fmt: skip
"""Lists that are changed item by item, as Kubernetes' API marks them."""

_SETS = frozenset({"ObjectMeta.finalizers", "NodeSpec.podCIDRs"})
_ATOMIC_TYPES = frozenset({
    "ConfigMapKeySelector", "LabelSelector", "LocalObjectReference", "NodeSelector", "NodeSelectorTerm", "ObjectFieldSelector",
    "ObjectReference", "ResourceFieldSelector", "RoleRef", "ScopeSelector", "SecretKeySelector", "SecretReference", "Subject",
    "TypedLocalObjectReference",
})  # fmt: skip
_ATOMIC_MAPS = frozenset({"ReplicationControllerSpec.selector", "ServiceSpec.selector", "PodSpec.nodeSelector"})
_KEY_DEFAULTS = {"protocol": "TCP"}


class _Table(msgspec.Struct):
    kinds: dict[str, str]
    types: dict[str, dict[str, str]]


@cache
def _table() -> _Table:
    raw = files("isthmus.apiserver").joinpath("builtin_types.json").read_bytes()
    return msgspec.json.decode(raw, type=_Table)


@cache
def schema_of(group_version: str, kind: str) -> Schema:
    """Raises KeyError for a kind that is not built in."""
    return _of_type(_table().kinds[f"{group_version} {kind}"])


class FieldType(NamedTuple):
    """Of one field. `form` is `list`, `map`, or empty for one value; `name` is that of a scalar, or of a type of the table."""

    form: str
    name: str
    keys: tuple[str, ...]
    is_set: bool

    @property
    def is_type(self) -> bool:
        return self.name not in _PYTHON


def type_of(group_version: str, kind: str) -> str:
    """The name of a built-in kind's type."""
    return _table().kinds[f"{group_version} {kind}"]


def fields_of(type_: str) -> dict[str, FieldType]:
    """Lists of lists, and maps of lists, are told by what is in them."""
    found = {}
    for field, text in _table().types[type_].items():
        place = f"{type_}.{field}"
        form = {"[": "list", "{": "map"}.get(text[0], "")
        found[field] = FieldType(form, text.strip("[]{}"), _LIST_KEYS.get(place, ()), place in _SETS)
    return found


@cache
def metadata_schema() -> Schema:
    return _of_type("ObjectMeta")


@cache
def metadata_shape() -> Any:
    """As `shape_of`, for the metadata of any kind."""
    return _struct("ObjectMeta")


@cache
def shape_of(group_version: str, kind: str) -> Any:
    """A type that msgspec converts an object to if all its fields are known, and all its values of the right type."""
    return _struct(_table().kinds[f"{group_version} {kind}"])


@cache
def _of_type(name: str) -> Schema:
    schema = Schema(type="object", atomic=name in _ATOMIC_TYPES)
    for field, text in _table().types[name].items():
        place = f"{name}.{field}"
        schema.fields[field] = _of_text(text, place)
    return schema


def _of_text(text: str, place: str) -> Schema:
    if text.startswith("["):
        items = _of_text(text[1:-1], "")
        keys = _LIST_KEYS.get(place, ())
        defaults = {key: value for key, value in _KEY_DEFAULTS.items() if key in keys}
        return Schema(type="array", items=items, keys=keys, key_defaults=defaults, is_set=place in _SETS)
    if text.startswith("{"):
        return Schema(type="object", values=_of_text(text[1:-1], ""), atomic=place in _ATOMIC_MAPS)
    if text in _PYTHON:
        return Schema(type=_SCALARS[text]) if text in _SCALARS else ANY
    return _of_type(text)


@cache
def _struct(name: str) -> Any:
    fields = sorted(_table().types[name].items())
    # Some names are Python's own words, or no words at all.
    numbered = [(f"f{position}", _python(text) | None, None) for position, (_, text) in enumerate(fields)]
    rename = {f"f{position}": field for position, (field, _) in enumerate(fields)}
    return msgspec.defstruct(name, numbered, rename=rename, forbid_unknown_fields=True, gc=False)


def _python(text: str) -> Any:
    if text.startswith("["):
        return list[_python(text[1:-1])]  # type: ignore[misc]
    if text.startswith("{"):
        return dict[str, _python(text[1:-1])]  # type: ignore[misc]
    return _PYTHON[text] if text in _PYTHON else _struct(text)
