"""The DNS proxy's sockets: UDP and TCP on sockets that are handed in, forwarding what the table does not have.

Its own questions to upstream servers carry the sidecar's socket mark, so capture does not bring them back here. Datagrams are taken and answered
many at a time, without a task or a transport for each: that is what most questions cost.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Sequence

from isthmus.dns.answers import SERVFAIL, NameTable, Verdict, answer, failure
from isthmus.dns.client import NameServers, OpenSocket
from isthmus.dns.heard import HeardAnswers

_TCP_CLIENTS_MAX = 128
_TCP_SECONDS = 30.0
"""For a client to say its next question, and again to take the answer."""
_QUESTION_BYTES_MAX = 4096
_AT_ONCE = 64
"""Datagrams that are answered before anything else gets its turn."""


class DnsServer:
    """Serves one Pod. `table` may be replaced at any time."""

    def __init__(self, name_servers: Sequence[str], open_socket: OpenSocket) -> None:
        self.table: NameTable | None = None
        self.questions = 0
        self.upstream = NameServers(name_servers, open_socket)
        self._heard = HeardAnswers()
        self._tcp_clients: dict[asyncio.StreamWriter, None] = {}
        """The one that asked longest ago comes first."""

    async def run(self, udp: socket.socket, tcp: socket.socket) -> None:
        """Until cancelled. Takes ownership of both sockets."""
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as tasks:
            loop.add_reader(udp, self._take_datagrams, udp, tasks)
            server = await asyncio.start_server(self._serve_stream, sock=tcp)
            try:
                await asyncio.Event().wait()
            finally:
                loop.remove_reader(udp)
                udp.close()
                server.close()

    def answer_now(self, packet: bytes, *, over_udp: bool) -> bytes | Verdict:
        """From the table, or as a name server said a moment ago; the rest is for `forward`, if there is anybody to ask."""
        self.questions += 1
        if over_udp and self.table is not None:
            reply = self.table.datagram(packet, self.questions)
        else:
            reply = answer(packet, self.table, over_udp=over_udp, turn=self.questions)
        if reply is not Verdict.FORWARD:
            return reply
        if self.upstream.is_empty:
            return self.upstream.nobody(packet)
        return (self._heard.find(packet, time.monotonic()) if over_udp else None) or reply

    async def forward(self, packet: bytes, *, over_udp: bool) -> bytes:
        """What the Pod's own name servers answer."""
        if not over_udp:
            return await self.upstream.ask(packet, over_udp=False)
        reply = await self.upstream.ask_for_datagram(packet)
        self._heard.keep(packet, reply, time.monotonic())
        return reply

    async def _serve_stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Until the client goes, is too slow, or is in the way of one more."""
        if len(self._tcp_clients) >= _TCP_CLIENTS_MAX:
            longest = next(iter(self._tcp_clients))
            del self._tcp_clients[longest]
            longest.transport.abort()
        self._tcp_clients[writer] = None
        # Nothing is left to send once an answer is taken, so the end of a connection waits for nobody.
        writer.transport.set_write_buffer_limits(0)
        try:
            with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
                while await self._answered(reader, writer) and writer in self._tcp_clients:
                    self._tcp_clients[writer] = self._tcp_clients.pop(writer)
        finally:
            self._tcp_clients.pop(writer, None)
            writer.transport.abort()

    async def _answered(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """A question with its length before it (RFC 1035 section 4.2.2). False for what is none."""
        async with asyncio.timeout(_TCP_SECONDS):
            length = int.from_bytes(await reader.readexactly(2))
            packet = await reader.readexactly(length)
        reply = self.answer_now(packet, over_udp=False)
        if reply is Verdict.IGNORE:
            return False
        body = await self.forward(packet, over_udp=False) if isinstance(reply, Verdict) else reply
        writer.write(len(body).to_bytes(2) + body)
        async with asyncio.timeout(_TCP_SECONDS):
            await writer.drain()
        return True

    def _take_datagrams(self, udp: socket.socket, tasks: asyncio.TaskGroup) -> None:
        """What has come, until there is no more. A client that has gone, or takes nothing, is not waited for: it asks again."""
        for _ in range(_AT_ONCE):
            try:
                packet, client = udp.recvfrom(_QUESTION_BYTES_MAX)
            except BlockingIOError:
                return
            except OSError:
                continue  # The kernel tells here that an answer before did not arrive.
            reply = self.answer_now(packet, over_udp=True)
            if isinstance(reply, bytes):
                _send(udp, reply, client)
            elif reply is Verdict.FORWARD:
                tasks.create_task(self._forward(udp, packet, client), name="forward a question")

    async def _forward(self, udp: socket.socket, packet: bytes, client: tuple[str, int]) -> None:
        try:
            reply = await self.forward(packet, over_udp=True)
        except OSError:
            reply = failure(packet, SERVFAIL)
        if udp.fileno() >= 0:
            _send(udp, reply, client)


def _send(udp: socket.socket, reply: bytes, client: tuple[str, int]) -> None:
    with contextlib.suppress(OSError):
        udp.sendto(reply, client)
