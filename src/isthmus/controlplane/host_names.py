"""Resolves the host names of network gateways, again and again, and tells the world what they mean.

An answer holds as long as the name server says, within bounds. Where there is none, the addresses of before stay, and the question is repeated:
a name server that is down takes no network away.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

from isthmus.controlplane.world import World
from isthmus.dns.client import Found, LookupFailed, NameServers, resolver_of
from isthmus.model.topology import ResolvedName

SECONDS_MIN, SECONDS_MAX = 30.0, 3600.0
"""How long an answer holds at least and at most, whatever the name server says. Istio's bounds."""

RETRY_SECONDS = 5.0
_FAMILIES = ("A", "AAAA")
_FIRST_ROUND_SECONDS = 10.0

LookUp = Callable[[str, str], Awaitable[Found]]
"""Name and type of record. Raises LookupFailed."""


def own_name_servers(resolv_conf: Path = Path("/etc/resolv.conf")) -> NameServers:
    """Those of this process's machine, or Pod."""
    servers, _ = resolver_of(resolv_conf.read_text() if resolv_conf.exists() else "")
    return NameServers(servers, lambda kind, to: socket.socket(socket.AF_INET6 if ":" in to else socket.AF_INET, kind))


class HostNames:
    """Follows each name that the world's gateways have."""

    def __init__(self, world: World, look_up: LookUp) -> None:
        self._world = world
        self._look_up = look_up
        self._known: dict[str, ResolvedName] = {}
        self._followed: dict[str, asyncio.Task[None]] = {}
        self._answered = asyncio.Event()
        world.set_resolved({})

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._world.named.clear()
                wanted = self._world.host_names
                for name in sorted(self._followed.keys() - wanted):
                    self._forget(name)
                for name in sorted(wanted - self._followed.keys()):
                    self._followed[name] = tasks.create_task(self._follow(name), name=f"resolve {name}")
                await self._world.named.wait()

    async def first_round(self) -> None:
        """Returns when every name has been asked about once, or after a while: a network whose gateway has a name is there from the start."""
        self._world.snapshot()
        try:
            async with asyncio.timeout(_FIRST_ROUND_SECONDS):
                while not self._world.host_names <= self._known.keys():
                    self._answered.clear()
                    await self._answered.wait()
        except TimeoutError:
            return

    def _forget(self, name: str) -> None:
        self._followed.pop(name).cancel()
        self._known.pop(name, None)
        self._world.set_resolved(self._known)

    async def _follow(self, name: str) -> None:
        families: dict[str, Found] = {}
        while True:
            error = await self._ask(name, families)
            addresses = sorted({address for found in families.values() for address in found.addresses})
            self._known[name] = ResolvedName(addresses=tuple(addresses), error=error)
            self._world.set_resolved(self._known)
            self._answered.set()
            shortest = min((found.seconds for found in families.values() if found.addresses), default=0.0)
            await asyncio.sleep(RETRY_SECONDS if error else min(max(shortest, SECONDS_MIN), SECONDS_MAX))

    async def _ask(self, name: str, families: dict[str, Found]) -> str:
        """Renews what has an answer, and says why there is none. A name server that answers for one family only is enough."""
        asked = [self._look_up(name, family) for family in _FAMILIES]
        answers = dict(zip(_FAMILIES, await asyncio.gather(*asked, return_exceptions=True), strict=True))
        found = {family: answer for family, answer in answers.items() if isinstance(answer, Found)}
        for answer in answers.values():
            if isinstance(answer, BaseException) and not isinstance(answer, LookupFailed):
                raise answer
        if any(answer.addresses for answer in found.values()):
            families.update(found)
            return ""
        return next((str(each) for each in answers.values() if isinstance(each, LookupFailed)), "it has no address")
