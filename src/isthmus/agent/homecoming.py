"""Brings a proxy back to the control plane that it prefers, once that answers again.

Nobody does that by itself: an Envoy, and an agent's stream, stay with the control plane that they are connected to. So the agent opens a stream to a
better one beside those that there are. When that stream has been whole for a while, the one in use is asked to let the proxy go, and Envoy and
agent find the better one first. Versions are hashes of what they name, so nothing is sent again.

How long it waits, and when it looks, is drawn by lot: a thousand proxies do not come in one second.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import grpc.aio
import structlog

from isthmus.agent.answers import explained
from isthmus.agent.certificates import ControlPlanes, Credentials
from isthmus.agent.envoy_admin import EnvoyAdmin, EnvoyUnavailable
from isthmus.envoy.resources import BUNDLES
from isthmus.xds.client import follow, leave

LOOK_SECONDS = 10.0
STEADY_SECONDS = 30.0
STEADY_SECONDS_MAX = 3600.0
_ANSWER_SECONDS = 10.0

log = structlog.get_logger()


class Patience:
    """For how long a better control plane has to answer before anybody goes there. No I/O."""

    def __init__(self) -> None:
        self._seconds = STEADY_SECONDS

    def seconds(self, lot: float) -> float:
        """`lot` is between 0 and 1: up to twice as long."""
        return self._seconds * (1 + lot)

    def learn(self, *, came_back: bool) -> None:
        """A proxy that cannot get where its agent can is asked to try again less and less often."""
        self._seconds = STEADY_SECONDS if came_back else min(self._seconds * 2, STEADY_SECONDS_MAX)


class Homecoming:
    """`run` until cancelled."""

    def __init__(
        self,
        control_planes: ControlPlanes,
        admin: EnvoyAdmin,
        *,
        node: dict[str, Any],
        cluster: str,
        credentials: Callable[[], Credentials],
        root_cert_file: str,
        followed: Callable[[], int | None],
    ) -> None:
        """`followed` is the rank of the control plane that the agent follows for this proxy: it may share `control_planes` with other proxies."""
        self._control_planes = control_planes
        self._admin = admin
        self._node = node
        self._cluster = cluster
        self._credentials = credentials
        self._root_cert_file = root_cert_file
        self._followed = followed
        self._patience = Patience()
        self._went_to: int | None = None

    async def run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS * random.uniform(0.5, 1.5))
            used = await self._used()
            if used and self._went_to is not None:
                self._patience.learn(came_back=max(used) <= self._went_to)
                self._went_to = None
            for better in range(max(used, default=0)):
                if await self._is_steady(better, self._patience.seconds(random.random())):
                    await self._go(better)
                    break

    async def _used(self) -> set[int]:
        """The ranks of the control planes that have streams of this proxy: its agent's and Envoy's."""
        try:
            envoy = await self._admin.control_plane()
        except EnvoyUnavailable:
            envoy = None
        # After the control planes comes the last good configuration, which nobody stays with.
        return {rank for rank in (self._followed(), envoy) if rank is not None and rank < self._control_planes.count}

    async def _is_steady(self, rank: int, seconds: float) -> bool:
        """Whether it serves this proxy for so long without a break. It is one stream: who only accepts connections does not serve."""
        try:
            shown = self._credentials()
            async with self._control_planes.channel_to(rank, self._root_cert_file, shown.certificate) as channel:
                news = follow(channel, self._node, {BUNDLES: ()}, metadata=shown.metadata(self._cluster))
                async with asyncio.timeout(_ANSWER_SECONDS):
                    await anext(news)
                try:
                    async with asyncio.timeout(seconds):
                        async for _ in news:
                            pass
                except TimeoutError:
                    return True
        except (grpc.aio.AioRpcError, OSError, ValueError, StopAsyncIteration) as error:
            log.debug("a better control plane does not answer", error=explained(error), rank=rank)
        return False

    async def _go(self, better: int) -> None:
        left = {rank for rank in await self._used() if rank > better}
        self._control_planes.return_to(better)
        self._went_to = better
        for rank in sorted(left):
            try:
                shown = self._credentials()
                async with (
                    asyncio.timeout(_ANSWER_SECONDS),
                    self._control_planes.channel_to(rank, self._root_cert_file, shown.certificate) as channel,
                ):
                    await leave(channel, self._node, metadata=shown.metadata(self._cluster))
            except (grpc.aio.AioRpcError, OSError, ValueError) as error:
                log.warning("not let go", error=explained(error), rank=rank)
        log.info("back to a control plane that is preferred", node=self._node["id"], rank=better, left=sorted(left))
