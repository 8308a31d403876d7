"""What a document may look like: fields, types, enums, bounds and required parts, written as data.

A shape says nothing about meaning; `problems_of_shape` walks a document beside its shape and names each place where they part.
A null is an absent field, as it is for an API server.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import field
from decimal import Decimal
from typing import Any

from isthmus.assurance.catalogue import validation as codes
from isthmus.assurance.validation.problems import Problem, entry, inside
from isthmus.model.values import dataclass

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(h|ms|us|µs|ns|m|s)")
_NANOSECONDS = {"h": 3600 * 10**9, "m": 60 * 10**9, "s": 10**9, "ms": 10**6, "us": 1000, "µs": 1000, "ns": 1}
_MILLISECOND = 10**6


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
    is_open: bool = False
    """An open record may have other fields, too."""


ANY = Shape("any")
FLAG = Shape("flag")
PORT_OR_NAME = Shape("number or text")


def text(pattern: str = "", low: int | None = None, high: int | None = None) -> Shape:
    return Shape("text", pattern=pattern, low=low, high=high)


def whole(low: float | None = None, high: float | None = None) -> Shape:
    return Shape("whole", low=low, high=high)


def number(low: float | None = None, high: float | None = None) -> Shape:
    return Shape("number", low=low, high=high)


def duration(low: float | None = None) -> Shape:
    """With a lower bound it is one that Envoy counts: in whole milliseconds."""
    return Shape("duration", low=low)


def enum(*choices: str) -> Shape:
    return Shape("enum", choices=choices)


def many(item: Shape, low: int | None = None, high: int | None = None) -> Shape:
    return Shape("many", item=item, low=low, high=high)


def mapping(item: Shape, low: int | None = None, high: int | None = None) -> Shape:
    return Shape("mapping", item=item, low=low, high=high)


def record(fields: dict[str, Shape], required: tuple[str, ...] = (), one_of: tuple[tuple[str, ...], ...] = ()) -> Shape:
    return Shape("record", fields=fields, required=required, one_of=one_of)


def part(fields: dict[str, Shape], required: tuple[str, ...] = ()) -> Shape:
    """The part of a record that is read; the rest may be anything."""
    return Shape("record", fields=fields, required=required, is_open=True)


WORDS = many(text())
LABELS = mapping(text())
PORT = whole(0, 65535)


def nanoseconds(value: Any) -> int | None:
    """The length of a duration such as 1m30s or 0.5s; None when it is not one."""
    if not isinstance(value, str) or not value:
        return None
    if value in ("0", "-0"):
        return 0
    body = value.removeprefix("-")
    parts = list(_DURATION.finditer(body))
    if not parts or "".join(part.group(0) for part in parts) != body:
        return None
    total = sum(int(Decimal(part.group(1)) * _NANOSECONDS[part.group(2)]) for part in parts)
    return -total if value.startswith("-") else total


def seconds(value: Any) -> float | None:
    """The same in seconds."""
    length = nanoseconds(value)
    return None if length is None else length / 10**9


def problems_of_shape(shape: Shape, value: Any, path: str) -> Iterator[Problem]:
    """Each place where the value is not of the shape."""
    if value is None or shape.type == "any":
        return
    if shape.type == "record":
        yield from _of_record(shape, value, path)
    elif shape.type in ("many", "mapping"):
        yield from _of_collection(shape, value, path)
    else:
        yield from _of_scalar(shape, value, path)


def _of_record(shape: Shape, value: Any, path: str) -> Iterator[Problem]:
    if not isinstance(value, dict):
        yield Problem(codes.WRONG_TYPE, path, f"must be an object, is {_kind(value)}")
        return
    for name, inner in value.items():
        if name in shape.fields:
            yield from problems_of_shape(shape.fields[name], inner, inside(path, name))
        elif not shape.is_open:
            yield Problem(codes.UNKNOWN_FIELD, inside(path, name), "unknown field", _nearest(str(name), shape))
    for name in shape.required:
        if value.get(name) is None:
            yield Problem(codes.MISSING, inside(path, name), "is required")
    for group in shape.one_of:
        present = [name for name in group if value.get(name) is not None]
        if len(present) > 1:
            yield Problem(codes.EXCLUDE_EACH_OTHER, path, f"at most one of {', '.join(present)} may be set")


def _nearest(name: str, shape: Shape) -> str:
    """A fix that names the field that was likely meant."""
    from difflib import get_close_matches

    lowered = {known.lower(): known for known in shape.fields}
    found = get_close_matches(name.lower(), lowered, n=1, cutoff=0.75)
    if found:
        return f"write {lowered[found[0]]}"
    return f"there is: {', '.join(sorted(shape.fields))}" if len(shape.fields) <= 12 else ""


def _of_collection(shape: Shape, value: Any, path: str) -> Iterator[Problem]:
    wanted = list if shape.type == "many" else dict
    if not isinstance(value, wanted):
        yield Problem(
            codes.WRONG_TYPE, path, f"must be {'a list' if wanted is list else 'an object'}, is {_kind(value)}"
        )
        return
    yield from _bounds(shape, len(value), path, "entries")
    pairs = enumerate(value) if isinstance(value, list) else value.items()
    for key, inner in pairs:
        if inner is None:
            yield Problem(codes.NULL, entry(path, key), "must not be null")
        elif shape.item is not None:
            yield from problems_of_shape(shape.item, inner, entry(path, key))


def _of_scalar(shape: Shape, value: Any, path: str) -> Iterator[Problem]:
    if shape.type == "flag":
        if not isinstance(value, bool):
            yield Problem(codes.WRONG_TYPE, path, f"must be true or false, is {_kind(value)}")
    elif shape.type in ("whole", "number"):
        yield from _of_number(shape, value, path)
    elif shape.type == "number or text":
        if isinstance(value, bool) or not isinstance(value, int | str):
            yield Problem(codes.WRONG_TYPE, path, f"must be a number or a name, is {_kind(value)}")
    elif not isinstance(value, str):
        yield Problem(codes.WRONG_TYPE, path, f"must be a string, is {_kind(value)}", _quoted(value))
    elif shape.type == "enum":
        if value not in shape.choices:
            yield Problem(codes.UNKNOWN_VALUE, path, f"{value!r} is not one of {', '.join(shape.choices)}")
    elif shape.type == "duration":
        yield from _of_duration(shape, value, path)
    else:
        yield from _bounds(shape, len(value), path, "characters")
        if shape.pattern and not re.fullmatch(shape.pattern, value):
            yield Problem(codes.MALFORMED, path, f"{value!r} does not match {shape.pattern}")


def _of_number(shape: Shape, value: Any, path: str) -> Iterator[Problem]:
    if isinstance(value, bool) or not isinstance(value, int | float):
        yield Problem(codes.WRONG_TYPE, path, f"must be a number, is {_kind(value)}")
    elif value != value or value in (float("inf"), float("-inf")):
        yield Problem(codes.WRONG_TYPE, path, f"must be a number, is {value}")
    elif shape.type == "whole" and value != int(value):
        yield Problem(codes.WRONG_TYPE, path, f"must be a whole number, is {value}")
    else:
        yield from _bounds(shape, value, path, "")


def _of_duration(shape: Shape, value: str, path: str) -> Iterator[Problem]:
    length = nanoseconds(value)
    if length is None:
        yield Problem(codes.NOT_A_DURATION, path, f"{value!r} is not a duration such as 1.5s")
    elif shape.low is not None and length < shape.low * 10**9:
        yield Problem(codes.NOT_A_DURATION, path, f"{value} is shorter than {shape.low:g}s")
    elif shape.low and length % _MILLISECOND:
        yield Problem(codes.NOT_A_DURATION, path, f"{value} is finer than a millisecond")


def _bounds(shape: Shape, size: float, path: str, unit: str) -> Iterator[Problem]:
    what = f"{size} {unit}".strip()
    if shape.low is not None and size < shape.low:
        yield Problem(codes.OUT_OF_BOUNDS, path, f"{what} is less than {shape.low:g}")
    if shape.high is not None and size > shape.high:
        yield Problem(codes.OUT_OF_BOUNDS, path, f"{what} is more than {shape.high:g}")


def _kind(value: Any) -> str:
    names = {bool: "a boolean", str: "a string", list: "a list", dict: "an object", int: "a number", float: "a number"}
    return names.get(type(value), f"a {type(value).__name__}")


def _quoted(value: Any) -> str:
    """YAML reads 1 and true without quotes as a number and a boolean."""
    shown = str(value).lower() if isinstance(value, bool) else value
    return f'put it in quotes: "{shown}"' if isinstance(value, bool | int | float) else ""
