"""Messages as proto3 JSON, as `google.protobuf.json_format` gives them, at a third of its time.

How a field is written depends on its descriptor alone, so that is decided once for each field. A law in tests/envoy/test_proto_json.py holds
both equal. What is rare is left to json_format itself. Entries of maps are sorted: their order in a message is chance. What is found is to be
read, not changed: parts that many messages have alike are one object in all of them.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from functools import lru_cache
from operator import itemgetter
from typing import Any

from google.protobuf import json_format, symbol_database

Convert = Callable[[Any], Any]

_WRAPPERS = frozenset(
    f"google.protobuf.{kind}Value"
    for kind in ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
)
_LEFT_TO_JSON_FORMAT = _WRAPPERS | frozenset(
    f"google.protobuf.{kind}" for kind in ("FieldMask", "ListValue", "Struct", "Timestamp", "Value", "Duration")
)
_ANY = "google.protobuf.Any"
_MOSTLY_EQUAL = frozenset(
    (
        "envoy.config.cluster.v3.CircuitBreakers",
        "envoy.config.cluster.v3.Cluster.CommonLbConfig",
        "envoy.config.cluster.v3.OutlierDetection",
        "envoy.config.cluster.v3.UpstreamConnectionOptions",
        "envoy.config.core.v3.ConfigSource",
        "envoy.config.route.v3.RetryPolicy",
        "envoy.config.route.v3.RouteAction.MaxStreamDuration",
        "envoy.config.route.v3.RouteMatch",
        "envoy.extensions.transport_sockets.tls.v3.SdsSecretConfig",
        "envoy.extensions.transport_sockets.tls.v3.TlsParameters",
    )
)
"""Messages that thousands of resources have alike: each is converted once."""
_SMALL = 64
"""In bytes; so small an Any is one that others have, too."""
_FIELDS: dict[Any, tuple[str, Convert | None]] = {}
_DURATIONS: dict[tuple[int, int], Any] = {}


def to_json(message: Any) -> Any:
    """The message as what `json.dumps` takes. Messages inside an Any are written out; KeyError for one of an unknown type."""
    found = {}
    for field, value in message.ListFields():
        known = _FIELDS.get(field)
        if known is None:
            known = _FIELDS[field] = (field.json_name, _converter(field))
        name, convert = known
        found[name] = value if convert is None else convert(value)
    return found


def _converter(field: Any) -> Convert | None:
    """None where the value can stay as it is."""
    if field.message_type and field.message_type.GetOptions().map_entry:
        return _map(field)
    one = _of_one(field)
    if not field.is_repeated:
        return one
    if one is None:
        return list
    return lambda values: [one(value) for value in values]


def _map(field: Any) -> Convert:
    entry = field.message_type.fields_by_name
    one = _of_one(entry["value"]) or (lambda value: value)
    if entry["key"].cpp_type == field.CPPTYPE_BOOL:
        return lambda values: {"true" if key else "false": one(values[key]) for key in sorted(values)}
    return lambda values: {str(key): one(values[key]) for key in sorted(values)}


def _of_one(field: Any) -> Convert | None:
    kind = field.cpp_type
    if kind == field.CPPTYPE_MESSAGE:
        return _of_message(field.message_type.full_name)
    if kind == field.CPPTYPE_ENUM:
        return _enum(field.enum_type)
    if kind in (field.CPPTYPE_INT64, field.CPPTYPE_UINT64):
        return str
    if field.type == field.TYPE_BYTES:
        return lambda value: base64.b64encode(value).decode()
    if kind in (field.CPPTYPE_FLOAT, field.CPPTYPE_DOUBLE):
        return _number(field)
    return None


def _of_message(full_name: str) -> Convert:
    if full_name == _ANY:
        return _any
    if full_name == "google.protobuf.Duration":
        return _duration
    if full_name == "google.protobuf.Struct":
        return _struct
    if full_name == "google.protobuf.Value":
        return _value
    if full_name in ("google.protobuf.UInt32Value", "google.protobuf.BoolValue", "google.protobuf.StringValue"):
        return lambda message: message.value
    if full_name in _LEFT_TO_JSON_FORMAT:
        return json_format.MessageToDict
    if full_name in _MOSTLY_EQUAL:
        return lambda message: _remembered(full_name, message.SerializeToString(deterministic=True))
    return to_json


@lru_cache(maxsize=1024)
def _remembered(full_name: str, encoded: bytes) -> Any:
    return to_json(symbol_database.Default().GetSymbol(full_name).FromString(encoded))


def _any(message: Any) -> Any:
    if not message.type_url:
        return {}
    return (_unpacked_once if len(message.value) <= _SMALL else _unpacked)(message.type_url, message.value)


def _unpacked(type_url: str, encoded: bytes) -> Any:
    full_name = type_url.rpartition("/")[2]
    inner = symbol_database.Default().GetSymbol(full_name).FromString(encoded)
    written = _of_message(full_name)(inner)
    if written is None or full_name in _LEFT_TO_JSON_FORMAT:
        return {"@type": type_url, "value": written}
    return {"@type": type_url, **written}


_unpacked_once = lru_cache(maxsize=1024)(_unpacked)


def _duration(message: Any) -> Any:
    key = (message.seconds, message.nanos)
    if key not in _DURATIONS:
        _DURATIONS[key] = json_format.MessageToDict(message)
    return _DURATIONS[key]


def _struct(message: Any) -> Any:
    return {key: _value(value) for key, value in sorted(message.fields.items(), key=_key)}


_key = itemgetter(0)


def _value(message: Any) -> Any:
    match message.WhichOneof("kind"):
        case "string_value":
            return message.string_value
        case "struct_value":
            return _struct(message.struct_value)
        case "list_value":
            return [_value(each) for each in message.list_value.values]
    return json_format.MessageToDict(message)


def _enum(kind: Any) -> Convert:
    if kind.full_name == "google.protobuf.NullValue":
        return lambda value: None
    names = {number: value.name for number, value in kind.values_by_number.items()}
    return lambda number: names.get(number, number)


def _number(field: Any) -> Convert:
    """Left to json_format: infinities and the shortest text of a 32-bit number have rules of their own."""
    printer = json_format._Printer()  # type: ignore[attr-defined]
    return lambda value: printer._FieldToJsonObject(field, value)
