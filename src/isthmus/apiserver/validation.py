"""Values of custom objects against the structural schema of their kind, and such schemas themselves.

All that structural schemas can say but CEL (`x-kubernetes-validations`), which is in `rules.py`.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import math
import re
from collections.abc import Iterator
from datetime import date, datetime
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from isthmus.apiserver import schema_shapes

Object = dict[str, Any]

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}
_FAULTS_MAX = 50
PATTERN_TEXT_MAX = 10_000
"""Longer text is not given to a pattern: its time may grow with the square of it, or worse."""

_encode = msgspec.json.Encoder(order="sorted").encode


class Fault(NamedTuple):
    """`reason` is the one of a Status' causes."""

    field: str
    reason: str
    message: str


def faults(schema: Object, value: Any, path: str = "") -> Iterator[Fault]:
    """What is wrong with a value. `schema` is OpenAPI v3 as a CustomResourceDefinition has it."""
    if value is None:
        if not schema.get("nullable"):
            yield _wrong_type(path, schema.get("type", "value"), "null")
        return
    if schema.get("x-kubernetes-int-or-string"):
        if isinstance(value, bool) or not isinstance(value, int | str):
            yield _wrong_type(path, "integer or string", _named(value))
            return
    elif not _is(value, schema.get("type", "")):
        yield _wrong_type(path, schema["type"], _named(value))
        return
    if "enum" in schema and value not in schema["enum"]:
        supported = ", ".join(_shown(each) for each in schema["enum"])
        yield Fault(
            path, "FieldValueNotSupported", f"Unsupported value: {_shown(value)}: supported values: {supported}"
        )
    if isinstance(value, dict):
        yield from _of_map(schema, value, path)
    elif isinstance(value, list):
        yield from _of_list(schema, value, path)
    elif isinstance(value, str):
        yield from _of_text(schema, value, path)
    elif not isinstance(value, bool):
        yield from _of_number(schema, value, path)
    yield from _combined(schema, value, path)


def first_faults(schema: Object, value: Any) -> list[Fault]:
    """As many as anybody reads."""
    return [fault for fault, _ in zip(faults(schema, value), range(_FAULTS_MAX), strict=False)]


def schema_faults(schema: Any, path: str, *, root: bool = True) -> Iterator[Fault]:
    """What keeps a schema from being structural: every value has a type, and every pattern can be read."""
    wrong = schema_shapes.fault_of(schema) if root else ""
    if wrong:
        yield Fault(path, "FieldValueTypeInvalid", f"Invalid value: {wrong}")
        return
    free = schema.get("x-kubernetes-int-or-string") or schema.get("x-kubernetes-preserve-unknown-fields")
    kind = schema.get("type")
    if root and kind != "object":
        yield Fault(f"{path}.type", "FieldValueInvalid", f"Invalid value: {kind!r}: must be object at the root")
    elif not kind and not free:
        yield Fault(f"{path}.type", "FieldValueRequired", "Required value: must not be empty for specified fields")
    elif kind and kind not in _TYPES:
        yield Fault(f"{path}.type", "FieldValueNotSupported", f"Unsupported value: {kind!r}")
    if schema.get("properties") and schema.get("additionalProperties"):
        yield Fault(
            f"{path}.additionalProperties", "FieldValueForbidden", "Forbidden: mutual exclusive with properties"
        )
    if schema.get("x-kubernetes-list-type") == "map" and not schema.get("x-kubernetes-list-map-keys"):
        yield Fault(f"{path}.x-kubernetes-list-map-keys", "FieldValueRequired", "Required value: with list type map")
    if kind == "array" and not isinstance(schema.get("items"), dict):
        yield Fault(f"{path}.items", "FieldValueRequired", "Required value: must be specified")
    if schema.get("pattern") and pattern_of(schema["pattern"]) is None:
        yield Fault(
            f"{path}.pattern",
            "FieldValueInvalid",
            f"Invalid value: {schema['pattern']!r}: not a pattern that can be read",
        )
    for name, inside in (schema.get("properties") or {}).items():
        yield from schema_faults(inside, f"{path}.properties[{name}]", root=False)
    for name in ("items", "additionalProperties"):
        if isinstance(schema.get(name), dict):
            yield from schema_faults(schema[name], f"{path}.{name}", root=False)
    for name in ("allOf", "anyOf", "oneOf", "not"):
        if has_expressions(schema.get(name)):
            message = "Forbidden: rules are said of values, not inside of what combines schemas"
            yield Fault(f"{path}.{name}", "FieldValueForbidden", message)
    if "default" in schema and not root:
        yield from faults(schema, schema["default"], f"{path}.default")


def has_expressions(schema: Any) -> bool:
    """Whether there is CEL anywhere in it."""
    if isinstance(schema, dict):
        return "x-kubernetes-validations" in schema or any(has_expressions(each) for each in schema.values())
    return isinstance(schema, list) and any(has_expressions(each) for each in schema)


def _of_map(schema: Object, value: Object, path: str) -> Iterator[Fault]:
    for name in schema.get("required") or ():
        if name not in value:
            yield Fault(_at(path, name), "FieldValueRequired", "Required value")
    yield from _counted(schema, len(value), path, "Properties", "properties")
    fields, others = schema.get("properties") or {}, schema.get("additionalProperties")
    for name, each in value.items():
        known = fields.get(name, others)
        if isinstance(known, dict):
            yield from faults(known, each, _at(path, name))
    if schema.get("x-kubernetes-embedded-resource"):
        for name in ("apiVersion", "kind"):
            if not isinstance(value.get(name), str) or not value[name]:
                yield Fault(_at(path, name), "FieldValueRequired", "Required value: must not be empty")


def _of_list(schema: Object, value: list[Any], path: str) -> Iterator[Fault]:
    yield from _counted(schema, len(value), path, "Items", "items")
    items = schema.get("items")
    if isinstance(items, dict):
        for position, each in enumerate(value):
            yield from faults(items, each, f"{path}[{position}]")
    keys = schema.get("x-kubernetes-list-map-keys") if schema.get("x-kubernetes-list-type") == "map" else None
    if keys or schema.get("x-kubernetes-list-type") == "set" or schema.get("uniqueItems"):
        seen = set()
        for position, each in enumerate(value):
            told = {key: each.get(key) for key in keys} if keys and isinstance(each, dict) else each
            mark = _encode(told)
            if mark in seen:
                yield Fault(f"{path}[{position}]", "FieldValueDuplicate", f"Duplicate value: {_shown(told)}")
            seen.add(mark)


def _of_text(schema: Object, value: str, path: str) -> Iterator[Fault]:
    yield from _counted(schema, len(value), path, "Length", "characters")
    pattern = schema.get("pattern")
    if pattern:
        compiled = pattern_of(pattern)
        if compiled is None or len(value) > PATTERN_TEXT_MAX or not compiled.search(value):
            message = f"Invalid value: {_shown(value)}: {path} in body should match '{pattern}'"
            yield Fault(path, "FieldValueInvalid", message)
    check = _FORMATS.get(schema.get("format", ""))
    if check is not None and not check(value):
        message = f"Invalid value: {_shown(value)}: {path} in body must be of type {schema['format']}"
        yield Fault(path, "FieldValueInvalid", message)


def _of_number(schema: Object, value: float, path: str) -> Iterator[Fault]:
    low, high, step = schema.get("minimum"), schema.get("maximum"), schema.get("multipleOf")
    shown = f"Invalid value: {_shown(value)}: {path} in body should be"
    if low is not None and (value < low or (schema.get("exclusiveMinimum") and value == low)):
        than = "greater than" if schema.get("exclusiveMinimum") else "greater than or equal to"
        yield Fault(path, "FieldValueInvalid", f"{shown} {than} {low}")
    if high is not None and (value > high or (schema.get("exclusiveMaximum") and value == high)):
        than = "less than" if schema.get("exclusiveMaximum") else "less than or equal to"
        yield Fault(path, "FieldValueInvalid", f"{shown} {than} {high}")
    if step and not math.isclose(value / step, round(value / step)):
        yield Fault(path, "FieldValueInvalid", f"{shown} a multiple of {step}")
    bits = {"int32": 31, "int64": 63}.get(schema.get("format", ""))
    if bits and not -(2**bits) <= value < 2**bits:
        yield Fault(path, "FieldValueInvalid", f"{shown} of type {schema['format']}")


def _combined(schema: Object, value: Any, path: str) -> Iterator[Fault]:
    for part in schema.get("allOf") or ():
        yield from _partly(part, value, path)
    for name, least, most in (("anyOf", 1, math.inf), ("oneOf", 1, 1)):
        parts = schema.get(name)
        if parts:
            right = sum(not any(_partly(part, value, path)) for part in parts)
            if not least <= right <= most:
                yield Fault(
                    path,
                    "FieldValueInvalid",
                    f"Invalid value: {path} in body must validate {name} of the schemas, found {right} valid",
                )
    if schema.get("not") is not None and not any(_partly(schema["not"], value, path)):
        yield Fault(path, "FieldValueInvalid", f"Invalid value: {path} in body must not validate the schema (not)")


def _partly(part: Object, value: Any, path: str) -> Iterator[Fault]:
    """Schemas inside others do not repeat what is nullable."""
    yield from faults({"nullable": True} | part, value, path)


def _counted(schema: Object, count: int, path: str, what: str, unit: str) -> Iterator[Fault]:
    low, high = schema.get(f"min{what}"), schema.get(f"max{what}")
    if low is not None and count < low:
        yield Fault(path, "FieldValueInvalid", f"Invalid value: {path} in body should have at least {low} {unit}")
    if high is not None and count > high:
        yield Fault(path, "FieldValueTooLong", f"Too long: {path} in body should have at most {high} {unit}")


def _is(value: Any, wanted: str) -> bool:
    if not wanted:
        return True
    if isinstance(value, bool):
        return wanted == "boolean"
    if wanted == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES.get(wanted, (object,)))


def _named(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    return next((name for name, types in _TYPES.items() if isinstance(value, types)), type(value).__name__)


def _wrong_type(path: str, wanted: str, found: str) -> Fault:
    message = f'Invalid value: "{found}": {path} in body must be of type {wanted}: "{found}"'
    return Fault(path, "FieldValueTypeInvalid", message)


def _shown(value: Any) -> str:
    text = _encode(value).decode()
    return text if len(text) <= 120 else f"{text[:117]}..."


def _at(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


@lru_cache(maxsize=1024)
def pattern_of(text: str) -> re.Pattern[str] | None:
    """None if it cannot be read."""
    try:
        return re.compile(text.replace("[[:alpha:]]", "[A-Za-z]"))
    except re.error:
        return None


def _reads(convert: Any, *errors: type[Exception]) -> Any:
    def check(text: str) -> bool:
        try:
            convert(text)
        except errors:
            return False
        return True

    return check


_FORMATS: dict[str, Any] = {
    "date-time": _reads(datetime.fromisoformat, ValueError),
    "date": _reads(date.fromisoformat, ValueError),
    "ipv4": _reads(ipaddress.IPv4Address, ValueError),
    "ipv6": _reads(ipaddress.IPv6Address, ValueError),
    "cidr": _reads(lambda text: ipaddress.ip_network(text, strict=False), ValueError),
    "byte": _reads(lambda text: base64.b64decode(text, validate=True), binascii.Error, ValueError),
    "duration": re.compile(r"[+-]?(\d+(\.\d+)?(ns|us|µs|ms|s|m|h|d|w) ?)+|0").fullmatch,
    "uuid": re.compile(r"(?i)[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}").fullmatch,
}
"""Those that say something about the text; others say nothing here, as in Kubernetes."""
