"""The file with the roots that control planes are checked against is somebody else's: its content may change at any time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

from isthmus.trust import x509

_LOOK_SECONDS = 1.0


async def follow_roots(file: Path, told: Callable[[str], None]) -> None:
    """`told` is called with what is in the file now, and with each other content; with PEM alone. Until cancelled."""
    known, before = (0, 0), ""
    while True:
        # A file that is being written is looked at again.
        with contextlib.suppress(OSError, ValueError):
            found = file.stat()
            if known != (found.st_mtime_ns, found.st_ino):
                text = file.read_text()
                x509.parse_certificates(text)
                if text != before:
                    told(text)
                known, before = (found.st_mtime_ns, found.st_ino), text
        await asyncio.sleep(_LOOK_SECONDS)
