"""How long a change waits for its round, on a clock that jumps: what the last round cost counts, and who has just come does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from served_meshes import call_of, claims_of, imported, served
from small_meshes import Mesh, of_service

from isthmus.controlplane import delivery as delivering
from isthmus.model.names import ClusterId

EAST = ClusterId("east")

pytestmark = pytest.mark.looptime


class Rounds:
    """A control plane of a small mesh, whose cluster east gets one more service with each change."""

    def __init__(self) -> None:
        self.mesh = Mesh(6)
        self.world, self.delivery = served(self.mesh)
        self._changes = 0

    async def change(self) -> float:
        """Seconds until a round has begun and ended that knows it."""
        self._changes += 1
        self.mesh.put(0, *of_service(0, 90 + self._changes, "shop"))
        loop = asyncio.get_running_loop()
        began = loop.time()
        self.world.put(EAST, imported(self.mesh.clusters[0]["objects"]))
        await self.delivery.after_round()
        return loop.time() - began


@asynccontextmanager
async def running() -> AsyncIterator[Rounds]:
    rounds = Rounds()
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(rounds.delivery.run())
        await rounds.delivery.after_round()
        yield rounds
        task.cancel()


async def test_who_has_come_and_reads_nothing_yet_is_not_waited_for():
    async with running() as rounds:
        for proxy in rounds.mesh.proxies:
            await rounds.delivery.admit(claims_of(proxy), call_of(proxy))

        waited = [await rounds.change() for _ in range(3)]

    assert max(waited) < 0.1


async def test_the_next_round_waits_for_twice_what_the_last_one_cost_and_a_second_at_most():
    loop = asyncio.get_running_loop()
    waited = {}
    for cost in (0.1, 5.0):
        async with running() as rounds:
            feed = await rounds.delivery.admit(claims_of(rounds.mesh.proxies[0]), call_of(rounds.mesh.proxies[0]))
            feed.taken()
            feed.listen(lambda feed=feed, cost=cost: loop.call_later(cost, feed.taken))
            await rounds.change()

            waited[cost] = await rounds.change()

    assert waited == {0.1: pytest.approx(0.3, abs=0.05), 5.0: pytest.approx(6.0, abs=0.05)}


async def test_those_who_come_while_something_is_computed_wait_together_and_a_round_does_not_queue_behind_each(
    monkeypatch,
):
    monkeypatch.setattr(delivering, "_TURN_SECONDS", -1.0)
    async with running() as rounds:
        settlings = []
        settling = rounds.delivery.tables.settling
        rounds.delivery.tables.settling = lambda: settlings.append("") or settling()
        async with asyncio.TaskGroup() as tasks:
            for proxy in rounds.mesh.proxies * 20:
                tasks.create_task(rounds.delivery.admit(claims_of(proxy), call_of(proxy)), name="admit")

        assert len(settlings) <= 3 < len(rounds.delivery.tables.proxies) * 20
