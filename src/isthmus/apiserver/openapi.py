"""OpenAPI: what objects look like, for clients that explain kinds and check files before they send them.

Types of built-in kinds have their fields' names and types, and no prose; custom kinds have the schemas of their definitions.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Any

import msgspec

from isthmus.apiserver import builtin_schemas, patches
from isthmus.apiserver.builtin_schemas import FieldType
from isthmus.apiserver.kinds import Kind, Kinds

Json = dict[str, Any]

_encode = msgspec.json.Encoder().encode
_FORMATS = {"time": "date-time"}
_TEXT = {"type": "string"}
_SWAGGER_ASKED = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
_SWAGGER_GIVEN = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
"""An @ is no part of a media type, so an answer has none."""


def index(kinds: Kinds) -> Json:
    """`/openapi/v3`. A hash changes with the kinds of its version, and with it the address that clients cache."""
    paths = {}
    for group, version in sorted({(kind.group, kind.version) for kind in kinds.all()}):
        path = f"apis/{group}/{version}" if group else f"api/{version}"
        digest = hashlib.sha256(_document(_of_version(group, version, kinds))).hexdigest()[:32].upper()
        paths[path] = {"serverRelativeURL": f"/openapi/v3/{path}?hash={digest}"}
    return {"paths": paths}


def document(group: str, version: str, kinds: Kinds) -> bytes | None:
    """Of all kinds of one version; None if there are none."""
    found = _of_version(group, version, kinds)
    return _document(found) if found else None


def swagger(accept: str) -> tuple[bytes, str]:
    """OpenAPI v2 and its media type: that it describes nothing. Clients ask it about what they have not found in v3, and take silence as leave."""
    info = {"title": "Isthmus embedded API server", "version": "v1"}
    if _SWAGGER_ASKED not in accept:
        return _encode({"swagger": "2.0", "info": info, "paths": {}, "definitions": {}}), "application/json"
    told = _message(1, info["title"].encode()) + _message(2, info["version"].encode())
    return _message(1, b"2.0") + _message(2, told), _SWAGGER_GIVEN


def _message(number: int, body: bytes) -> bytes:
    """A short field of protobuf."""
    return bytes([number << 3 | 2, len(body)]) + body


def _of_version(group: str, version: str, kinds: Kinds) -> tuple[Kind, ...]:
    return tuple(kind for kind in kinds.all() if (kind.group, kind.version) == (group, version))


@lru_cache(maxsize=128)
def _document(kinds: tuple[Kind, ...]) -> bytes:
    """Kept as it is sent: it is the same until a definition changes."""
    paths: Json = {}
    schemas: Json = {"ObjectMeta": _of_type("ObjectMeta")}
    for kind in kinds:
        identity = {"group": kind.group, "version": kind.version, "kind": kind.name}
        root = f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"
        inside = "/namespaces/{namespace}" if kind.namespaced else ""
        if kind.schema is not None:
            schemas[f"{kind.group}.{kind.version}.{kind.name}"] = _of_custom_kind(kind) | {_KIND: [identity]}
        else:
            name = builtin_schemas.type_of(kind.group_version, kind.name)
            _add(name, schemas)
            schemas[name] = schemas[name] | {_KIND: [identity]}
        validation = {"name": "fieldValidation", "in": "query", "schema": {"type": "string", "uniqueItems": True}}
        paths[f"{root}{inside}/{kind.plural}/{{name}}"] = {
            "patch": {
                "x-kubernetes-action": "patch",
                _KIND: identity,
                "parameters": [validation],
                "responses": {"200": {"description": "OK"}},
            }
        }
    _add("ObjectMeta", schemas)
    return _encode(
        {
            "openapi": "3.0.0",
            "info": {"title": "Isthmus embedded API server", "version": "v1"},
            "paths": paths,
            "components": {"schemas": schemas},
        }
    )


_KIND = "x-kubernetes-group-version-kind"


def _of_custom_kind(kind: Kind) -> Json:
    assert kind.schema is not None, "custom kinds have one"
    raw = kind.schema.rules
    fields = {"apiVersion": _TEXT, "kind": _TEXT, **(raw.get("properties") or {}), "metadata": _reference("ObjectMeta")}
    return raw | {"type": "object", "properties": fields}


def _add(name: str, schemas: Json) -> None:
    """A type, and all that it is made of."""
    schemas[name] = _of_type(name)
    for field in builtin_schemas.fields_of(name).values():
        if field.is_type and field.name not in schemas:
            _add(field.name, schemas)


def _of_type(name: str) -> Json:
    return {
        "type": "object",
        "properties": {
            field: _of_field(name, field, type_) for field, type_ in builtin_schemas.fields_of(name).items()
        },
    }


def _of_field(type_: str, name: str, field: FieldType) -> Json:
    plain = _reference(field.name) if field.is_type else _of_scalar(field.name)
    if field.form == "list":
        found: Json = {"type": "array", "items": plain}
        if field.keys:
            found |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(field.keys)}
        if field.is_set:
            found["x-kubernetes-list-type"] = "set"
        return found | patches.strategy_of(type_, name)
    if field.form == "map":
        return {"type": "object", "additionalProperties": plain}
    return plain | patches.strategy_of(type_, name)


def _of_scalar(name: str) -> Json:
    if name == "any":
        return {"x-kubernetes-preserve-unknown-fields": True}
    if name in ("quantity", "int-or-string"):
        return {"x-kubernetes-int-or-string": True} | ({"type": "string"} if name == "quantity" else {})
    return {"type": "string", "format": _FORMATS[name]} if name in _FORMATS else {"type": name}


def _reference(name: str) -> Json:
    return {"allOf": [{"$ref": f"#/components/schemas/{name}"}]}
