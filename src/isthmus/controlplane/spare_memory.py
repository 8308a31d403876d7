"""What was made for many at once is forgotten when they have it; free memory is given back to the system when there is nothing else to do.

The C library keeps what has been freed below something that is still in use. After a storm, or after a large change that clients read slowly, that is
a third of the process.
"""

from __future__ import annotations

import asyncio
import ctypes
import time
from collections.abc import Callable

_LOOK_SECONDS = 10.0
_QUIET = 0.1
"""Of one core."""


def trimmer() -> Callable[[], object] | None:
    """Gives back what is free; None where the C library has no such call. It takes milliseconds, in which others wait that want memory."""
    found: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return None if found is None else lambda: found(0)


class Quiet:
    """Says when a process has become quiet that was busy."""

    def __init__(self) -> None:
        self._was_busy = False

    def begins(self, share: float) -> bool:
        """`share` of one core was used since the last call."""
        was_busy, self._was_busy = self._was_busy, share > _QUIET
        return was_busy and not self._was_busy


async def keep_small(forget: Callable[[], None]) -> None:
    """Has what nobody asks for forgotten, and gives back what is free when all is quiet. Until cancelled."""
    trim, quiet = trimmer(), Quiet()
    while True:
        used, began = time.process_time(), time.monotonic()
        await asyncio.sleep(_LOOK_SECONDS)
        forget()
        if quiet.begins((time.process_time() - used) / (time.monotonic() - began)) and trim is not None:
            await asyncio.to_thread(trim)
