"""Refusals, as the Kubernetes API words them: every error that a client sees is one of these."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from isthmus.apiserver.kinds import Kind


class Refused(Exception):
    """An error answer: a Status object with code, reason, message and details."""

    def __init__(self, code: int, reason: str, message: str, details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details

    @property
    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        }
        if self.details is not None:
            status["details"] = self.details
        return status


def _details(kind: Kind, name: str) -> dict[str, Any]:
    return (
        {"name": name, "group": kind.group, "kind": kind.plural} if kind.group else {"name": name, "kind": kind.plural}
    )


def _kind(kind: Kind) -> str:
    return f"{kind.name}.{kind.group}" if kind.group else kind.name


def not_found(kind: Kind, name: str) -> Refused:
    return Refused(404, "NotFound", f'{kind.qualified} "{name}" not found', _details(kind, name))


def no_such_path() -> Refused:
    """Clients in Go look into the details of every NotFound, and end where there are none."""
    return Refused(404, "NotFound", "the server could not find the requested resource", {})


def already_exists(kind: Kind, name: str) -> Refused:
    return Refused(409, "AlreadyExists", f'{kind.qualified} "{name}" already exists', _details(kind, name))


def conflict(kind: Kind, name: str, why: str = "") -> Refused:
    why = why or "the object has been modified; please apply your changes to the latest version and try again"
    return Refused(
        409, "Conflict", f'Operation cannot be fulfilled on {kind.qualified} "{name}": {why}', _details(kind, name)
    )


def invalid(kind: Kind, name: str, field: str, message: str, reason: str = "FieldValueInvalid") -> Refused:
    details = _details(kind, name) | {"causes": [{"reason": reason, "message": message, "field": field}]}
    details["kind"] = kind.name
    return Refused(422, "Invalid", f'{_kind(kind)} "{name}" is invalid: {field}: {message}', details)


def invalid_fields(kind: Kind, name: str, faults: Sequence[tuple[str, str, str]]) -> Refused:
    """Several at once: (field, reason, message) each."""
    causes = [{"reason": reason, "message": message, "field": field} for field, reason, message in faults]
    details = _details(kind, name) | {"kind": kind.name, "causes": causes}
    told = [f"{field}: {message}" for field, _, message in faults]
    text = told[0] if len(told) == 1 else f"[{', '.join(told)}]"
    return Refused(422, "Invalid", f'{_kind(kind)} "{name}" is invalid: {text}', details)


def bad_request(message: str) -> Refused:
    return Refused(400, "BadRequest", message)


def unsupported_media_type(message: str) -> Refused:
    return Refused(415, "UnsupportedMediaType", message)


def method_not_allowed() -> Refused:
    return Refused(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")


def internal_error(message: str) -> Refused:
    return Refused(500, "InternalError", message)


def too_many_requests() -> Refused:
    return Refused(
        429, "TooManyRequests", "the server has received too many requests and has asked us to try again later"
    )


def unauthorized() -> Refused:
    return Refused(401, "Unauthorized", "Unauthorized")


def expired(wanted: int, oldest: int) -> Refused:
    return Refused(410, "Expired", f"too old resource version: {wanted} ({oldest})")


def unprocessable(message: str) -> Refused:
    return Refused(422, "Invalid", message)


def too_large_version(wanted: int, newest: int) -> Refused:
    """A version that has not been: a client of another life of the server, which lists anew when it is told so."""
    causes = [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]
    message = f"Timeout: Too large resource version: {wanted}, current: {newest}"
    return Refused(504, "Timeout", message, {"causes": causes, "retryAfterSeconds": 1})
