"""Unix sockets that only their owner may open."""

from __future__ import annotations

import os
from pathlib import Path

from aiohttp import web


async def serve_privately(runner: web.AppRunner, path: Path) -> None:
    """Serves on a socket of mode 0600; one that is left from before is replaced. Raises OSError."""
    path.unlink(missing_ok=True)
    mask = os.umask(0o177)
    try:
        await web.UnixSite(runner, str(path)).start()
    finally:
        os.umask(mask)
