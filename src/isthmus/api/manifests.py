"""Manifests: what people write, YAML or JSON, as plain values that know the line on which they stand.

Values are what an API server would be sent: text keys are not enforced, but timestamps stay text, and there are no sexagesimal numbers.
Lines of single fields are looked up only when somebody asks, so that reading ten thousand objects stays fast.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import yaml

from isthmus.model.values import dataclass

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DEPTH_MAX = 100
# An alias stands for a whole value; a few of them within each other make a document of billions.
_VALUES_MAX = 5_000_000
_DOCUMENT = re.compile(r"^---(?=\s|$)", re.MULTILINE)
_STEP = re.compile(r"\.?([^.\[\]]+)|\[(\d+)\]|\['((?:[^'\\]|\\.)*)'\]")
_NULLS = {"", "~", "null", "Null", "NULL"}
_BOOLEANS = {
    word: word.lower() in ("true", "yes", "on")
    for name in ("true", "false", "yes", "no", "on", "off")
    for word in (name, name.title(), name.upper())
}
_MAYBE_NUMBER = frozenset("0123456789+-.")
_WHOLE = re.compile(r"[-+]?[0-9][0-9_]*")
_OTHER_BASE = re.compile(r"[-+]?0(x[0-9a-fA-F_]+|o[0-7_]+|b[01_]+)")
_REAL = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL = {
    ".inf": float("inf"),
    "+.inf": float("inf"),
    "-.inf": float("-inf"),
    ".nan": float("nan"),
}


FieldPath = tuple[str | int, ...]


class BadManifest(ValueError):
    """A text that cannot be read: on which line, and why."""

    def __init__(self, line: int, why: str) -> None:
        super().__init__(why)
        self.line = line


@dataclass(frozen=True, slots=True)
class Manifest:
    """One object. `prefix` leads to it within its document: an object may be an item of a List."""

    value: Any
    line: int
    document: str
    offset: int
    prefix: FieldPath = ()

    def line_of(self, path: str) -> int:
        """Of a field by its path (`spec.http[0]`), or of the nearest thing around it that was written."""
        keys: FieldPath = (*self.prefix, *_keys(path))
        try:
            lines = _lines(self.document)
        except yaml.YAMLError:
            return self.line
        while keys and keys not in lines:
            keys = keys[:-1]
        return lines[keys] + self.offset if keys else self.line


def manifests_of(text: str) -> list[Manifest]:
    """Every object of every document; those of Lists one by one. Raises BadManifest."""
    found: list[Manifest] = []
    for document, offset in _documents(text):
        builder = _built(document, offset)
        value = builder.value
        if value is None:
            continue
        items = value.get("items") if isinstance(value, dict) else None
        if isinstance(items, list) and str(value.get("kind", "")).endswith("List"):
            found += [
                Manifest(item, line + offset, document, offset, ("items", index))
                for index, (item, line) in enumerate(zip(items, builder.item_lines, strict=True))
            ]
        else:
            found.append(Manifest(value, builder.line + offset, document, offset))
    return found


def _built(document: str, offset: int) -> _Builder:
    """JSON is YAML, but for a few escapes of characters; where it is not, its lines are not known."""
    try:
        return _Builder(yaml.parse(document, Loader=_LOADER), document, offset)
    except BadManifest:
        if not document.lstrip().startswith("{"):
            raise
        try:
            plain = json.dumps(json.loads(document), ensure_ascii=False)
        except json.JSONDecodeError as error:
            raise BadManifest(error.lineno + offset, f"is neither JSON ({error.msg}) nor YAML") from None
        except RecursionError:
            raise BadManifest(1 + offset, "is nested too deep") from None
        return _Builder(yaml.parse(plain, Loader=_LOADER), plain, offset)


def _documents(text: str) -> Iterator[tuple[str, int]]:
    """Each document, with the number of lines before it. `---` at the start of a line always begins one (YAML 1.2, 9.1.2)."""
    start, lines = 0, 0
    for mark in _DOCUMENT.finditer(text):
        if mark.start() > start:
            part = text[start : mark.start()]
            yield part, lines
            lines += part.count("\n")
        start = mark.start()
    yield text[start:], lines


class _Builder:
    """Builds the value of one document from its events."""

    def __init__(self, events: Iterator[Any], document: str, offset: int) -> None:
        self._offset = offset
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._count = 0
        self.line = 1
        self.item_lines: list[int] = []
        try:
            self._events = events
            self.value = self._root()
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            # The end of a text counts as a line of its own.
            line = min(mark.line + 1, len(document.splitlines())) if mark else 1
            raise BadManifest(line + offset, f"is not YAML: {error.problem or error}") from None
        except yaml.YAMLError as error:
            raise BadManifest(1 + offset, f"is not YAML: {' '.join(str(error).split())}") from None

    def _root(self) -> Any:
        value = None
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                first = next(self._events)
                self.line = first.start_mark.line + 1
                value = self._build(first, 0, "")
        return value

    def _build(self, event: Any, depth: int, key: Any) -> Any:
        """The value that begins with this event; `key` is the one that it has in the document's own mapping."""
        self._count += 1
        kind = type(event)
        if kind is yaml.ScalarEvent:
            value = _scalar(event)
            if event.anchor:
                self._anchors[event.anchor] = (value, 1)
            return value
        if kind is yaml.AliasEvent:
            return self._aliased(event)
        if depth >= _DEPTH_MAX:
            raise BadManifest(event.start_mark.line + 1 + self._offset, f"is nested more than {_DEPTH_MAX} levels deep")
        before = self._count
        value = self._mapping(depth) if kind is yaml.MappingStartEvent else self._sequence(depth, key)
        if event.anchor:
            self._anchors[event.anchor] = (value, self._count - before + 1)
        return value

    def _mapping(self, depth: int) -> dict[Any, Any]:
        value: dict[Any, Any] = {}
        merged: list[Any] = []
        while type(event := next(self._events)) is not yaml.MappingEndEvent:
            key = self._build(event, depth + 1, "")
            line = event.start_mark.line + 1 + self._offset
            inner = self._build(next(self._events), depth + 1, key if depth == 0 else "")
            if isinstance(key, dict | list):
                raise BadManifest(line, "a key is a list or a mapping")
            if key == "<<" and event.implicit[0]:
                merged += inner if isinstance(inner, list) else [inner]
            elif key in value:
                raise BadManifest(line, f"{key} is written twice; keep one of the two")
            else:
                value[key] = inner
        for each in merged:
            value = (each if isinstance(each, dict) else {}) | value
        return value

    def _sequence(self, depth: int, key: Any) -> list[Any]:
        value: list[Any] = []
        while type(event := next(self._events)) is not yaml.SequenceEndEvent:
            if depth == 1 and key == "items":
                self.item_lines.append(event.start_mark.line + 1)
            value.append(self._build(event, depth + 1, ""))
        return value

    def _aliased(self, event: Any) -> Any:
        line = event.start_mark.line + 1 + self._offset
        if event.anchor not in self._anchors:
            raise BadManifest(line, f"there is no anchor {event.anchor}")
        value, size = self._anchors[event.anchor]
        self._count += size
        if self._count > _VALUES_MAX:
            raise BadManifest(line, f"aliases make this a document of more than {_VALUES_MAX} values")
        return value


def _scalar(event: Any) -> Any:
    text: str = event.value
    if event.tag is not None and event.tag != "!":
        return _tagged(event.tag, text)
    if not event.implicit[0]:
        return text
    if text in _NULLS:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    return _number(text) if text[0] in _MAYBE_NUMBER else text


def _tagged(tag: str, text: str) -> Any:
    if tag == "tag:yaml.org,2002:int" or tag == "tag:yaml.org,2002:float":
        return _number(text)
    if tag == "tag:yaml.org,2002:bool":
        return _BOOLEANS.get(text, text)
    return None if tag == "tag:yaml.org,2002:null" else text


def _number(text: str) -> Any:
    if _WHOLE.fullmatch(text):
        digits = text.replace("_", "")
        # A number of thousands of digits is none that anybody reads, and slow to make.
        return int(digits) if len(digits) < 100 else text
    if _OTHER_BASE.fullmatch(text):
        return int(text.replace("_", ""), 0)
    if _REAL.fullmatch(text):
        return float(text)
    return _SPECIAL.get(text.lower(), text)


@lru_cache(maxsize=4)
def _lines(document: str) -> dict[FieldPath, int]:
    """The line of every field of one document, by its keys. Aliases are looked into once, so that they do not multiply."""
    found: dict[FieldPath, int] = {}
    root = yaml.compose(document, Loader=_LOADER)
    todo: list[tuple[yaml.Node, FieldPath]] = [(root, ())] if root is not None else []
    seen: set[int] = set()
    while todo:
        node, path = todo.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                inner: FieldPath = (*path, str(key.value))
                found[inner] = key.start_mark.line + 1
                todo.append((value, inner))
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                found[(*path, index)] = value.start_mark.line + 1
                todo.append((value, (*path, index)))
    return found


def _keys(path: str) -> FieldPath:
    return tuple(
        int(index) if index else name or quoted for name, index, quoted in _STEP.findall(path.removeprefix("$"))
    )
