"""Shapes of objects: unknown fields are told or refused and never stored, wrong types are refused, custom kinds get their defaults."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from isthmus.apiserver import builtin_schemas, rules, schemas, validation
from isthmus.apiserver.authors import STRICT, WARN, Author
from isthmus.apiserver.kinds import Kind
from isthmus.apiserver.schemas import Schema
from isthmus.apiserver.status import bad_request, invalid_fields

Object = dict[str, Any]

_OMITTED = ("annotations", "labels", "finalizers", "ownerReferences")
"""An empty one says nothing, and is not kept."""

_TEXTS = ("data", "binaryData", "stringData")
"""Of Secrets and ConfigMaps. Clients in Go write what they have no bytes for as null."""


_BYTES = {"ConfigMap": "binaryData", "Secret": "data"}
_BASE64 = re.compile("[A-Za-z0-9+/]*={0,2}")


def schema_of(kind: Kind) -> Schema:
    if kind.schema is not None:
        return kind.schema
    return builtin_schemas.schema_of(kind.group_version, kind.name)


def settle_configuration(kind: Kind, config: Object, author: Author) -> None:
    """A configuration that is applied: what it does not know must not be owned, and what it does not say stays unsaid. Raises Refused."""
    _drop_nulls(config)
    _tell(kind, list(schemas.prune(schema_of(kind), config)), author)


def settle(kind: Kind, obj: Object, author: Author) -> None:
    """Makes the object one of its kind. Raises Refused."""
    unknown: list[str] = []
    if kind.schema is not None:
        unknown = list(schemas.prune(kind.schema, obj))
        schemas.add_defaults(kind.schema, obj)
        _require(kind, obj["metadata"], builtin_schemas.metadata_shape())
    else:
        shape = builtin_schemas.shape_of(kind.group_version, kind.name)
        try:
            msgspec.convert(obj, shape)
        except msgspec.ValidationError:
            _empty_nulls(obj)
            unknown = list(schemas.prune(schema_of(kind), obj))
            _require(kind, obj, shape)
    _require_bytes(kind, obj)
    metadata = obj["metadata"]
    for name in _OMITTED:
        if name in metadata and not metadata[name]:
            del metadata[name]
    _tell(kind, unknown, author)


def check(kind: Kind, old: Object | None, new: Object) -> None:
    """Values of a custom object. A wrong one that was there before does not keep its object from being deleted. Raises Refused (Invalid)."""
    if kind.schema is None:
        return
    found = validation.first_faults(kind.schema.rules, new)
    if kind.rules is not None:
        found += rules.faults(kind.rules, new, old, found)
    if (
        found
        and old is not None
        and new["metadata"].get("deletionTimestamp")
        and _without_metadata(old) == _without_metadata(new)
    ):
        return
    if found:
        raise invalid_fields(kind, new["metadata"]["name"], found)


def _without_metadata(obj: Object) -> Object:
    return {key: value for key, value in obj.items() if key != "metadata"}


def _tell(kind: Kind, unknown: list[str], author: Author) -> None:
    told = [f'unknown field "{path}"' for path in unknown]
    if told and author.validation == STRICT:
        raise bad_request(f"{_subject(kind)}strict decoding error: {', '.join(told)}")
    if author.validation == WARN:
        for text in told:
            author.warn(text)


def _empty_nulls(obj: Object) -> None:
    for name in _TEXTS:
        if isinstance(texts := obj.get(name), dict):
            texts.update({key: "" for key, text in texts.items() if text is None})


def _drop_nulls(value: Any) -> None:
    if isinstance(value, dict):
        for key in [key for key, each in value.items() if each is None]:
            del value[key]
        for each in value.values():
            _drop_nulls(each)
    elif isinstance(value, list):
        for each in value:
            _drop_nulls(each)


def _require(kind: Kind, obj: Object, shape: Any) -> None:
    try:
        msgspec.convert(obj, shape)
    except msgspec.ValidationError as error:
        raise bad_request(f"{_subject(kind)}{error}") from None


def _require_bytes(kind: Kind, obj: Object) -> None:
    for text in (obj.get(_BYTES.get(kind.name, "")) or {}).values() if not kind.is_custom else ():
        if len(text) % 4 or not _BASE64.fullmatch(text):
            wrong = next((place for place, letter in enumerate(text) if not _BASE64.fullmatch(letter)), len(text))
            raise bad_request(f"{_subject(kind)}illegal base64 data at input byte {wrong}")


def _subject(kind: Kind) -> str:
    if kind.is_custom:
        return ""
    return f'{kind.name} in version "{kind.group_version}" cannot be handled as a {kind.name}: '
