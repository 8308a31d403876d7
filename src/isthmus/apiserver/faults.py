"""Faults of values, as a Status tells them: where, which reason, and in which words. Those of a Kubernetes API server, because clients show them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from isthmus.apiserver.validation import Fault

Faults = Iterator[Fault]

_encode = msgspec.json.Encoder(order="sorted").encode


def invalid(field: str, value: Any, why: Iterable[str]) -> Faults:
    for text in why:
        yield Fault(field, "FieldValueInvalid", f"Invalid value: {_encode(value).decode()}: {text}")


def required(field: str, why: str = "") -> Fault:
    return Fault(field, "FieldValueRequired", "Required value" + (f": {why}" if why else ""))


def forbidden(field: str, why: str) -> Fault:
    return Fault(field, "FieldValueForbidden", f"Forbidden: {why}")


def duplicate(field: str, value: Any) -> Fault:
    return Fault(field, "FieldValueDuplicate", f"Duplicate value: {_encode(value).decode()}")


def too_many(field: str, count: int, most: int) -> Faults:
    if count > most:
        yield Fault(field, "FieldValueTooMany", f"Too many: {count}: must have at most {most} items")


def too_long(field: str, most: int) -> Fault:
    return Fault(field, "FieldValueTooLong", f"Too long: may not be more than {most} bytes")


def one_of(field: str, value: Any, supported: Iterable[str]) -> Faults:
    """Nothing said is right here: who needs a value asks for it."""
    known = list(supported)
    if value is not None and value not in known:
        told = ", ".join(f'"{each}"' for each in known)
        text = f"Unsupported value: {_encode(value).decode()}: supported values: {told}"
        yield Fault(field, "FieldValueNotSupported", text)


def at_least(field: str, value: Any, least: int) -> Faults:
    if isinstance(value, int) and value < least:
        why = "must be greater than 0" if least == 1 else f"must be greater than or equal to {least}"
        yield from invalid(field, value, [why])
