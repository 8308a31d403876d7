"""Files with objects: what keeps one from being applied, told before anything starts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from isthmus.localruntime.marked_yaml import Document, FieldPath, Finding, read


def manifest_findings(path: Path) -> Iterator[Finding]:
    """Mistakes that would make an object of the file impossible to apply."""
    findings: list[Finding] = []
    for document in read(path, findings):
        findings.extend(_object_findings(path, document))
    yield from findings


def _object_findings(path: Path, document: Document) -> Iterator[Finding]:
    def wrong(field: FieldPath, what: str, fix: str) -> Finding:
        return Finding(str(path), document.line(field), ".".join(field), what, fix)

    value = document.value
    entries: list[tuple[FieldPath, Any]] = [((), value)]
    if isinstance(value, dict) and value.get("kind") == "List":
        items = value.get("items")
        entries = [(("items", str(index)), item) for index, item in enumerate(items if isinstance(items, list) else [])]
    for where, obj in entries:
        if not isinstance(obj, dict):
            yield wrong(where, f"is {kind_of(obj)}, not an object", "write apiVersion, kind and metadata")
            continue
        for field in ("apiVersion", "kind"):
            if not isinstance(obj.get(field), str) or not obj[field]:
                yield wrong((*where, field), "is missing", "every object says its apiVersion and kind")
        metadata = obj.get("metadata")
        if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
            yield wrong((*where, "metadata", "name"), "is missing", "every object has a name, as a string")


def kind_of(value: Any) -> str:
    """What a value is, in words."""
    names = {
        dict: "an object",
        list: "a list",
        str: "a string",
        bool: "true or false",
        int: "a number",
        float: "a number",
    }
    return "empty" if value is None else names.get(type(value), type(value).__name__)
