"""Programs that run until the end of a block, and how one learns that they did not start."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path

from isthmus.kubernetes.errors import KubernetesError

START_SECONDS = 300.0
_PAUSE_SECONDS = 0.1
_STOP_SECONDS = 5.0


class DidNotStart(Exception):
    """Which program, and how its log ends."""


@contextlib.asynccontextmanager
async def running(
    command: list[str], log: Path, environment: Mapping[str, str] | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Asked to end afterwards, and made to if it does not."""
    with log.open("ab") as file:
        process = await asyncio.create_subprocess_exec(
            *command, stdout=file, stderr=file, stdin=asyncio.subprocess.DEVNULL, env=environment
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


async def until(holds: Callable[[], Awaitable[bool]], process: asyncio.subprocess.Process, log: Path) -> None:
    """Asked again and again; an API server that refuses or is not there is no answer. Raises DidNotStart."""
    try:
        async with asyncio.timeout(START_SECONDS):
            while True:
                with contextlib.suppress(KubernetesError):
                    if await holds():
                        return
                if process.returncode is not None:
                    raise DidNotStart(end_of(log))
                await asyncio.sleep(_PAUSE_SECONDS)
    except TimeoutError:
        raise DidNotStart(end_of(log)) from None


def end_of(log: Path) -> str:
    return f"{log} ends with:\n{log.read_text(errors='replace')[-3000:]}"
