"""Unix sockets that only their owner may open."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aiohttp import web


async def serve_privately(runner: web.AppRunner, path: Path) -> None:
    """Serves on a socket of mode 0600; one that is left from before is replaced. Raises OSError."""
    with made_privately(path):
        await web.UnixSite(runner, str(path)).start()


@contextmanager
def made_privately(path: Path) -> Iterator[None]:
    """A socket that is made meanwhile is its owner's alone; one that is left from before goes."""
    path.unlink(missing_ok=True)
    mask = os.umask(0o177)
    try:
        yield
    finally:
        os.umask(mask)
