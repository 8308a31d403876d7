"""Schemas: which fields an object may have, and which of its lists and maps are changed piece by piece.

One form for built-in kinds and for custom ones. `validation.py` says whether values are right; here it is only about shape.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

Object = dict[str, Any]


@dataclass(slots=True, eq=False, kw_only=True)
class Schema:
    """Of one value. Mutable only while it is built: types may contain themselves."""

    type: str = ""
    """`object`, `array`, `string`, `integer`, `number`, `boolean`; empty for any value."""
    fields: dict[str, Schema] = field(default_factory=dict)
    values: Schema | None = None
    """Of a map's values, where the names are free."""
    items: Schema | None = None
    open: bool = False
    """Fields that are not listed are kept."""
    embedded: bool = False
    """A whole Kubernetes object: it has apiVersion, kind and metadata, listed or not."""
    atomic: bool = False
    """Written as one value, by one manager."""
    keys: tuple[str, ...] = ()
    """A list whose items are told apart by these fields."""
    key_defaults: Object = field(default_factory=dict)
    is_set: bool = False
    rules: Object = field(default_factory=dict)
    """What `validation` checks: the schema as it was written."""

    def child(self, name: str) -> Schema:
        """Of a field or of a map's value; anything goes where nothing is known."""
        return self.fields.get(name) or self.values or ANY


_OF_EVERY_OBJECT = ("apiVersion", "kind", "metadata")
ANY = Schema(open=True)


def of_custom_kind(version: Object, metadata: Schema) -> Schema:
    """From a version of a CustomResourceDefinition. `metadata` is that of every kind."""
    schema = of_openapi((version.get("schema") or {}).get("openAPIV3Schema") or {})
    schema.type = "object"
    text = Schema(type="string")
    schema.fields |= {"apiVersion": text, "kind": text, "metadata": metadata}
    return schema


def of_openapi(raw: Object) -> Schema:
    """From a structural schema."""
    items = raw.get("items")
    values = raw.get("additionalProperties")
    schema = Schema(
        type="" if raw.get("x-kubernetes-int-or-string") else raw.get("type", ""),
        fields={name: of_openapi(each) for name, each in (raw.get("properties") or {}).items()},
        values=of_openapi(values) if isinstance(values, dict) else (ANY if values is True else None),
        items=of_openapi(items) if isinstance(items, dict) else None,
        open=bool(raw.get("x-kubernetes-preserve-unknown-fields")),
        embedded=bool(raw.get("x-kubernetes-embedded-resource")),
        atomic=raw.get("x-kubernetes-map-type") == "atomic",
        is_set=raw.get("x-kubernetes-list-type") == "set",
        rules=raw,
    )
    if raw.get("x-kubernetes-list-type") == "map" and schema.items is not None:
        schema.keys = tuple(raw.get("x-kubernetes-list-map-keys") or ())
        for key in schema.keys:
            if "default" in schema.items.child(key).rules:
                schema.key_defaults[key] = schema.items.child(key).rules["default"]
    return schema


def prune(schema: Schema, value: Any, path: str = "") -> Iterator[str]:
    """Removes fields that the schema does not have, and says which they were."""
    if isinstance(value, dict):
        if schema.open and not schema.fields and schema.values is None:
            return
        for name in list(value):
            known = schema.fields.get(name) or schema.values
            if known is not None:
                yield from prune(known, value[name], _at(path, name))
            elif not schema.open and not (schema.embedded and name in _OF_EVERY_OBJECT):
                del value[name]
                yield _at(path, name)
    elif isinstance(value, list) and schema.items is not None:
        for position, item in enumerate(value):
            yield from prune(schema.items, item, f"{path}[{position}]")


def add_defaults(schema: Schema, value: Any) -> None:
    """Fills in what is not said and has a default. A null is as good as nothing said, where null cannot be."""
    if isinstance(value, dict):
        for name, known in schema.fields.items():
            if "default" not in known.rules:
                continue
            if name not in value or (value[name] is None and not known.rules.get("nullable")):
                value[name] = copy.deepcopy(known.rules["default"])
        for name, item in value.items():
            add_defaults(schema.child(name), item)
    elif isinstance(value, list) and schema.items is not None:
        for item in value:
            add_defaults(schema.items, item)


def _at(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
