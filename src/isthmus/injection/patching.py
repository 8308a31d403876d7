"""From one JSON document to another: the JSON Patch (RFC 6902) that a webhook answers with. Lists that differ are replaced whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Operation = dict[str, Any]


def json_patch(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Operation]:
    """In a stable order. Equal documents need no operation."""
    return list(_differences(before, after, ""))


def _differences(before: Mapping[str, Any], after: Mapping[str, Any], path: str) -> Iterator[Operation]:
    for key in sorted({*before, *after}):
        here = f"{path}/{_escaped(key)}"
        if key not in after:
            yield {"op": "remove", "path": here}
        elif key not in before:
            yield {"op": "add", "path": here, "value": after[key]}
        elif isinstance(before[key], dict) and isinstance(after[key], dict):
            yield from _differences(before[key], after[key], here)
        elif before[key] != after[key]:
            yield {"op": "replace", "path": here, "value": after[key]}


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")
