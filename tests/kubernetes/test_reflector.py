"""A reflector and a real HTTP server: whatever the connection suffers, the cache follows the server."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import structlog
from aiohttp import web

from isthmus.kubernetes.client import ApiClient
from isthmus.kubernetes.reflector import Reflector
from isthmus.kubernetes.resources import CONFIG_MAPS
from isthmus.kubernetes.watch import Change

SECONDS = 60.0


def decode(raw: bytes) -> str:
    value = json.loads(raw)["data"]["value"]
    if value == "bad":
        raise ValueError("a bad value")
    return str(value)


class Following:
    """A reflector that runs, and everything that it told."""

    def __init__(self, client: ApiClient, idle_seconds: float) -> None:
        self.told: list[list[Change[str]]] = []
        self._news = asyncio.Event()
        self.reflector: Reflector[str] = Reflector(
            client,
            CONFIG_MAPS,
            decode,
            self._changed,
            selector={"labelSelector": "a in (b,c+d)"},
            idle_seconds=idle_seconds,
        )

    def _changed(self, changes: list[Change[str]]) -> None:
        self.told.append(changes)
        self._news.set()

    @property
    def values(self) -> dict[str, str]:
        return {name: value for (_, name), value in self.reflector.values.items()}

    async def until(self, holds: Callable[[], bool]) -> None:
        """Looks again at each change that is told."""
        while not holds():
            self._news.clear()
            await self._news.wait()


@asynccontextmanager
async def following(client: ApiClient, idle_seconds: float = SECONDS) -> AsyncIterator[Following]:
    found = Following(client, idle_seconds)
    async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(found.reflector.run())
        await found.reflector.synced.wait()
        yield found
        running.cancel()


async def test_what_is_there_comes_at_once_and_then_each_change(server, client):
    await server.write("a", "1")
    await server.write("b", "1")

    async with following(client) as follower:
        first = follower.values
        await server.write("a", "2")
        await server.write("b", None)
        await follower.until(lambda: follower.values == {"a": "2"})

    assert first == {"a": "1", "b": "1"}
    assert follower.told[0] == [Change(("ns", "a"), None, "1"), Change(("ns", "b"), None, "1")]
    assert [change for batch in follower.told[1:] for change in batch] == [
        Change(("ns", "a"), "1", "2"),
        Change(("ns", "b"), "1", None),
    ]
    assert len(server.requests) == 1


async def test_an_empty_collection_is_told_too(client):
    async with following(client) as follower:
        pass

    assert follower.told == [[]]


async def test_a_connection_that_breaks_in_the_middle_of_a_line_is_made_again_and_nothing_is_lost(server, client):
    await server.write("a", "1")

    async with following(client) as follower:
        await server.write("a", "2")
        await follower.until(lambda: follower.values == {"a": "2"})
        await server.hang_up()
        await server.write("b", "1")
        await follower.until(lambda: follower.values == {"a": "2", "b": "1"})

    assert server.requests[-1].query["resourceVersion"] == "3"


async def test_a_version_that_is_too_old_is_answered_with_a_new_list(server, client):
    await server.write("a", "1")
    await server.write("b", "1")

    async with following(client) as follower:
        await server.hang_up()
        await server.write("b", None)
        await server.write("a", "2")
        server.compacted = server.version
        server.events.clear()
        await follower.until(lambda: follower.values == {"a": "2"})


async def test_a_server_without_watch_lists_is_listed(server, client, answers):
    await server.write("a", "1")
    server.next_answers.append(answers.status(422, "Invalid", "sendInitialEvents is forbidden"))

    async with following(client) as follower:
        await server.write("a", "2")
        await follower.until(lambda: follower.values == {"a": "2"})

    assert [request.query.get("watch") for request in server.requests] == ["true", None, "true"]
    assert {request.query["labelSelector"] for request in server.requests} == {"a in (b,c+d)"}


async def test_a_server_that_is_ill_is_tried_again_and_what_ails_it_is_known(server, client, answers):
    await server.write("a", "1")
    errors = []

    async def note(_: Any) -> web.StreamResponse:
        errors.append(follower.reflector.last_error)
        return await answers.status(503, "ServiceUnavailable", "later")(_)

    server.next_answers.extend(
        [answers.hang_up, answers.text("<html>", 502), answers.status(401, "Unauthorized"), note, note]
    )
    follower = Following(client, SECONDS)
    async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(follower.reflector.run())
        await follower.reflector.synced.wait()
        running.cancel()

    assert "401 Unauthorized" in errors[0]
    assert "503 ServiceUnavailable: later" in errors[1]
    assert follower.values == {"a": "1"}


async def test_a_server_that_is_not_ready_for_a_kind_yet_is_asked_again_without_alarm(server, client, answers):
    """As a real one answers for a moment after a definition was made."""
    server.next_answers.append(answers.status(429, "TooManyRequests", "storage is (re)initializing"))

    with structlog.testing.capture_logs() as told:
        async with following(client):
            pass

    assert [entry["log_level"] for entry in told if entry["event"] == "asked to come again"] == ["info"]
    assert [entry for entry in told if entry["log_level"] == "warning"] == []


async def test_a_server_that_starts_later_is_no_alarm_and_one_that_stays_away_is_one(
    client, server, answers, monkeypatch
):
    async def warnings_while_it_hangs_up(times: int) -> list[str]:
        server.next_answers.extend([answers.hang_up] * times)
        with structlog.testing.capture_logs() as told:
            async with following(client):
                pass
        return [entry["event"] for entry in told if entry["log_level"] == "warning"]

    early = await warnings_while_it_hangs_up(2)
    monkeypatch.setattr("isthmus.kubernetes.reflector._LATE_SECONDS", 0.0)
    late = await warnings_while_it_hangs_up(3)

    assert early == []
    assert late == ["cannot watch"], "once, however often it is tried"


async def test_a_server_that_talks_nonsense_is_not_asked_in_a_hot_loop(server, client, answers):
    await server.write("a", "1")
    server.next_answers.extend([answers.text('{"type":"ERROR","object":{"code":500,"message":"broken"}}\n')] * 3)
    began = asyncio.get_running_loop().time()

    async with following(client) as follower:
        took = asyncio.get_running_loop().time() - began

    assert follower.values == {"a": "1"}
    assert took > 0.6, "it waits 0.1 s, 0.2 s and 0.4 s at least"


async def test_a_connection_that_fell_silent_is_made_again(server, client, answers):
    await server.write("a", "1")
    server.next_answers.append(answers.silence)

    async with following(client, idle_seconds=0.1) as follower:
        assert follower.values == {"a": "1"}


async def test_what_ailed_the_server_is_forgotten_while_the_next_watch_lasts(server, client):
    await server.write("a", "1")

    async with following(client) as follower:
        await server.hang_up()
        await server.write("a", "2")
        await follower.until(lambda: follower.values == {"a": "2"})
        error = follower.reflector.last_error

    assert error == ""


async def test_a_clock_that_jumps_back_and_ahead_changes_nothing(server, client, monkeypatch):
    await server.write("a", "0")

    async with following(client) as follower:
        for number, seconds in enumerate((-1e9, 1e9), start=1):
            clock = time.time() + seconds
            monkeypatch.setattr(time, "time", lambda clock=clock: clock)
            await server.write("a", str(number))
            await follower.until(lambda number=number: follower.values["a"] == str(number))
            await server.hang_up()
            await server.write(f"b{number}", "1")
            await follower.until(lambda number=number: f"b{number}" in follower.values)

    assert follower.values == {"a": "2", "b1": "1", "b2": "1"}


async def test_a_malformed_object_is_named_and_disturbs_no_other(server, client):
    await server.write("a", "bad")
    await server.write("b", "1")

    async with following(client) as follower:
        first = (follower.values, dict(follower.reflector.malformed))
        await server.write("a", "1")
        await follower.until(lambda: follower.values == {"a": "1", "b": "1"})

    assert first == ({"b": "1"}, {("ns", "a"): "a bad value"})
    assert follower.reflector.malformed == {}


async def test_it_is_told_when_only_what_is_malformed_has_changed(server, client):
    async with following(client) as follower:
        await server.write("a", "bad")
        await follower.until(lambda: follower.reflector.malformed == {("ns", "a"): "a bad value"})
        await server.write("a", None)
        await follower.until(lambda: follower.reflector.malformed == {})

    assert follower.told == [[], [], []]


async def test_a_kind_is_read_in_the_newest_version_that_the_server_has(server, client):
    await server.write("a", "1")
    server.unserved = ("/api/v2/", "/api/v3/")
    unserved = [replace(CONFIG_MAPS, version=version) for version in ("v3", "v2")]
    told: list[list[Change[str]]] = []
    reflector = Reflector(client, unserved[0], decode, told.append, older=[unserved[1], CONFIG_MAPS])
    none = Reflector(client, unserved[0], decode, told.append, older=[unserved[1]])

    async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(each.run()) for each in (reflector, none)]
        await reflector.synced.wait()
        await none.synced.wait()
        for each in running:
            each.cancel()

    assert list(reflector.values.values()) == ["1"]
    assert (none.values, none.last_error) == ({}, "")
