"""The teller's end: listens for askers, and tells each what it may know for as long as it is there.

An asker has a few seconds for its TLS handshake and for its first line, then for each answer. There is a bound on how many there are, and on
how many of one mesh. Whoever has not proved yet to be one of them takes no place of theirs: of such strangers there are few at a time, and
the next one that comes ends the one that has been there longest. One that reads slowly is told the newest once it has taken what it was told
before: nothing is queued for it.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import structlog

from isthmus.peering.messages import (
    LINE_BYTES_MAX,
    Goodbye,
    Hello,
    Malformed,
    News,
    Resources,
    Still,
    Taken,
    encode,
    from_asker,
    plainly,
)
from isthmus.peering.session import Telling

HANDSHAKE_SECONDS = 10.0
HELLO_SECONDS = 10.0
ANSWER_SECONDS = 30.0
STILL_SECONDS = 10.0
ASKERS_MAX = 256
ASKERS_OF_A_MESH_MAX = 128
STRANGERS_MAX = 64
_NO_ROOM_SECONDS = 0.2

log = structlog.get_logger()


class NotAdmitted(Exception):
    """An asker that is told nothing; the text is for it to read."""


class Feed:
    """What one asker may know, as of now. Whoever writes it may also end it, with a reason that the asker is told."""

    def __init__(self) -> None:
        self.refused: dict[str, str] = {}
        """What the asker cannot use, as it says."""
        self._resources: Resources | None = None
        self._changed = asyncio.Event()
        self._over = ""

    def put(self, resources: Resources) -> None:
        """Silent, if nothing is different."""
        if resources != self._resources:
            self._resources = resources
            self._changed.set()

    def end(self, why: str) -> None:
        self._over = why
        self._changed.set()

    async def newest(self) -> Resources:
        """Once something is new. Raises NotAdmitted when the feed has ended."""
        await self._changed.wait()
        self._changed.clear()
        if self._over:
            raise NotAdmitted(self._over)
        assert self._resources is not None, "set together with the event"
        return self._resources


Admit = Callable[[Hello, ssl.SSLObject], Feed]
"""Who the asker is follows from the certificate that it has shown. Raises NotAdmitted."""


class PeerServer:
    """Use `serving_peers`, which runs it."""

    def __init__(self, admit: Admit, gone: Callable[[Feed], None], context: ssl.SSLContext) -> None:
        self._admit = admit
        self._gone = gone
        self._context = context
        self._askers: Counter[str] = Counter()
        """By mesh, those that were admitted."""
        self._strangers: dict[asyncio.Task[None], None] = {}
        """The others, who came first first."""

    async def accept(self, listener: socket.socket, tasks: asyncio.TaskGroup) -> None:
        """Until cancelled. They are counted before their handshake."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, peer = await loop.sock_accept(listener)
            except OSError as error:  # Of descriptors there are none left, or whoever came is gone again.
                log.warning("no peer can be let in", error=str(error))
                await asyncio.sleep(_NO_ROOM_SECONDS)
                continue
            if len(self._strangers) >= STRANGERS_MAX:
                # Who is one of the peers needs moments for its proof.
                longest = next(iter(self._strangers))
                del self._strangers[longest]
                longest.cancel()
            task = tasks.create_task(self._serve(connection, str(peer)), name="peer")
            self._strangers[task] = None
            task.add_done_callback(self._no_stranger)
            await asyncio.sleep(0)  # It begins, and closes its connection however it ends.

    def _no_stranger(self, task: asyncio.Task[None]) -> None:
        self._strangers.pop(task, None)

    async def _serve(self, connection: socket.socket, peer: str) -> None:
        """From the handshake to the end."""
        reader = asyncio.StreamReader(limit=LINE_BYTES_MAX)
        protocol = asyncio.StreamReaderProtocol(reader)
        transport: asyncio.Transport | None = None
        try:
            loop = asyncio.get_running_loop()
            transport, _ = await loop.connect_accepted_socket(
                lambda: protocol, connection, ssl=self._context, ssl_handshake_timeout=HANDSHAKE_SECONDS
            )
            await self._converse(reader, asyncio.StreamWriter(transport, protocol, reader, loop))
        except NotAdmitted as refused:
            log.warning("peer refused", peer=peer, reason=str(refused))
            if transport is not None:
                transport.write(encode(Goodbye(str(refused))))
        except (Malformed, OSError, EOFError, TimeoutError, asyncio.LimitOverrunError) as error:
            log.info("peer gone", peer=peer, reason=str(error) or type(error).__name__)
        except Exception:  # Whatever a stranger does, it ends this connection, and nothing else.
            log.exception("a peer did what we did not expect", peer=peer)
        finally:
            if transport is not None:
                transport.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(HELLO_SECONDS):
            hello = from_asker(await reader.readuntil())
        if not isinstance(hello, Hello):
            raise Malformed("the first line is no hello")
        feed = self._admit(hello, writer.get_extra_info("ssl_object"))
        try:
            with self._place(hello.mesh):
                await _tell(feed, Telling(hello.known), reader, writer)
        finally:
            self._gone(feed)

    @contextmanager
    def _place(self, mesh: str) -> Iterator[None]:
        """For one of a mesh that is known now. Raises NotAdmitted where there is none left."""
        if self._askers.total() >= ASKERS_MAX or self._askers[mesh] >= ASKERS_OF_A_MESH_MAX:
            raise NotAdmitted("too many ask: there is no place left")
        task = asyncio.current_task()
        assert task is not None, "a coroutine runs in a task"
        self._no_stranger(task)
        self._askers[mesh] += 1
        try:
            yield
        finally:
            self._askers[mesh] -= 1


async def _tell(feed: Feed, telling: Telling, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until the feed or the connection ends."""
    while True:
        try:
            async with asyncio.timeout(STILL_SECONDS):
                resources = await feed.newest()
        except TimeoutError:
            await _say(writer, Still())
            continue
        for part in (news := telling.news(resources)):
            await _say(writer, part)
        if news:
            async with asyncio.timeout(ANSWER_SECONDS):
                taken = from_asker(await reader.readuntil())
            feed.refused = plainly(taken.refused) if isinstance(taken, Taken) else {}


async def _say(writer: asyncio.StreamWriter, message: News | Still) -> None:
    writer.write(encode(message))
    async with asyncio.timeout(ANSWER_SECONDS):
        await writer.drain()


@asynccontextmanager
async def serving_peers(server: PeerServer, host: str, port: int) -> AsyncIterator[int]:
    """While the block runs; gives the port, which is a free one for 0. Every connection ends with the block."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family, backlog=ASKERS_MAX) as listener:
        listener.setblocking(False)
        async with asyncio.TaskGroup() as tasks:
            work = tasks.create_task(_all_of(server, listener), name="peers that ask")
            try:
                yield int(listener.getsockname()[1])
            finally:
                work.cancel()


async def _all_of(server: PeerServer, listener: socket.socket) -> None:
    async with asyncio.TaskGroup() as tasks:
        await server.accept(listener, tasks)
