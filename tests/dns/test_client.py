"""Look-ups over real sockets on loopback."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_address

import pytest
from name_servers import LOOPBACK, Upstream, bound

from isthmus.dns.answers import failure
from isthmus.dns.client import Found, LookupFailed, NameServers

SECONDS = 60.0
Record = tuple[int, int, bytes]
"""Type, seconds, data."""


def reply(question: bytes, *records: Record, truncated: bool = False) -> bytes:
    end = question.index(b"\x00", 12) + 5
    head = struct.pack("!6H", int.from_bytes(question[:2]), 0x8380 if truncated else 0x8180, 1, len(records), 0, 0)
    body = b"".join(
        b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, seconds, len(data)) + data for kind, seconds, data in records
    )
    return head + question[12:end] + body


def a(address: str, seconds: int) -> Record:
    return 1, seconds, ip_address(address).packed


def is_for(question: bytes, kind: int) -> bool:
    return int.from_bytes(question[-4:-2]) == kind


@asynccontextmanager
async def asking(replies: Callable[[bytes], list[bytes]]) -> AsyncIterator[NameServers]:
    server = Upstream(replies)
    async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(server.run())
        yield NameServers([LOOPBACK], server.open_socket)
        running.cancel()


async def test_addresses_come_sorted_and_hold_as_long_as_the_shortest_part_of_the_way_to_them():
    alias = (5, 20, b"\x03elb\xc0\x0c")

    async with asking(lambda asked: [reply(asked, alias, a("192.0.2.9", 300), a("192.0.2.1", 60))]) as servers:
        assert await servers.look_up("lb.example.com", "A") == Found(("192.0.2.1", "192.0.2.9"), 20.0)


async def test_both_families_are_asked_by_their_own_questions():
    def replies(asked: bytes) -> list[bytes]:
        return [reply(asked, (28, 60, ip_address("2001:db8::1").packed)) if is_for(asked, 28) else reply(asked)]

    async with asking(replies) as servers:
        assert (await servers.look_up("lb.example.com", "AAAA")).addresses == ("2001:db8::1",)
        assert (await servers.look_up("lb.example.com", "A")).addresses == ()


async def test_what_does_not_fit_into_a_datagram_comes_over_tcp():
    many = [a(f"192.0.2.{number}", 60) for number in range(1, 200)]
    turns = iter([True, False])

    def replies(asked: bytes) -> list[bytes]:
        cut = next(turns)
        return [reply(asked, *([] if cut else many), truncated=cut)]

    async with asking(replies) as servers:
        assert len((await servers.look_up("lb.example.com", "A")).addresses) == 199


@pytest.mark.parametrize(
    ("replies", "why"),
    [
        (lambda asked: [failure(asked, 3)], "answers NXDOMAIN"),
        (lambda asked: [failure(asked, 2)], "answers SERVFAIL"),
        (lambda asked: [reply(asked, a("192.0.2.1", 60))[:-3]], "cannot be read"),
    ],
)
async def test_why_there_is_no_answer_is_said(replies, why):
    async with asking(replies) as servers:
        with pytest.raises(LookupFailed, match=why):
            await servers.look_up("lb.example.com", "A")


async def test_what_is_no_host_name_is_asked_of_nobody():
    async with asking(lambda asked: [reply(asked)]) as servers:
        with pytest.raises(LookupFailed, match="not a host name"):
            await servers.look_up("a" * 64 + ".example.com", "A")

        assert servers.asked == 0


async def test_a_server_that_is_not_there_is_passed_over():
    server = Upstream(lambda asked: [reply(asked, a("192.0.2.1", 60))])
    async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(server.run())
        servers = NameServers(["::1", LOOPBACK], server.open_socket)

        assert (await servers.look_up("lb.example.com", "A")).addresses == ("192.0.2.1",)
        running.cancel()


async def test_without_name_servers_it_is_said():
    with pytest.raises(LookupFailed, match="no name server"):
        await NameServers([], lambda kind, _: bound(kind)).look_up("lb.example.com", "A")
