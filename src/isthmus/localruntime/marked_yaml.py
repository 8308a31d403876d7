"""YAML that remembers where each value was written, so that a mistake can be shown with its line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

FieldPath = tuple[str, ...]


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One mistake in a file: where, what is wrong, and what to do."""

    file: str
    line: int
    field: str
    what: str
    fix: str

    def __str__(self) -> str:
        field = f" {self.field}:" if self.field else ""
        return f"{self.file}:{self.line}:{field} {self.what}; {self.fix}"


class BadInput(Exception):
    """A file that cannot be used: every mistake that was found in it."""

    def __init__(self, findings: list[Finding]) -> None:
        super().__init__("\n".join(map(str, findings)))
        self.findings = findings


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML document as plain values, with the line of each key and list entry."""

    value: Any
    lines: dict[FieldPath, int]

    def line(self, path: FieldPath) -> int:
        """Of the value itself, or of the nearest thing around it that was written."""
        while path not in self.lines:
            path = path[:-1]
        return self.lines[path]


class _Loader(yaml.SafeLoader):
    """Builds values from nodes that we walk ourselves."""


def read(path: Path, findings: list[Finding]) -> list[Document]:
    """Every document of a file. What cannot be read is added to `findings`."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        findings.append(Finding(str(path), 1, "", f"cannot be read: {error}", "name a readable text file"))
        return []
    try:
        nodes = list(yaml.compose_all(text, Loader=_Loader))
        return [_document(node, path, findings) for node in nodes if node is not None]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        findings.append(Finding(str(path), line, "", f"is not YAML: {error.problem or error}", "mend the syntax"))
        return []
    except yaml.YAMLError as error:
        findings.append(Finding(str(path), 1, "", f"is not YAML: {error}", "mend the syntax"))
        return []


def _document(node: yaml.Node, path: Path, findings: list[Finding]) -> Document:
    lines: dict[FieldPath, int] = {(): node.start_mark.line + 1}
    for key_path, key in _walk(node, (), lines):
        shown = ".".join(key_path)
        findings.append(Finding(str(path), key.start_mark.line + 1, shown, "is written twice", "keep one of the two"))
    return Document(_Loader("").construct_document(node), lines)


def _walk(node: yaml.Node, path: FieldPath, lines: dict[FieldPath, int]) -> Iterator[tuple[FieldPath, yaml.Node]]:
    """Fills `lines`; yields keys that are written twice."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = (*path, str(key.value))
            if inner in lines:
                yield inner, key
            lines[inner] = key.start_mark.line + 1
            # What is no text to YAML (no, 0x1f) is read as something that is written in another way.
            lines.setdefault((*path, str(_Loader("").construct_object(key, deep=True))), lines[inner])
            yield from _walk(value, inner, lines)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            inner = (*path, str(index))
            lines[inner] = value.start_mark.line + 1
            yield from _walk(value, inner, lines)
