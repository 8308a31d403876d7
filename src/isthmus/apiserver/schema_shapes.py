"""The shape of a structural schema: which type each of its words has. What the words say is `validation.py`'s."""

from __future__ import annotations

from typing import Any

import msgspec


class _Rule(msgspec.Struct):
    rule: str
    message: str | None = None
    messageExpression: str | None = None
    reason: str | None = None
    fieldPath: str | None = None
    optionalOldSelf: bool | None = None


class _Schema(msgspec.Struct):
    """Words that are not here are not read, or may be anything."""

    type: str | None = None
    format: str | None = None
    pattern: str | None = None
    nullable: bool | None = None
    properties: dict[str, _Schema] | None = None
    additionalProperties: bool | _Schema | None = None
    items: _Schema | None = None
    required: list[str] | None = None
    enum: list[Any] | None = None
    minimum: float | None = None
    maximum: float | None = None
    exclusiveMinimum: bool | None = None
    exclusiveMaximum: bool | None = None
    multipleOf: float | None = None
    minLength: int | None = None
    maxLength: int | None = None
    minItems: int | None = None
    maxItems: int | None = None
    minProperties: int | None = None
    maxProperties: int | None = None
    uniqueItems: bool | None = None
    allOf: list[_Schema] | None = None
    anyOf: list[_Schema] | None = None
    oneOf: list[_Schema] | None = None
    not_: _Schema | None = msgspec.field(default=None, name="not")
    list_type: str | None = msgspec.field(default=None, name="x-kubernetes-list-type")
    list_map_keys: list[str] | None = msgspec.field(default=None, name="x-kubernetes-list-map-keys")
    rules: list[_Rule] | None = msgspec.field(default=None, name="x-kubernetes-validations")


def fault_of(schema: Any) -> str:
    """What has the wrong type, and where; empty if nothing has."""
    try:
        msgspec.convert(schema, _Schema)
    except msgspec.ValidationError as error:
        return str(error)
    return ""
