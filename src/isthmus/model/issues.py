"""What is wrong with which object, and what to do about it.

A user's mistake is an Issue: never a log line alone, never an exception, never a reason to drop other objects.
"""

from __future__ import annotations

from dataclasses import field
from enum import IntEnum

from isthmus.model.names import ClusterId
from isthmus.model.values import dataclass


class Severity(IntEnum):
    INFO = 1
    WARNING = 2
    ERROR = 3


@dataclass(frozen=True, slots=True, order=True)
class Subject:
    """The object that an issue is about. A cluster-scoped one has an empty namespace."""

    cluster: ClusterId
    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        place = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return f"{self.kind} {place} in {self.cluster}" if self.cluster else f"{self.kind} {place}"


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class Issue:
    """One finding. `code` is stable (`ISM0101`), `field` is a path in the object (`spec.ports[0].name`) or empty."""

    subject: Subject
    code: str
    severity: Severity
    what: str
    fix: str
    field: str = field(default="")
