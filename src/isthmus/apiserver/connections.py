"""Connections: who is let in, and who is let go. One server on a machine must outlive clients that mean it no good, and clients that hang.

Everything a client can hold is bounded, in number and in time: handshakes under way, open connections, the head of a request, its body, and
what it does not read of an answer. At a bound it is the longest idle one that goes, so that whoever comes with a request is served.
"""

from __future__ import annotations

import asyncio
import resource
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import msgspec
import structlog
from aiohttp import web

from isthmus.apiserver.settings import Limits
from isthmus.apiserver.status import bad_request, internal_error, too_many_requests

_SWEEP_SECONDS = 0.5
_NO_DESCRIPTOR_SECONDS = 0.5
_BUSY_SECONDS = 0.02
_ACCEPTED_AT_ONCE = 64
_WRITE_BUFFER = 65_536
_LARGE_BODY = 65_536
_OWN_DESCRIPTORS = 128
"""Kept for the database, logs and webhooks, whatever clients take."""

log = structlog.get_logger()


class Connection(web.RequestHandler):
    """One client's connection after its handshake, and since when it keeps us waiting."""

    def __init__(self, owner: Connections, server: web.Server, loop: asyncio.AbstractEventLoop, limits: Limits) -> None:
        super().__init__(
            server,
            loop=loop,
            access_log=None,  # type: ignore[arg-type]  # as the application runner does it
            keepalive_timeout=limits.idle_seconds,
            lingering_time=_SWEEP_SECONDS,
        )
        self.limits = limits
        self.head_since: float | None = None
        """When the first byte came of a request whose head is not complete."""
        self.stalled_since: float | None = None
        """When the client stopped reading what it is sent."""
        self.client = ""
        """Its address."""
        self.on_lost: Callable[[], None] | None = None
        self._owner = owner
        self._busy = False
        self._holds = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self.transport is not None:
            self.transport.set_write_buffer_limits(high=_WRITE_BUFFER)
            self.client = str((self.transport.get_extra_info("peername") or ("",))[0])
        self._owner.opened(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._owner.closed(self)
        super().connection_lost(exc)
        if self.on_lost is not None:
            self.on_lost()

    def data_received(self, data: bytes) -> None:
        if self.head_since is None and not self._busy:
            self.head_since = self._loop.time()
        super().data_received(data)

    def pause_reading(self) -> None:
        self._holds = True
        super().pause_reading()

    def resume_reading(self, resume_parser: bool = True) -> None:
        """aiohttp asks for it with each body, held or not: then there is nothing to go on with."""
        if self._holds:
            self._holds = not resume_parser
            super().resume_reading(resume_parser)

    def pause_writing(self) -> None:
        super().pause_writing()
        self.stalled_since = self._loop.time()

    def resume_writing(self) -> None:
        self.stalled_since = None
        super().resume_writing()

    async def drained(self) -> None:
        """Until the client has read enough for more to be sent. Raises ConnectionError once it has gone."""
        await self._drain_helper()

    def begin(self) -> None:
        """A request is answered: it is the server's turn, until `end`."""
        self._busy, self.head_since = True, None
        self._owner.idle.pop(self, None)

    def end(self) -> None:
        self._busy = False
        if self.transport is not None:
            self._owner.idle[self] = None

    @contextmanager
    def receiving(self, length: int | None) -> Iterator[None]:
        """While a body comes. Raises Refused (TooManyRequests) for a long one when there are enough of them."""
        if length is not None and length <= _LARGE_BODY:
            yield
            return
        if self._owner.large_bodies >= self.limits.large_bodies:
            raise too_many_requests()
        self._owner.large_bodies += 1
        try:
            yield
        finally:
            self._owner.large_bodies -= 1

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """What is no HTTP gets a Status, too, and its connection an end: what follows cannot be told apart."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer was under way already")
        log.info("request refused", why=type(exc).__name__, code=status)
        refused = bad_request("the request is not valid HTTP/1.1") if status < 500 else internal_error("not answered")
        body = msgspec.json.encode(refused.status)
        response = web.Response(body=body, status=status, content_type="application/json")
        response.force_close()
        return response


class Connections:
    """Accepts on listening sockets, until cancelled."""

    def __init__(self, server: web.Server, tls: ssl.SSLContext, limits: Limits) -> None:
        self._server = server
        self._tls = tls
        self._limits = limits
        self._handshakes: dict[asyncio.Task[None], float] = {}
        """When each began, the oldest first."""
        self._open: dict[Connection, None] = {}
        self.idle: dict[Connection, None] = {}
        """Those without a request under way, the longest idle first."""
        self.large_bodies = 0
        self._loop = asyncio.get_running_loop()
        self._max = min(limits.connections, _raise_descriptor_limit() - _OWN_DESCRIPTORS)

    async def serve(self, listeners: Sequence[socket.socket]) -> None:
        async with asyncio.TaskGroup() as group:
            for listener in listeners:
                self._loop.add_reader(listener.fileno(), self._accept, listener, group)
            try:
                while True:
                    await asyncio.sleep(_SWEEP_SECONDS)
                    self._sweep()
            finally:
                for listener in listeners:
                    self._loop.remove_reader(listener.fileno())
                    listener.close()
                for task in self._handshakes:
                    task.cancel()

    def opened(self, connection: Connection) -> None:
        self._open[connection] = None
        self.idle[connection] = None

    def closed(self, connection: Connection) -> None:
        self._open.pop(connection, None)
        self.idle.pop(connection, None)

    def _accept(self, listener: socket.socket, group: asyncio.TaskGroup) -> None:
        for _ in range(_ACCEPTED_AT_ONCE):
            if not self._hand_free():
                self._rest(listener, group, _BUSY_SECONDS)
                return
            try:
                accepted, _ = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                log.warning("cannot accept a connection", error=str(error))
                self._close_idle()
                self._rest(listener, group, _NO_DESCRIPTOR_SECONDS)
                return
            if len(self._handshakes) + len(self._open) >= self._max and not self._close_idle():
                accepted.close()
                continue
            accepted.setblocking(False)
            task = group.create_task(self._greet(accepted), name="TLS handshake")
            self._handshakes[task] = self._loop.time()
            task.add_done_callback(lambda done: self._handshakes.pop(done, None))

    def _rest(self, listener: socket.socket, group: asyncio.TaskGroup, seconds: float) -> None:
        """Nothing can be accepted now: the kernel keeps who comes, and is asked again a little later."""
        self._loop.remove_reader(listener.fileno())

        def again() -> None:
            if listener.fileno() >= 0:
                self._loop.add_reader(listener.fileno(), self._accept, listener, group)

        self._loop.call_later(seconds, again)

    def _hand_free(self) -> bool:
        """Whether one more handshake may begin. Many at once have their time, if little; those that hang make room."""
        if len(self._handshakes) < self._limits.handshakes:
            return True
        oldest, began = next(iter(self._handshakes.items()))
        if self._loop.time() - began < self._limits.handshake_seconds / 10:
            return False
        del self._handshakes[oldest]
        oldest.cancel()
        return True

    def _close_idle(self) -> bool:
        for connection in self.idle:
            transport = connection.transport
            if transport is not None and not transport.get_write_buffer_size():
                self.closed(connection)
                transport.abort()
                return True
        return False

    async def _greet(self, accepted: socket.socket) -> None:
        """The TLS handshake, in its time."""
        try:
            async with asyncio.timeout(self._limits.handshake_seconds):
                await self._loop.connect_accepted_socket(
                    lambda: Connection(self, self._server, self._loop, self._limits), accepted, ssl=self._tls
                )
        except (OSError, TimeoutError) as error:
            # ssl.SSLError is an OSError. Whoever speaks no TLS, or trusts somebody else, has gone: nobody is left to tell.
            log.debug("handshake failed", error=str(error))

    def _sweep(self) -> None:
        """Ends connections that have kept us waiting for longer than they may."""
        now = self._loop.time()
        for connection in list(self._open):
            head, stalled = connection.head_since, connection.stalled_since
            late = head is not None and now - head > self._limits.head_seconds
            if late or (stalled is not None and now - stalled > self._limits.stalled_seconds):
                log.info("connection ended", why="slow request" if late else "nothing is read")
                if connection.transport is not None:
                    connection.transport.abort()


def connection_of(request: web.BaseRequest) -> Connection:
    protocol = request.protocol
    assert isinstance(protocol, Connection), "every connection is accepted by Connections"
    return protocol


def _raise_descriptor_limit() -> int:
    """To the hard limit. A watch costs a descriptor, and the soft limit is often 1024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
