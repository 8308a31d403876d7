"""What can go wrong between us and an API server.

KubernetesError
├── ApiUnavailable        no answer: connection refused, reset, timed out; retry
└── ApiError              an answer with a Status
    ├── NotFound  AlreadyExists  Conflict  Gone
    ├── Forbidden  Unauthorized  Invalid
    └── NotNow            it has too much to do, or does not serve the kind yet; retry
"""

from __future__ import annotations


class KubernetesError(Exception):
    """Base of all: says what was being done."""


class ApiUnavailable(KubernetesError):
    """The server did not answer."""


class ApiError(KubernetesError):
    """The server refused: `status` is the HTTP code, `reason` the Status object's reason."""

    def __init__(self, doing: str, status: int, reason: str, message: str) -> None:
        super().__init__(f"{doing}: {status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message


class NotFound(ApiError):
    pass


class AlreadyExists(ApiError):
    pass


class Conflict(ApiError):
    pass


class Gone(ApiError):
    """The resource version asked for is too old: list again."""


class Forbidden(ApiError):
    pass


class Unauthorized(ApiError):
    pass


class Invalid(ApiError):
    pass


class NotNow(ApiError):
    pass


_BY_STATUS: dict[int, type[ApiError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    422: Invalid,
    429: NotNow,
}


def error_for(doing: str, status: int, reason: str, message: str) -> ApiError:
    """The most specific error for an answer."""
    kind = AlreadyExists if reason == "AlreadyExists" else _BY_STATUS.get(status, ApiError)
    return kind(doing, status, reason, message)
