"""What a document may look like: fields, types, enums, bounds and required parts, written as data.

A shape says nothing about meaning; `findings` walks a document beside its shape and names each place where they part.
A null is an absent field, as it is for an API server.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

_DURATION = re.compile(r"-?([0-9]+(\.[0-9]*)?|\.[0-9]+)(h|ms|us|µs|ns|m|s)")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}


@dataclass(frozen=True, slots=True)
class Shape:
    """One node. `type` decides which of the other fields count."""

    type: str
    fields: dict[str, Shape] = field(default_factory=dict)
    item: Shape | None = None
    choices: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    one_of: tuple[tuple[str, ...], ...] = ()
    low: float | None = None
    high: float | None = None
    pattern: str = ""


ANY = Shape("any")
FLAG = Shape("flag")


def text(pattern: str = "", low: int | None = None, high: int | None = None) -> Shape:
    return Shape("text", pattern=pattern, low=low, high=high)


def whole(low: float | None = None, high: float | None = None) -> Shape:
    return Shape("whole", low=low, high=high)


def number(low: float | None = None, high: float | None = None) -> Shape:
    return Shape("number", low=low, high=high)


def duration(low: float | None = None) -> Shape:
    return Shape("duration", low=low)


def enum(*choices: str) -> Shape:
    return Shape("enum", choices=choices)


def many(item: Shape, low: int | None = None, high: int | None = None) -> Shape:
    return Shape("many", item=item, low=low, high=high)


def mapping(item: Shape, low: int | None = None, high: int | None = None) -> Shape:
    return Shape("mapping", item=item, low=low, high=high)


def record(fields: dict[str, Shape], required: tuple[str, ...] = (), one_of: tuple[tuple[str, ...], ...] = ()) -> Shape:
    return Shape("record", fields=fields, required=required, one_of=one_of)


WORDS = many(text())
LABELS = mapping(text())
PORT = whole(0, 65535)


def seconds(value: Any) -> float | None:
    """The length of a duration such as 1m30s or 0.5s; None when it is not one."""
    if not isinstance(value, str) or not value:
        return None
    if value in ("0", "-0"):
        return 0.0
    body = value.lstrip("-")
    parts = list(_DURATION.finditer(body))
    if "".join(part.group(0) for part in parts) != body:
        return None
    total = sum(float(part.group(1)) * _SECONDS[part.group(3)] for part in parts)
    return -total if value.startswith("-") else total


def findings(shape: Shape, value: Any, path: str) -> Iterator[str]:
    """Each place where the value is not of the shape."""
    if value is None or shape.type == "any":
        return
    if shape.type == "record":
        yield from _of_record(shape, value, path)
    elif shape.type in ("many", "mapping"):
        yield from _of_collection(shape, value, path)
    else:
        yield from _of_scalar(shape, value, path)


def _of_record(shape: Shape, value: Any, path: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{path}: must be an object, is {_kind(value)}"
        return
    for name, inner in value.items():
        if name in shape.fields:
            yield from findings(shape.fields[name], inner, f"{path}.{name}")
        else:
            yield f"{path}.{name}: unknown field"
    for name in shape.required:
        if value.get(name) is None:
            yield f"{path}.{name}: is required"
    for group in shape.one_of:
        present = [name for name in group if value.get(name) is not None]
        if len(present) > 1:
            yield f"{path}: at most one of {', '.join(present)} may be set"


def _of_collection(shape: Shape, value: Any, path: str) -> Iterator[str]:
    wanted = list if shape.type == "many" else dict
    if not isinstance(value, wanted):
        yield f"{path}: must be {'a list' if wanted is list else 'an object'}, is {_kind(value)}"
        return
    yield from _bounds(shape, len(value), path, "entries")
    pairs = enumerate(value) if isinstance(value, list) else value.items()
    for key, inner in pairs:
        where = f"{path}[{key}]"
        if inner is None:
            yield f"{where}: must not be null"
        elif shape.item is not None:
            yield from findings(shape.item, inner, where)


def _of_scalar(shape: Shape, value: Any, path: str) -> Iterator[str]:
    if shape.type == "flag":
        if not isinstance(value, bool):
            yield f"{path}: must be true or false, is {_kind(value)}"
    elif shape.type in ("whole", "number"):
        if isinstance(value, bool) or not isinstance(value, int | float):
            yield f"{path}: must be a number, is {_kind(value)}"
        elif shape.type == "whole" and value != int(value):
            yield f"{path}: must be a whole number, is {value}"
        else:
            yield from _bounds(shape, value, path, "")
    elif not isinstance(value, str):
        yield f"{path}: must be a string, is {_kind(value)}"
    elif shape.type == "enum":
        if value not in shape.choices:
            yield f"{path}: {value!r} is not one of {', '.join(shape.choices)}"
    elif shape.type == "duration":
        length = seconds(value)
        if length is None:
            yield f"{path}: {value!r} is not a duration such as 1.5s"
        elif shape.low is not None and length < shape.low:
            yield f"{path}: {value} is shorter than {shape.low}s"
    else:
        yield from _bounds(shape, len(value), path, "characters")
        if shape.pattern and not re.fullmatch(shape.pattern, value):
            yield f"{path}: {value!r} does not match {shape.pattern}"


def _bounds(shape: Shape, size: float, path: str, unit: str) -> Iterator[str]:
    what = f"{size} {unit}".strip()
    if shape.low is not None and size < shape.low:
        yield f"{path}: {what} is less than {shape.low:g}"
    if shape.high is not None and size > shape.high:
        yield f"{path}: {what} is more than {shape.high:g}"


def _kind(value: Any) -> str:
    names = {bool: "a boolean", str: "a string", list: "a list", dict: "an object"}
    return names.get(type(value), "a number")
