"""What keeps the event loop from its work is seen: in a histogram, and in the log."""

from __future__ import annotations

import asyncio
import gc
import time

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from structlog.testing import capture_logs

from isthmus.controlplane.loop_lag import LoopLag


def sum_of(name: str, lag: LoopLag) -> float:
    registry = CollectorRegistry()
    registry.register(lag)
    lines = dict(line.rsplit(" ", 1) for line in generate_latest(registry).decode().splitlines() if line[0] != "#")
    return float(lines[f"{name}_sum"])


async def test_a_loop_that_stood_still_is_counted_and_logged_with_the_search_for_garbage_in_it():
    lag = LoopLag()
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        with capture_logs() as logged:
            measuring = tasks.create_task(lag.run(), name="lag")
            await asyncio.sleep(0)
            end = time.monotonic() + 0.5
            while time.monotonic() < end:
                gc.collect()
            while not logged:  # noqa: ASYNC110 - nobody is called for it
                await asyncio.sleep(0)
            measuring.cancel()

    [warning] = logged
    assert warning["event"] == "the event loop stood still"
    assert warning["seconds"] > 0.3
    assert 0 < warning["garbage"] <= sum_of("isthmus_garbage_seconds", lag) + 0.0005  # It is said in milliseconds.
    assert sum_of("isthmus_loop_lag_seconds", lag) > 0.3


@pytest.mark.parametrize(("starting_seconds", "level"), [(30.0, "info"), (0.0, "warning")])
async def test_it_is_warned_of_once_the_start_is_over(monkeypatch, starting_seconds, level):
    monkeypatch.setattr("isthmus.controlplane.loop_lag._STARTING_SECONDS", starting_seconds)
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        with capture_logs() as logged:
            measuring = tasks.create_task(LoopLag().run(), name="lag")
            await asyncio.sleep(0)
            end = time.monotonic() + 0.5
            while time.monotonic() < end:
                pass
            while not logged:  # noqa: ASYNC110 - nobody is called for it
                await asyncio.sleep(0)
            measuring.cancel()

    assert [each["log_level"] for each in logged] == [level]


async def test_nothing_is_left_in_the_collector_when_it_ends():
    before = len(gc.callbacks)
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        measuring = tasks.create_task(LoopLag().run(), name="lag")
        await asyncio.sleep(0)
        assert len(gc.callbacks) == before + 1
        measuring.cancel()

    assert len(gc.callbacks) == before
