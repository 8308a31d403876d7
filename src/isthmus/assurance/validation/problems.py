"""A problem: one thing that is wrong in one object, with the place in it."""

from __future__ import annotations

from typing import NamedTuple

from isthmus.assurance.catalogue.code import Code
from isthmus.model.issues import Severity


class Problem(NamedTuple):
    """`path` is as Kubernetes writes it (`spec.http[0].route[1].weight`), `$` for the whole object.

    `fix` is the code's own, unless there is something better to say.
    """

    code: Code
    path: str
    what: str
    better_fix: str = ""

    @property
    def is_error(self) -> bool:
        return self.code.severity is Severity.ERROR

    @property
    def fix(self) -> str:
        return self.better_fix or self.code.fix

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"


def inside(path: str, name: str) -> str:
    """The path of a field. The object itself, `$`, is named only where the problem is with all of it."""
    return name if path == "$" else f"{path}.{name}"


def entry(path: str, key: object) -> str:
    """The path of a mapping's entry, or of a list's."""
    return f"{path}[{key}]" if isinstance(key, int) else f"{path}['{key}']"
