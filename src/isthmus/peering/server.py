"""The teller's end: listens for askers, and tells each what it may know for as long as it is there.

An asker has a few seconds for its TLS handshake and for its first line, then for each answer. There is a bound on how many there are. One
that reads slowly is told the newest once it has taken what it was told before: nothing is queued for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

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
)
from isthmus.peering.session import Telling

HANDSHAKE_SECONDS = 10.0
HELLO_SECONDS = 10.0
ANSWER_SECONDS = 30.0
STILL_SECONDS = 10.0
ASKERS_MAX = 256

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

    def __init__(self, admit: Admit, gone: Callable[[Feed], None]) -> None:
        self._admit = admit
        self._gone = gone
        self._askers: set[asyncio.StreamWriter] = set()

    def end(self) -> None:
        """Closes every connection."""
        for writer in list(self._askers):
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from its first line to its end."""
        peer = writer.get_extra_info("peername")
        self._askers.add(writer)
        try:
            if len(self._askers) > ASKERS_MAX:
                raise NotAdmitted("there are too many askers")
            await self._converse(reader, writer)
        except NotAdmitted as refused:
            log.warning("peer refused", peer=peer, reason=str(refused))
            with contextlib.suppress(OSError):
                writer.write(encode(Goodbye(str(refused))))
        except (Malformed, OSError, EOFError, TimeoutError, ValueError) as error:
            log.info("peer gone", peer=peer, reason=str(error) or type(error).__name__)
        finally:
            self._askers.discard(writer)
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(HELLO_SECONDS):
            hello = from_asker(await reader.readuntil())
        if not isinstance(hello, Hello):
            raise Malformed("the first line is no hello")
        feed = self._admit(hello, writer.get_extra_info("ssl_object"))
        try:
            telling = Telling(hello.known)
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
                    feed.refused = taken.refused if isinstance(taken, Taken) else {}
        finally:
            self._gone(feed)


async def _say(writer: asyncio.StreamWriter, message: News | Still) -> None:
    writer.write(encode(message))
    async with asyncio.timeout(ANSWER_SECONDS):
        await writer.drain()


@asynccontextmanager
async def serving_peers(
    server: PeerServer, context: ssl.SSLContext, host: str, port: int
) -> AsyncIterator[asyncio.Server]:
    """While the block runs."""
    listening = await asyncio.start_server(
        server.serve, host, port, ssl=context, limit=LINE_BYTES_MAX, ssl_handshake_timeout=HANDSHAKE_SECONDS
    )
    try:
        yield listening
    finally:
        listening.close()
        server.end()
