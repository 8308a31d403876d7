"""Every certificate that is issued or refused, as one line of JSON in a file: who asked, how that was proved, for whom, and what became of it.

Never a key, a token or a request. The file is its owner's alone. One that is moved away is begun anew, so that it can be rotated; one
that cannot be written costs the line, not the certificate, and is said in the log.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec
import structlog

log = structlog.get_logger()


class IssuanceLog:
    """Appends to the file; without a path nothing is written."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __call__(self, line: Mapping[str, object]) -> None:
        """One matter, with the moment at which it is written."""
        if not self._path:
            return
        body = msgspec.json.encode({"at": datetime.now(UTC).isoformat(timespec="milliseconds"), **line}) + b"\n"
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.write(descriptor, body)
            finally:
                os.close(descriptor)
        except OSError as error:
            log.error("issuance not written down", path=self._path, error=str(error))
