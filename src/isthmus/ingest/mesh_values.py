"""Values of MeshConfig, read as Istio reads them: a number in quotes is a number, as its own examples have it."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from isthmus.api.registry import why_not

T = TypeVar("T")


def read_as(type_: type[T], raw: object) -> T:
    """Raises ValueError, which names the place in it."""
    try:
        return msgspec.convert(raw, type=type_, strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(why_not(error)) from None
