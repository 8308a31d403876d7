"""The DNS proxy's sockets: UDP and TCP on sockets that are handed in, forwarding what the table does not have.

Its own questions to upstream servers carry the sidecar's socket mark, so capture does not bring them back here.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Sequence
from typing import cast

from isthmus.dns.answers import NameTable, Verdict, answer
from isthmus.dns.client import NameServers, OpenSocket

_TCP_CLIENTS_MAX = 128
_TCP_IDLE_SECONDS = 30.0


class DnsServer:
    """Serves one Pod. `table` may be replaced at any time."""

    def __init__(self, name_servers: Sequence[str], open_socket: OpenSocket) -> None:
        self.table: NameTable | None = None
        self.questions = 0
        self.upstream = NameServers(name_servers, open_socket)
        self._tcp_clients = asyncio.Semaphore(_TCP_CLIENTS_MAX)

    async def run(self, udp: socket.socket, tcp: socket.socket) -> None:
        """Until cancelled. Takes ownership of both sockets."""
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as tasks:
            transport, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self, tasks), sock=udp)
            server = await asyncio.start_server(self._serve_stream, sock=tcp)
            try:
                await asyncio.Event().wait()
            finally:
                transport.close()
                server.close()

    def answer_now(self, packet: bytes, *, over_udp: bool) -> bytes | Verdict:
        self.questions += 1
        return answer(packet, self.table, over_udp=over_udp, turn=self.questions)

    async def forward(self, packet: bytes, *, over_udp: bool) -> bytes:
        """What the Pod's own name servers answer."""
        return await self.upstream.ask(packet, over_udp=over_udp)

    async def _serve_stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Questions with a length before each (RFC 1035 section 4.2.2). A client that keeps silent is let go."""
        if self._tcp_clients.locked():
            writer.close()
            return
        async with self._tcp_clients:
            with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
                while True:
                    async with asyncio.timeout(_TCP_IDLE_SECONDS):
                        length = int.from_bytes(await reader.readexactly(2))
                        packet = await reader.readexactly(length)
                    reply = self.answer_now(packet, over_udp=False)
                    if reply is Verdict.IGNORE:
                        break
                    body = await self.forward(packet, over_udp=False) if isinstance(reply, Verdict) else reply
                    writer.write(len(body).to_bytes(2) + body)
                    await writer.drain()
            writer.close()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: DnsServer, tasks: asyncio.TaskGroup) -> None:
        self._server = server
        self._tasks = tasks
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not inherit from asyncio's.
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        assert self._transport is not None, "connected"
        reply = self._server.answer_now(data, over_udp=True)
        if isinstance(reply, bytes):
            self._transport.sendto(reply, addr)
        elif reply is Verdict.FORWARD:
            self._tasks.create_task(self._forward(data, addr), name="forward a question")

    async def _forward(self, packet: bytes, client: tuple[str, int]) -> None:
        reply = await self._server.forward(packet, over_udp=True)
        if self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(reply, client)
