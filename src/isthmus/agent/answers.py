"""What it means that a control plane does not answer, and how loudly that is said.

Whoever starts first waits for the others, which is nothing to warn of: the first answer is waited for silently for some seconds. After that, and once
there has been an answer, each attempt in vain is a warning.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

import grpc
import grpc.aio
import structlog

NOBODY_ANSWERED = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
SILENT_SECONDS = 15.0

log = structlog.get_logger()


class FirstAnswer:
    """Of one thing that is asked for again and again, such as a certificate."""

    def __init__(self, what: str, clock: Callable[[], float] = monotonic) -> None:
        self._what = what
        self._clock = clock
        self._asked_at: float | None = None
        self._has_come = False

    def came(self) -> None:
        """From now on nobody is starting any more."""
        self._has_come = True

    def missing(self, error: Exception, **facts: str) -> None:
        """Says so, once there is reason to."""
        if self._has_come or not nobody_answered(error):
            log.warning(f"no {self._what}", error=explained(error), **facts)
            return
        if self._asked_at is None:
            self._asked_at = self._clock()
        waited = self._clock() - self._asked_at
        if waited >= SILENT_SECONDS:
            said = f"no {self._what}: no control plane has answered yet"
            log.warning(said, seconds=round(waited), error=explained(error), **facts)


def nobody_answered(error: Exception) -> bool:
    """Rather than that somebody refused."""
    return isinstance(error, grpc.aio.AioRpcError) and error.code() in NOBODY_ANSWERED


def explained(error: Exception) -> str:
    """In one line: of a call what its other side says."""
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name}: {error.details()}"
    return str(error)
