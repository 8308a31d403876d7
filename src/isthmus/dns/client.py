"""Asks name servers: one packet after another server, and whole look-ups with the time for which their answers hold."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from isthmus.dns.answers import NXDOMAIN, REFUSED, SERVFAIL, failure, is_answer_to, room_over_udp
from isthmus.dns.query import question, read_reply

_UPSTREAM_SECONDS = 5.0
_AT_ONCE_MAX = 256
_TRUNCATED = 0x02
"""In the third byte of an answer: there is more, and TCP has it."""

OpenSocket = Callable[[int, str], socket.socket]
"""Opens a socket of a type (SOCK_DGRAM, SOCK_STREAM) from which the name server of an address is asked."""


class LookupFailed(Exception):
    """There is no answer: the text says why."""


@dataclass(frozen=True, slots=True)
class Found:
    """A name's addresses of one family, sorted; none if it has none of that family. They hold for some seconds."""

    addresses: tuple[str, ...]
    seconds: float


class NameServers:
    """Some servers, asked in their order."""

    def __init__(self, addresses: Sequence[str], open_socket: OpenSocket) -> None:
        self.asked = 0
        self.failed = 0
        self._addresses = tuple(addresses)
        self._open_socket = open_socket
        self._questions = asyncio.Semaphore(_AT_ONCE_MAX)

    async def look_up(self, name: str, kind: str) -> Found:
        """Addresses of a type, A or AAAA, of a name that is written out in full. Raises LookupFailed."""
        if not self._addresses:
            raise LookupFailed("there is no name server to ask")
        try:
            packet = question(name, kind, secrets.randbits(16))
        except ValueError as error:
            raise LookupFailed(str(error)) from None
        reply = await self.ask(packet, over_udp=True)
        if reply[2] & _TRUNCATED:
            reply = await self.ask(packet, over_udp=False)
        try:
            said = read_reply(reply)
        except (ValueError, IndexError, struct.error):
            raise LookupFailed("the name server's answer cannot be read") from None
        if said["rcode"] != "NOERROR":
            raise LookupFailed(f"the name server answers {said['rcode']}")
        # What leads to the addresses, by aliases, holds no longer than its shortest part.
        return Found(
            tuple(sorted(each["data"] for each in said["answers"] if each["type"] == kind)),
            float(min((each["ttl"] for each in said["answers"]), default=0)),
        )

    @property
    def is_empty(self) -> bool:
        return not self._addresses

    def nobody(self, packet: bytes) -> bytes:
        """The answer where there is no server: nobody else knows the name either."""
        return failure(packet, NXDOMAIN)

    async def ask(self, packet: bytes, *, over_udp: bool) -> bytes:
        """The first answer of a server that does not fail; what failing ones say, if there is no other; SERVFAIL where none answers."""
        if not self._addresses:
            return self.nobody(packet)
        if self._questions.locked():
            return failure(packet, SERVFAIL)
        refused = b""
        async with self._questions:
            self.asked += 1
            for server in self._addresses:
                reply = await self._answer_of(server, packet, over_udp=over_udp)
                if reply and reply[3] & 0xF not in (SERVFAIL, REFUSED):
                    return reply
                refused = refused or reply
        self.failed += 1
        return refused or failure(packet, SERVFAIL)

    async def _answer_of(self, server: str, packet: bytes, *, over_udp: bool) -> bytes:
        """Empty for a server that does not answer, or not this question."""
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
            async with asyncio.timeout(_UPSTREAM_SECONDS):
                reply = await self._ask(server, packet, over_udp=over_udp)
                return reply if is_answer_to(reply, packet) else b""
        return b""

    async def ask_for_datagram(self, packet: bytes) -> bytes:
        """The answer for a client that asks over UDP. One that comes cut off is fetched whole over TCP, if the client takes that much; else the
        part tells it to ask over TCP itself.
        """
        reply = await self.ask(packet, over_udp=True)
        if reply[2] & _TRUNCATED:
            whole = await self.ask(packet, over_udp=False)
            return whole if len(whole) <= room_over_udp(packet) and whole[3] & 0xF == reply[3] & 0xF else reply
        return reply

    async def _ask(self, server: str, packet: bytes, *, over_udp: bool) -> bytes:
        loop = asyncio.get_running_loop()
        with self._open_socket(socket.SOCK_DGRAM if over_udp else socket.SOCK_STREAM, server) as upstream:
            upstream.setblocking(False)
            if over_udp:
                # Neither waits for anybody, so neither needs the loop.
                upstream.connect((server, 53))
                upstream.send(packet)
                # Whoever guesses the port can send, too: what is not the answer is passed over.
                while not is_answer_to(reply := await loop.sock_recv(upstream, 65535), packet):
                    pass
                return reply
            await loop.sock_connect(upstream, (server, 53))
            await loop.sock_sendall(upstream, len(packet).to_bytes(2) + packet)
            length = int.from_bytes(await _exactly(loop, upstream, 2))
            return await _exactly(loop, upstream, length)


def resolver_of(text: str) -> tuple[list[str], list[str]]:
    """Name servers and search domains of a resolv.conf; of several search lines the last counts."""
    servers: list[str] = []
    domains: list[str] = []
    for line in text.splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver":
            servers.append(words[1])
        elif len(words) > 1 and words[0] in ("search", "domain"):
            domains = words[1:]
    return servers, domains


async def _exactly(loop: asyncio.AbstractEventLoop, connection: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size:
        part = await loop.sock_recv(connection, size - len(received))
        if not part:
            raise asyncio.IncompleteReadError(received, size)
        received += part
    return received
