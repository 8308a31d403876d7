"""Where connections come in. Whoever is still in its TLS handshake has its time, and there are so many such at once at most.

The event loop's own servers count nobody before the end of the handshake: there, a crowd that never finishes one takes all descriptors.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog

_NO_ROOM_SECONDS = 0.2

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Handshakes:
    """Of `at_once` none makes room before it has had a tenth of its time: many that come together are all served."""

    seconds: float = 10.0
    at_once: int = 64


@asynccontextmanager
async def open_door(
    hosts: Sequence[str],
    port: int,
    protocol: Callable[[], asyncio.Protocol],
    *,
    tls: ssl.SSLContext | None = None,
    handshakes: Handshakes | None = None,
) -> AsyncIterator[int]:
    """The port that it listens on (of the first host, where 0 is any free one). Connections outlive the block. Raises OSError."""
    listeners: list[socket.socket] = []
    try:
        for host in hosts:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            listener = socket.create_server((host, port), family=family, backlog=512)
            listener.setblocking(False)
            listeners.append(listener)
        door = _Door(protocol, tls, handshakes or Handshakes())
        async with asyncio.TaskGroup() as tasks:
            accepting = [tasks.create_task(door.accept(each, tasks), name="door") for each in listeners]
            try:
                yield listeners[0].getsockname()[1]
            finally:
                for task in (*accepting, *door.greeted):
                    task.cancel()
    finally:
        for listener in listeners:
            listener.close()


class _Door:
    def __init__(
        self, protocol: Callable[[], asyncio.Protocol], tls: ssl.SSLContext | None, limits: Handshakes
    ) -> None:
        self._protocol = protocol
        self._tls = tls
        self._limits = limits
        self.greeted: dict[asyncio.Task[None], float] = {}
        """Who is in its handshake, and since when; the longest first."""

    async def accept(self, listener: socket.socket, tasks: asyncio.TaskGroup) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await self._room()
            try:
                connection, _ = await loop.sock_accept(listener)
            except OSError as error:  # Of descriptors there are none left, or whoever came is gone again.
                log.warning("nobody can be let in", error=str(error))
                await asyncio.sleep(_NO_ROOM_SECONDS)
                continue
            task = tasks.create_task(self._greet(connection), name="handshake")
            self.greeted[task] = loop.time()
            task.add_done_callback(lambda done: self.greeted.pop(done, None))
            await asyncio.sleep(0)  # It begins, and closes its connection however it ends.

    async def _room(self) -> None:
        """The kernel keeps who comes meanwhile."""
        while len(self.greeted) >= self._limits.at_once:
            longest, since = next(iter(self.greeted.items()))
            left = since + self._limits.seconds / 10 - asyncio.get_running_loop().time()
            if left <= 0:
                del self.greeted[longest]
                longest.cancel()
            else:
                await asyncio.wait(list(self.greeted), timeout=left, return_when=asyncio.FIRST_COMPLETED)

    async def _greet(self, connection: socket.socket) -> None:
        loop, seconds = asyncio.get_running_loop(), self._limits.seconds if self._tls else None
        try:
            await loop.connect_accepted_socket(self._protocol, connection, ssl=self._tls, ssl_handshake_timeout=seconds)
        except OSError as error:  # Of TLS, too: nobody is left to tell.
            log.debug("no handshake", error=str(error))
        except Exception:  # Whatever a stranger does, it ends this connection, and nothing else.
            log.exception("a connection did what we did not expect")
