"""ADS over our own HTTP/2: the sockets, and whose turn it is.

Everything runs on the event loop's thread, in short turns. The sockets wait in epoll instances of our own, which the loop watches as one
descriptor each: a turn takes what is ready for a few milliseconds, or four steps of TLS handshakes, and gives the loop back. So thousands of
proxies that reconnect at once delay an update by a few such turns, and neither tasks nor callbacks exist for each connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import ssl
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import structlog

from isthmus.xds.directory import Directory, Streams, Unary
from isthmus.xds.native_calls import Services
from isthmus.xds.native_connection import Connection, Socket

CONNECTIONS_MAX = 15_000
HANDSHAKES_AT_ONCE = 64
HANDSHAKE_SECONDS = 10.0
FIRST_CALL_SECONDS = 10.0
IDLE_SECONDS = 300.0
KEEPALIVE_SECONDS = 30.0
KEEPALIVE_ANSWER_SECONDS = 10.0
STALLED_SECONDS = 300.0
LAST_WORDS_SECONDS = 5.0
TELLING_FIRST_SECONDS = 0.1
_KEPT_BYTES_MAX = 256 * 1024 * 1024
_EVENTS_AT_ONCE = 16
_SERVE_SECONDS = 0.005
_HANDSHAKE_STEPS_EACH_TURN = 4
_TELL_SECONDS = 0.005
_BACKLOG = 4096
_NO_ROOM_SECONDS = 0.2

log = structlog.get_logger()


class _Greeting:
    """A connection in its TLS handshake."""

    __slots__ = ("began", "peer", "socket")

    def __init__(self, sock: ssl.SSLSocket, peer: str, began: float) -> None:
        self.socket = sock
        self.peer = peer
        self.began = began


class _Silent:
    """A connection on which no handshake has begun: it costs a descriptor, and takes nobody's turn."""

    __slots__ = ("began", "context", "peer", "socket")

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, peer: str, began: float) -> None:
        self.socket = sock
        self.context = context
        self.peer = peer
        self.began = began


class NativeServer:
    """Listens on any number of ports. Use `native_server`, which runs it."""

    def __init__(
        self, directory: Directory, unary: Mapping[str, Unary], streams: Streams, tasks: asyncio.TaskGroup
    ) -> None:
        self._services = Services(directory, dict(unary), streams, tasks)
        self._services.wake = self._wake
        self._loop = asyncio.get_running_loop()
        self._ready = select.epoll()
        self._door = select.epoll()
        self._listeners: dict[int, tuple[socket.socket, ssl.SSLContext | None]] = {}
        self._connections: dict[int, Connection] = {}
        self._silent: dict[int, _Silent] = {}
        self._greetings: dict[int, _Greeting] = {}
        self._queue: deque[tuple[socket.socket, ssl.SSLContext, str]] = deque()
        self._telling_first_until = 0.0
        self._kept = 0
        self._accepting = True
        self._empty = asyncio.Event()
        self._loop.add_reader(self._ready.fileno(), self._serve)
        self._loop.add_reader(self._door.fileno(), self._greet)
        self._sweeping = self._loop.call_later(1.0, self._sweep)

    @property
    def connections(self) -> int:
        return len(self._connections)

    def listen(self, host: str, port: int, context: ssl.SSLContext | None) -> int:
        """The port, which is a free one for 0. Without a context, in plain text. Raises OSError."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
        listener.setblocking(False)
        self._listeners[listener.fileno()] = (listener, context)
        self._ready.register(listener.fileno(), select.EPOLLIN)
        return int(listener.getsockname()[1])

    def greet_with(self, port: int, context: ssl.SSLContext) -> None:
        """From now on, who connects to this port. Handshakes that have begun and open connections stay as they are."""
        for number, (listener, _) in self._listeners.items():
            if listener.getsockname()[1] == port:
                self._listeners[number] = (listener, context)

    async def stop(self, grace: float) -> None:
        """Tells every client that this server goes away, and closes what is left after `grace` seconds."""
        self._sweeping.cancel()
        for listener, _ in self._listeners.values():
            self._ready.unregister(listener.fileno())
            listener.close()
        self._listeners.clear()
        while self._queue:
            self._queue.popleft()[0].close()
        while self._silent:
            self._end_longest_silent()
        for greeting in list(self._greetings.values()):
            self._greeted(greeting)
            greeting.socket.close()
        if not self._connections:
            self._empty.set()
        for connection in list(self._connections.values()):
            connection.leave("UNAVAILABLE", "the control plane is stopping", self._loop.time())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await self._empty.wait()
        for connection in list(self._connections.values()):
            connection.close()
        for poll in (self._ready, self._door):
            self._loop.remove_reader(poll.fileno())
            poll.close()

    # Turns.

    def _serve(self) -> None:
        """Connections that can be read or written. What is left over is ready in the next turn, too, and then comes first.

        While there is news to tell, what others say waits for a while: their answers can be read when everybody knows.
        """
        now = self._loop.time()
        if self._services.news and now < self._telling_first_until:
            return
        end = now + _SERVE_SECONDS
        while now < end:
            ready = self._ready.poll(0, _EVENTS_AT_ONCE)
            for number, events in ready:
                connection = self._connections.get(number)
                if connection is None:
                    if number in self._listeners:
                        self._accept(*self._listeners[number])
                elif events & ~select.EPOLLOUT:
                    connection.readable(now)
                else:
                    connection.writable(now)
            if len(ready) < _EVENTS_AT_ONCE:
                return
            now = self._loop.time()

    def _greet(self) -> None:
        """A few steps of handshakes: each costs up to two milliseconds of cryptography."""
        for number, _ in self._door.poll(0, _HANDSHAKE_STEPS_EACH_TURN):
            if number in self._silent:
                begun = self._silent.pop(number)
                self._door.unregister(number)
                self._queue.append((begun.socket, begun.context, begun.peer))
                self._let_in()
                continue
            greeting = self._greetings[number]
            try:
                greeting.socket.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLWantWriteError:
                self._door.modify(number, select.EPOLLOUT)
                continue
            except OSError as error:
                log.info("no handshake", peer=greeting.peer, reason=str(error))
                self._greeted(greeting)
                greeting.socket.close()
            else:
                self._greeted(greeting)
                self._connected(greeting.socket, greeting.peer, _certificate_of(greeting.socket))
            self._let_in()

    def _wake(self) -> None:
        self._telling_first_until = self._loop.time() + TELLING_FIRST_SECONDS
        self._loop.call_soon(self._tell)

    def _tell(self) -> None:
        """Sends news to streams, for a few milliseconds; then the loop has its turn. A mistake of ours with one stream keeps it from no other."""
        news = self._services.news
        end = self._loop.time() + _TELL_SECONDS
        now = self._loop.time
        try:
            while news:
                news.popleft().publish()
                if now() > end:
                    break
        finally:
            if news:
                self._loop.call_soon(self._tell)

    # Coming and going.

    def _accept(self, listener: socket.socket, context: ssl.SSLContext | None) -> None:
        for _ in range(_EVENTS_AT_ONCE):
            if self._is_full() and not self._end_longest_silent():
                self._pause()
                return
            try:
                sock, address = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                log.warning("cannot accept a connection", error=str(error))
                self._pause()
                return
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            peer = f"ipv6:[{address[0]}]:{address[1]}" if ":" in address[0] else f"ipv4:{address[0]}:{address[1]}"
            if context is None:
                self._connected(sock, peer, "")
            else:
                self._silent[sock.fileno()] = _Silent(sock, context, peer, self._loop.time())
                self._door.register(sock.fileno(), select.EPOLLIN)

    def _is_full(self) -> bool:
        waiting = len(self._silent) + len(self._queue) + len(self._greetings)
        return len(self._connections) + waiting >= CONNECTIONS_MAX

    def _end_longest_silent(self) -> bool:
        """False if there is none."""
        if not self._silent:
            return False
        number = next(iter(self._silent))
        self._door.unregister(number)
        self._silent.pop(number).socket.close()
        return True

    def _let_in(self) -> None:
        """Handshakes that wait begin when others have ended: the memory and work under way have a bound."""
        while self._queue and len(self._greetings) < HANDSHAKES_AT_ONCE:
            sock, context, peer = self._queue.popleft()
            try:
                secure = context.wrap_socket(
                    sock, server_side=True, do_handshake_on_connect=False, suppress_ragged_eofs=True
                )
            except OSError:
                sock.close()
                continue
            greeting = _Greeting(secure, peer, self._loop.time())
            self._greetings[secure.fileno()] = greeting
            self._door.register(secure.fileno(), select.EPOLLIN)

    def _greeted(self, greeting: _Greeting) -> None:
        number = greeting.socket.fileno()
        self._door.unregister(number)
        del self._greetings[number]

    def _connected(self, sock: Socket, peer: str, certificate: str) -> None:
        now = self._loop.time()
        connection = Connection(sock, self._services, self, certificate=certificate, peer=peer, now=now)
        self._connections[sock.fileno()] = connection
        self._ready.register(sock.fileno(), select.EPOLLIN)
        connection.readable(now)
        connection.writable(now)

    def _pause(self) -> None:
        """There is no room: who wants to come waits in the kernel's queue, and those who are here are served."""
        if self._accepting:
            self._accepting = False
            for number in self._listeners:
                self._ready.modify(number, 0)
            self._loop.call_later(_NO_ROOM_SECONDS, self._resume)

    def _resume(self) -> None:
        self._accepting = True
        for number in self._listeners:
            self._ready.modify(number, select.EPOLLIN)

    def _sweep(self) -> None:
        """Once a second: who takes too long, who is silent, who does nothing."""
        self._sweeping = self._loop.call_later(1.0, self._sweep)
        now = self._loop.time()
        while self._silent and now - next(iter(self._silent.values())).began > HANDSHAKE_SECONDS:
            self._end_longest_silent()
        self._end_slow_greetings(now)
        self._let_in()
        for connection in list(self._connections.values()):
            self._look_after(connection, now)

    def _end_slow_greetings(self, now: float) -> None:
        """In the way of others after a tenth of its time is whoever has said nothing that we have not read."""
        heard = {number for number, _ in self._door.poll(0, CONNECTIONS_MAX)} if self._queue else set(self._greetings)
        for number, greeting in list(self._greetings.items()):
            took = now - greeting.began
            if took > HANDSHAKE_SECONDS or (number not in heard and took > HANDSHAKE_SECONDS / 10):
                self._greeted(greeting)
                greeting.socket.close()

    def _look_after(self, connection: Connection, now: float) -> None:
        silent = now - connection.heard
        if connection.has_calls:
            connection.used = now
        stalled = connection.wants_to_write and now - connection.moved > STALLED_SECONDS
        if stalled or silent > KEEPALIVE_SECONDS + KEEPALIVE_ANSWER_SECONDS:
            connection.close()
        elif connection.finished:
            if now - connection.moved > LAST_WORDS_SECONDS:
                connection.close()
        elif now - connection.used > (IDLE_SECONDS if connection.was_used else FIRST_CALL_SECONDS):
            connection.leave("UNAVAILABLE", "nothing was asked for", now)
        elif silent > KEEPALIVE_SECONDS and not connection.asked:
            connection.ask(now)

    # What connections ask for.

    def wants_to_write(self, connection: Connection, wanted: bool) -> None:
        self._ready.modify(connection.socket.fileno(), select.EPOLLIN | (select.EPOLLOUT if wanted else 0))

    def closed(self, connection: Connection) -> None:
        number = connection.socket.fileno()
        if self._connections.pop(number, None) is not None:
            with contextlib.suppress(OSError):
                self._ready.unregister(number)
        if not self._connections:
            self._empty.set()

    def kept(self, count: int) -> bool:
        self._kept += count
        return count <= 0 or self._kept <= _KEPT_BYTES_MAX


@asynccontextmanager
async def native_server(
    directory: Directory, unary: Mapping[str, Unary], streams: Streams, *, grace: float
) -> AsyncIterator[NativeServer]:
    """A server that serves until the block is left."""
    async with asyncio.TaskGroup() as tasks:
        server = NativeServer(directory, unary, streams, tasks)
        try:
            yield server
        finally:
            await server.stop(grace)


def _certificate_of(sock: ssl.SSLSocket) -> str:
    """The client's verified certificate, PEM; empty if it showed none."""
    encoded = sock.getpeercert(binary_form=True)
    return ssl.DER_cert_to_PEM_cert(encoded) if encoded else ""
