"""Shapes of roles and bindings. They are read for everybody's requests: one that cannot be read must not get into the store."""

from __future__ import annotations

import msgspec

from isthmus.apiserver.kinds import Kind
from isthmus.apiserver.status import bad_request
from isthmus.apiserver.store import Object

_Texts = list[str] | None


class _Rule(msgspec.Struct, rename="camel"):
    verbs: _Texts = None
    api_groups: _Texts = None
    resources: _Texts = None
    resource_names: _Texts = None
    non_resource_urls: _Texts = msgspec.field(default=None, name="nonResourceURLs")


class _Role(msgspec.Struct):
    rules: list[_Rule] | None = None


class _Subject(msgspec.Struct):
    kind: str
    name: str
    namespace: str | None = None


class _RoleRef(msgspec.Struct):
    kind: str
    name: str


class _Binding(msgspec.Struct, rename="camel"):
    role_ref: _RoleRef
    subjects: list[_Subject] | None = None


_SHAPES = {"Role": _Role, "ClusterRole": _Role, "RoleBinding": _Binding, "ClusterRoleBinding": _Binding}


def check(kind: Kind, obj: Object) -> None:
    """Raises Refused (BadRequest)."""
    shape = None if kind.is_custom else _SHAPES.get(kind.name)
    if shape is None:
        return
    try:
        msgspec.convert(obj, shape)
    except msgspec.ValidationError as error:
        raise bad_request(f"{kind.name} {obj['metadata']['name']}: {error}") from None
