"""A name server on loopback with a memory."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

LOOPBACK = "127.0.0.1"


def bound(kind: int) -> socket.socket:
    found = socket.socket(socket.AF_INET, kind)
    found.bind((LOOPBACK, 0))
    found.setblocking(False)
    return found


class Upstream:
    """A name server for the rest of the world. Remembers what it was asked; `replies` makes the replies to a question."""

    def __init__(self, replies: Callable[[bytes], list[bytes]]) -> None:
        self.asked: list[bytes] = []
        self._replies = replies
        self._udp, self._tcp = bound(socket.SOCK_DGRAM), bound(socket.SOCK_STREAM)
        self._tcp.listen()

    def open_socket(self, kind: int, _to: str) -> socket.socket:
        """Where the product's port 53 leads here."""
        port = (self._udp if kind == socket.SOCK_DGRAM else self._tcp).getsockname()[1]

        class Redirected(socket.socket):
            def connect(self, address: Any) -> None:
                super().connect((address[0], port))

        return Redirected(socket.AF_INET, kind)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._datagrams())
            tasks.create_task(self._streams())

    async def _datagrams(self) -> None:
        loop = asyncio.get_running_loop()
        with self._udp:
            while True:
                packet, client = await loop.sock_recvfrom(self._udp, 4096)
                self.asked.append(packet)
                for reply in self._replies(packet):
                    await loop.sock_sendto(self._udp, reply, client)

    async def _streams(self) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            packet = await reader.readexactly(int.from_bytes(await reader.readexactly(2)))
            self.asked.append(packet)
            for reply in self._replies(packet):
                writer.write(len(reply).to_bytes(2) + reply)
            writer.close()

        async with await asyncio.start_server(serve, sock=self._tcp) as server:
            await server.serve_forever()
