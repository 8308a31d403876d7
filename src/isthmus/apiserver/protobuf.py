"""Kubernetes protobuf request bodies, decoded to JSON objects.

Clients since 1.32 send typed kinds as protobuf and do not fall back to JSON. The envelope is `k8s\\0` and a runtime.Unknown; the messages are
described by a table of names, numbers and types that `tools/builtin_messages.py` writes. A body with a field that is not in the table is refused: to
leave it out would lose what somebody wrote.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.resources import files
from typing import Any

import msgspec

MAGIC = b"k8s\x00"
_ZEROS: tuple[object, ...] = ("", 0, False, None, {})
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DELETE_OPTIONS = "meta.k8s.io/v1 DeleteOptions"
"""Of whatever group what is deleted is."""


class BadProtobuf(ValueError):
    """A body that is not what it says it is."""


class UnknownField(BadProtobuf):
    """A field that is in no table."""


Decode = Callable[[int | bytes], Any]


@dataclass(frozen=True, slots=True)
class Field:
    """Without a name, its fields are those of the message around it. `stays`: its zero is not the same as its absence."""

    name: str
    decode: Decode
    stays: bool = False
    is_list: bool = False
    is_map: bool = False


Message = dict[int, Field]


class _Table(msgspec.Struct):
    kinds: dict[str, str]
    messages: dict[str, dict[str, tuple[str, str]]]
    """Number → (JSON name, type): `[type]` is a list, `{type}` a map of text to it, `type!` stays."""


def decode(body: bytes) -> dict[str, Any]:
    """A whole request body. Raises BadProtobuf, also for a kind that has no table."""
    if not body.startswith(MAGIC):
        raise BadProtobuf("the body does not start with the protobuf envelope of Kubernetes")
    api_version = kind = ""
    raw = b""
    for number, value in _fields(body[len(MAGIC) :]):
        if number == 1:
            head = _decoded(value, _HEAD)
            api_version, kind = head.get("apiVersion", ""), head.get("kind", "")
        elif number == 2:
            raw = _bytes(value)
    found = _DELETE_OPTIONS if kind == "DeleteOptions" else f"{api_version} {kind}"
    name = _table().kinds.get(found)
    if name is None:
        raise BadProtobuf(f"kind {kind!r} of {api_version!r} is not accepted as protobuf: send JSON")
    try:
        return {"kind": kind, "apiVersion": api_version} | _decoded(raw, _message(name))
    except UnknownField as unknown:
        raise BadProtobuf(f"{kind} has a field that is not accepted as protobuf ({unknown}): send JSON") from None
    except RecursionError:
        raise BadProtobuf(f"{kind} has too many messages inside each other") from None


@cache
def _table() -> _Table:
    text = files("isthmus.apiserver").joinpath("builtin_messages.json").read_bytes()
    return msgspec.json.decode(text, type=_Table)


@cache
def _message(name: str) -> Message:
    return {int(number): _field(field, how) for number, (field, how) in _table().messages[name].items()}


def _field(name: str, how: str) -> Field:
    plain = how.rstrip("!")
    is_list, is_map = plain[0] == "[", plain[0] == "{"
    type_ = plain[1:-1] if is_list or is_map else plain
    return Field(name, _DECODERS.get(type_) or _of_message(type_), how != plain, is_list, is_map)


def _of_message(name: str) -> Decode:
    """Its fields are looked up when it comes: a message may be inside itself."""
    return lambda value: _decoded(value, _message(name))


def _decoded(body: int | bytes, message: Message) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for number, value in _fields(_bytes(body)):
        field = message.get(number)
        if field is None:
            if value in (0, b""):
                continue  # What is not set, as some encoders write it.
            raise UnknownField(f"number {number}")
        if not field.name:
            out |= field.decode(value)
        elif field.is_list:
            out.setdefault(field.name, []).append(field.decode(value))
        elif field.is_map:
            key, item = _entry(value, field.decode)
            out.setdefault(field.name, {})[key] = item
        else:
            found = field.decode(value)
            if found is not None and (field.stays or found not in _ZEROS):
                out[field.name] = found
    return out


def _entry(value: int | bytes, decode_item: Decode) -> tuple[str, Any]:
    key, item = "", b""
    for number, part in _fields(_bytes(value)):
        if number == 1:
            key = _text(part)
        elif number == 2:
            item = _bytes(part)
    return key, decode_item(item)


def _fields(body: bytes) -> Iterator[tuple[int, int | bytes]]:
    position = 0
    while position < len(body):
        tag, position = _varint(body, position)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, position = _varint(body, position)
            yield number, value
        elif wire in (1, 5, 2):
            if wire == 2:
                length, position = _varint(body, position)
            else:
                length = 8 if wire == 1 else 4
            if position + length > len(body):
                raise BadProtobuf("the body is cut off")
            yield number, body[position : position + length]
            position += length
        else:
            raise BadProtobuf(f"unknown wire type {wire}")


def _varint(body: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if position >= len(body) or shift > 63:
            raise BadProtobuf("the body is cut off")
        byte = body[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


def _integer(value: int | bytes) -> int:
    if not isinstance(value, int):
        raise BadProtobuf("a number was expected")
    return value - (1 << 64) if value >= 1 << 63 else value


def _boolean(value: int | bytes) -> bool:
    return bool(_integer(value))


def _bytes(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise BadProtobuf("text or a message was expected")
    return value


def _text(value: int | bytes) -> str:
    try:
        return _bytes(value).decode()
    except UnicodeDecodeError:
        raise BadProtobuf("text is not UTF-8") from None


def _number(value: int | bytes) -> float:
    raw = _bytes(value)
    if len(raw) != 8:
        raise BadProtobuf("a floating-point number was expected")
    found: float = struct.unpack("<d", raw)[0]
    return found


def _moment(value: int | bytes) -> tuple[datetime, int] | None:
    """And its microseconds. Nothing for Go's zero time, which is written as nothing."""
    parts = _decoded(value, _TIME)
    if not parts:
        return None
    try:
        return _EPOCH + timedelta(seconds=parts.get("seconds", 0)), parts.get("nanos", 0) // 1000
    except OverflowError:
        raise BadProtobuf("a time is in no year that has four digits") from None


def _time(value: int | bytes) -> str | None:
    found = _moment(value)
    return found[0].strftime("%Y-%m-%dT%H:%M:%SZ") if found else None


def _micro_time(value: int | bytes) -> str | None:
    found = _moment(value)
    return found[0].strftime("%Y-%m-%dT%H:%M:%S") + f".{found[1]:06d}Z" if found else None


def _int_or_string(value: int | bytes) -> int | str:
    parts = _decoded(value, _INT_OR_STRING)
    return str(parts.get("text", "")) if parts.get("type") else int(parts.get("int", 0))


def _json(value: int | bytes) -> Any:
    raw = _decoded(value, _RAW).get("text", "")
    try:
        return msgspec.json.decode(raw) if raw else None
    except msgspec.DecodeError as error:
        raise BadProtobuf(f"JSON inside it cannot be read: {error}") from None


def _schema_or(other: Field, *, schema_is: int) -> Decode:
    """What is either a schema (the field of that number) or something else (the other one of fields 1 and 2)."""
    schema = Field("schema", _of_message("apiextensions/v1.JSONSchemaProps"), stays=True)
    message = {schema_is: schema, 3 - schema_is: other}

    def decode_it(value: int | bytes) -> Any:
        parts = _decoded(value, message)
        return parts.get("schema", parts.get(other.name))

    return decode_it


_HEAD: Message = {1: Field("apiVersion", _text), 2: Field("kind", _text)}
_TIME: Message = {1: Field("seconds", _integer, stays=True), 2: Field("nanos", _integer)}
_INT_OR_STRING: Message = {1: Field("type", _integer), 2: Field("int", _integer), 3: Field("text", _text)}
_RAW: Message = {1: Field("text", _text)}
_STRINGS: Message = {1: Field("items", _text, is_list=True)}
_DECODERS: dict[str, Decode] = {
    "string": _text,
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "bytes": lambda value: base64.b64encode(_bytes(value)).decode(),
    "quantity": lambda value: _decoded(value, _RAW).get("text", ""),
    "int-or-string": _int_or_string,
    "time": _time,
    "micro-time": _micro_time,
    "json": _json,
    "strings": lambda value: _decoded(value, _STRINGS).get("items", []),
    "schema-or-boolean": _schema_or(Field("allows", _boolean, stays=True), schema_is=2),
    "schema-or-list": _schema_or(
        Field("list", _of_message("apiextensions/v1.JSONSchemaProps"), is_list=True), schema_is=1
    ),
    "schema-or-strings": _schema_or(Field("list", _text, is_list=True), schema_is=1),
}
