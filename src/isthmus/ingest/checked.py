"""Values that an object says, as far as Envoy takes them: what is beyond is told, and as if it had not been said. Envoy refuses a whole upstream
or listener for one number, and nobody may do that to those who call a service.
"""

from __future__ import annotations

from typing import TypeVar

from isthmus.model.durations import seconds_of
from isthmus.model.issues import Issue, Severity, Subject

Number = TypeVar("Number", int, float)

WHOLE_MAX = 2**32 - 1
SECONDS_MAX = 2**31 - 1
_MILLISECOND = 0.001


class Checked:
    """Values of one object, and what is wrong with them. `code` is that of the issues."""

    def __init__(self, subject: Subject, code: str) -> None:
        self._subject = subject
        self._code = code
        self.issues: list[Issue] = []

    def whole(self, said: int | None, field: str, least: int = 0, most: int = WHOLE_MAX) -> int | None:
        return self._within(said, field, least, most)

    def number(self, said: float | None, field: str, least: float, most: float) -> float | None:
        return self._within(said, field, least, most)

    def seconds(self, text: str, field: str, least: float = 0.0) -> float | None:
        """Of a duration; None where none is said."""
        try:
            found = seconds_of(text) if text else None
        except ValueError as error:
            self.wrong(field, str(error))
            return None
        return self._within(found, field, least, SECONDS_MAX)

    def some_seconds(self, text: str, field: str) -> float | None:
        """Of a duration that may not be nothing."""
        return self.seconds(text, field, _MILLISECOND)

    def wrong(self, field: str, what: str) -> None:
        self.tell(Severity.ERROR, field, what, "correct it; until then the default holds")

    def tell(self, severity: Severity, field: str, what: str, fix: str) -> None:
        issue = Issue(subject=self._subject, code=self._code, severity=severity, what=what, fix=fix, field=field)
        self.issues.append(issue)

    def _within(self, said: Number | None, field: str, least: Number, most: Number) -> Number | None:
        if said is None or least <= said <= most:
            return said
        self.wrong(field, f"{said:.10g} is not between {least:.10g} and {most:.10g}")
        return None
