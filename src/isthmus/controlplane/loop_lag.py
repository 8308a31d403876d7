"""How long the event loop is kept from its work, and by what.

Everything runs on one thread: whatever takes long there delays everybody. Python's search for garbage is the one thing that no code of ours begins,
so it is measured by itself.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from time import monotonic
from typing import Any

import structlog
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from isthmus.controlplane.durations import Durations

_LOOK_SECONDS = 0.1
_LONG_SECONDS = 0.2
_STARTING_SECONDS = 30.0
"""Who starts reads and computes everything once, and no proxy waits yet: standing still is nothing to warn of."""
_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)

log = structlog.get_logger()


class LoopLag(Collector):
    """Measures while `run` runs. Ten times a second it asks for its turn, and sees how late that comes."""

    def __init__(self) -> None:
        self._lag = Durations(
            "isthmus_loop_lag_seconds", "How late the event loop came to something that was due.", _BUCKETS
        )
        self._garbage = Durations(
            "isthmus_garbage_seconds", "What searches for garbage took, while all else waited.", _BUCKETS
        )
        self._began = 0.0
        self._searched = 0.0
        """Seconds since the last turn."""

    def collect(self) -> Iterator[Metric]:
        yield self._lag.metric
        yield self._garbage.metric

    async def run(self) -> None:
        """Until cancelled."""
        gc.callbacks.append(self._searches)
        started = monotonic()
        try:
            while True:
                due, self._searched = monotonic() + _LOOK_SECONDS, 0.0
                await asyncio.sleep(_LOOK_SECONDS)
                late = max(0.0, monotonic() - due)
                self._lag.took(late)
                if late > _LONG_SECONDS:
                    say = log.info if due - started < _STARTING_SECONDS else log.warning
                    say("the event loop stood still", seconds=round(late, 3), garbage=round(self._searched, 3))
        finally:
            gc.callbacks.remove(self._searches)

    def _searches(self, phase: str, _: dict[str, Any]) -> None:
        if phase == "start":
            self._began = monotonic()
        elif self._began:
            took = monotonic() - self._began
            self._searched += took
            self._garbage.took(took)
