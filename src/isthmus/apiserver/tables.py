"""Tables: the columns that `kubectl get` shows for each kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from isthmus.apiserver import columns, json_paths
from isthmus.apiserver.columns import Column
from isthmus.apiserver.kinds import Kind

_encode = msgspec.json.Encoder().encode

Object = dict[str, Any]


def table(
    kind: Kind, objects: Sequence[Object], version: str, *, head: bool, remaining: dict[str, Any] | None = None
) -> Object:
    """A Table with a row for each object. `head` says whether column definitions are wanted (a watch has them once)."""
    wanted = columns_of(kind)
    definitions = [
        {
            "name": name,
            "type": type_,
            "format": "name" if name == "Name" else "",
            "description": "",
            "priority": priority,
        }
        for name, type_, priority, _ in wanted
    ]
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {"resourceVersion": version} | (remaining or {}),
        "columnDefinitions": definitions if head else None,
        "rows": [
            {
                "cells": [value(obj) for _, _, _, value in wanted],
                "object": {
                    "kind": "PartialObjectMetadata",
                    "apiVersion": "meta.k8s.io/v1",
                    "metadata": obj["metadata"],
                },
            }
            for obj in objects
        ],
    }


def columns_of(kind: Kind) -> list[Column]:
    """Name first; all others as the kind says."""
    name: Column = ("Name", "string", 0, lambda obj: obj["metadata"]["name"])
    if kind.is_custom:
        custom = [_custom(*column) for column in kind.columns]
        return [name, *custom] if custom else [name, columns.AGE]
    return [name, *columns.OF_KIND.get(kind.name, (columns.AGE,))]


def _custom(name: str, type_: str, path: str, priority: int) -> Column:
    def value(obj: Object) -> Any:
        found = json_paths.find(path, obj)
        if not found:
            return None
        if type_ == "date":
            return columns.since(found[0]) if isinstance(found[0], str) else None
        if type_ == "string":
            return ",".join(each if isinstance(each, str) else _encode(each).decode() for each in found)
        return found[0]

    return (name, type_ if type_ != "date" else "string", priority, value)
