"""Probes: who does not answer is not ready, unless it is we who were late."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator

import aiohttp
import pytest

from isthmus.localruntime import probes
from isthmus.localruntime.probes import probe


@pytest.fixture
def port() -> Iterator[int]:
    """Of a server that takes connections, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


async def probed(port: int, seconds: float = 0.2) -> str | None:
    spec = {"httpGet": {"path": "/hello", "port": port}, "timeoutSeconds": seconds}
    async with aiohttp.ClientSession() as session:
        return await probe(session, spec, {}, "/proc/self/ns/net")


async def test_who_does_not_answer_in_time_is_not_ready(port, monkeypatch):
    # A machine that runs tests may be slow, too.
    monkeypatch.setattr(probes, "_LATE_SECONDS", 30.0)

    assert await probed(port) == "no answer in 0.2 s"


async def test_an_answer_that_we_were_late_for_says_nothing(port):
    """The loop is kept from its work for longer than the probe may take."""

    async def keep_the_loop() -> None:
        await asyncio.sleep(0.05)
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            pass

    async with asyncio.TaskGroup() as tasks:
        asked = tasks.create_task(probed(port, 1.0))
        tasks.create_task(keep_the_loop())

    assert asked.result() is None


async def test_who_refuses_connections_is_not_ready_at_once(port):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        number = closed.getsockname()[1]

    assert "Cannot connect" in str(await probed(number))
