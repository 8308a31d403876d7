"""A code: one kind of mistake, with its name, what comes of it and what to do. A user meets it in a finding and looks it up by its id."""

from __future__ import annotations

from isthmus.model.issues import Severity
from isthmus.model.values import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """`id` never changes its meaning. Istio's own ids (`IST…`) stand where Istio's message catalogue has the finding."""

    id: str
    severity: Severity
    title: str
    why: str
    fix: str


def error(id_: str, title: str, why: str, fix: str) -> Code:
    return Code(id=id_, severity=Severity.ERROR, title=title, why=why, fix=fix)


def warning(id_: str, title: str, why: str, fix: str) -> Code:
    return Code(id=id_, severity=Severity.WARNING, title=title, why=why, fix=fix)


def info(id_: str, title: str, why: str, fix: str) -> Code:
    return Code(id=id_, severity=Severity.INFO, title=title, why=why, fix=fix)
