"""Findings as messages: what `isthmus analyze -o json` and other programs get."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from isthmus.assurance.catalogue.lookup import all_codes
from isthmus.model.issues import Issue, Subject

Object = dict[str, Any]


def origin_of(subject: Subject) -> str:
    """`KIND NAMESPACE/NAME`, as it was written."""
    place = f"{subject.namespace}/{subject.name}" if subject.namespace else subject.name
    return f"{subject.kind} {place}".strip()


def documentation_of(code: str) -> str:
    """Where the code is explained."""
    return f"docs/findings/{code}.md" if code in all_codes() else "docs/findings.md"


def message_of(issue: Issue, reference: Callable[[Issue], str]) -> Object:
    """`reference` says where the object was written (`FILE:LINE`), or nothing."""
    return {
        "code": issue.code,
        "level": issue.severity.name.title(),
        "origin": origin_of(issue.subject),
        "cluster": issue.subject.cluster,
        "path": issue.field,
        "message": issue.what,
        "fix": issue.fix,
        "reference": reference(issue),
        "documentation": documentation_of(issue.code),
    }
