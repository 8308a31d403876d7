"""The DNS proxy's sockets: UDP and TCP on sockets that are handed in, forwarding what the table does not have.

Its own questions to upstream servers carry the sidecar's socket mark, so capture does not bring them back here.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Sequence
from typing import cast

from isthmus.dns.answers import NXDOMAIN, SERVFAIL, NameTable, Verdict, answer, failure, is_answer_to

_UPSTREAM_SECONDS = 5.0
_FORWARDS_MAX = 256
_TCP_CLIENTS_MAX = 128
_TCP_IDLE_SECONDS = 30.0

OpenSocket = Callable[[int], socket.socket]
"""Opens a socket of a type (SOCK_DGRAM, SOCK_STREAM) from which upstream servers are asked."""


class DnsServer:
    """Serves one Pod. `table` may be replaced at any time."""

    def __init__(self, name_servers: Sequence[str], open_socket: OpenSocket) -> None:
        self.table: NameTable | None = None
        self.questions = 0
        self.forwarded = 0
        self.failed_forwards = 0
        self._name_servers = tuple(name_servers)
        self._open_socket = open_socket
        self._forwards = asyncio.Semaphore(_FORWARDS_MAX)
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
        """The first upstream server's answer; NXDOMAIN where the Pod has none, SERVFAIL where none answers."""
        if not self._name_servers:
            return failure(packet, NXDOMAIN)
        if self._forwards.locked():
            return failure(packet, SERVFAIL)
        async with self._forwards:
            self.forwarded += 1
            for server in self._name_servers:
                with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
                    async with asyncio.timeout(_UPSTREAM_SECONDS):
                        reply = await self._ask(server, packet, over_udp=over_udp)
                        if is_answer_to(reply, packet):
                            return reply
        self.failed_forwards += 1
        return failure(packet, SERVFAIL)

    async def _ask(self, server: str, packet: bytes, *, over_udp: bool) -> bytes:
        loop = asyncio.get_running_loop()
        with self._open_socket(socket.SOCK_DGRAM if over_udp else socket.SOCK_STREAM) as upstream:
            upstream.setblocking(False)
            await loop.sock_connect(upstream, (server, 53))
            if over_udp:
                await loop.sock_sendall(upstream, packet)
                # Whoever guesses the port can send, too: what is not the answer is passed over.
                while not is_answer_to(reply := await loop.sock_recv(upstream, 65535), packet):
                    pass
                return reply
            await loop.sock_sendall(upstream, len(packet).to_bytes(2) + packet)
            length = int.from_bytes(await _exactly(loop, upstream, 2))
            return await _exactly(loop, upstream, length)

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


async def _exactly(loop: asyncio.AbstractEventLoop, connection: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size:
        part = await loop.sock_recv(connection, size - len(received))
        if not part:
            raise asyncio.IncompleteReadError(received, size)
        received += part
    return received
