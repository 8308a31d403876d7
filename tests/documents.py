"""Objects as people write them, decoded as an API server's are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from isthmus.api.registry import decode, kind_of

Objects = dict[str, dict[tuple[str, str], object]]


def decoded(objects: Iterable[Mapping[str, Any]]) -> Objects:
    """By kind, then by namespace and name."""
    found: Objects = {}
    for each in objects:
        kind, metadata = kind_of(each["apiVersion"], each["kind"]), each["metadata"]
        assert kind, f"{each['apiVersion']} {each['kind']} is read"
        found.setdefault(kind.key, {})[metadata.get("namespace", ""), metadata["name"]] = decode(kind, dict(each))
    return found
