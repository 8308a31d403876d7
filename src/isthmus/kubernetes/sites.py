"""HTTP for those who ask us: kubelets, API servers, collectors of metrics. None of them can hold more than it is given.

A connection has a few seconds for its TLS handshake and for the head of its first request, then for each answer to be read. There are so many
of them at most, fewer in their handshake; when one more comes, one without a request under way goes, the oldest first.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog
from aiohttp import web

from isthmus.kubernetes.doors import Handshakes, open_door

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """`idle_seconds` is between two requests. Go's clients close after 90 s themselves: we are the later ones, lest a request cross our end."""

    handshake_seconds: float = 10.0
    head_seconds: float = 10.0
    stalled_seconds: float = 30.0
    idle_seconds: float = 95.0
    handshakes: int = 64
    connections: int = 512


class _Connection(web.RequestHandler):
    def __init__(self, site: _Site, server: web.Server, patience: Patience) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(server, loop=loop, access_log=None, keepalive_timeout=patience.idle_seconds)  # type: ignore[arg-type]
        self._site = site
        self._patience = patience
        self._deadline: asyncio.TimerHandle | None = None
        self.busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._end_after(self._patience.head_seconds, "slow request")
        self._site.opened(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._in_time()
        self._site.closed(self)
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._end_after(self._patience.stalled_seconds, "nothing is read")

    def resume_writing(self) -> None:
        self._in_time()
        super().resume_writing()

    def begin(self) -> None:
        """A request is there. From the second on, aiohttp's own time between two requests covers the head as well."""
        self.busy = True
        self._in_time()

    def end(self, why: str) -> None:
        log.info("connection ended", why=why)
        if self.transport is not None:
            self.transport.abort()

    def _end_after(self, seconds: float, why: str) -> None:
        self._in_time()
        self._deadline = self._loop.call_later(seconds, self.end, why)

    def _in_time(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class _Site:
    """The open connections, the oldest first."""

    def __init__(self, connections_max: int) -> None:
        self._max = connections_max
        self._open: dict[_Connection, None] = {}

    def opened(self, connection: _Connection) -> None:
        if len(self._open) >= self._max:
            leaving = next((each for each in self._open if not each.busy), connection)
            leaving.end("too many connections")
            self._open.pop(leaving, None)
            if leaving is connection:
                return
        self._open[connection] = None

    def closed(self, connection: _Connection) -> None:
        self._open.pop(connection, None)


@web.middleware
async def _noticed(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    connection = request.protocol
    assert isinstance(connection, _Connection), "every connection of a site is one"
    connection.begin()
    try:
        return await handler(request)
    finally:
        connection.busy = False


@asynccontextmanager
async def serving(
    application: web.Application,
    host: str | Sequence[str],
    port: int,
    *,
    tls: ssl.SSLContext | None = None,
    patience: Patience | None = None,
) -> AsyncIterator[int]:
    """The port that it listens on, until the end of the block. Raises OSError."""
    patience = patience or Patience()
    application.middlewares.insert(0, _noticed)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    serve, site = runner.server, _Site(patience.connections)
    assert serve is not None, "it is set up"
    hosts = [host] if isinstance(host, str) else host
    handshakes = Handshakes(seconds=patience.handshake_seconds, at_once=patience.handshakes)
    try:
        async with open_door(
            hosts, port, lambda: _Connection(site, serve, patience), tls=tls, handshakes=handshakes
        ) as bound:
            yield bound
    finally:
        await runner.cleanup()
