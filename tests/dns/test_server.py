"""The real server on loopback, over UDP and TCP, with a real upstream server behind it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from name_servers import LOOPBACK, Upstream, bound

from isthmus.dns.answers import NameTable
from isthmus.dns.server import DnsServer

SECONDS = 60.0


class Asker:
    """A resolver as applications have it."""

    def __init__(self, server: DnsServer, udp: int, tcp: int) -> None:
        self.server = server
        self.udp = (LOOPBACK, udp)
        self.tcp = (LOOPBACK, tcp)

    async def over_udp(self, packet: bytes) -> bytes:
        loop = asyncio.get_running_loop()
        with bound(socket.SOCK_DGRAM) as mine:
            await loop.sock_sendto(mine, packet, self.udp)
            reply, sender = await loop.sock_recvfrom(mine, 65535)
        assert sender == self.udp
        return reply

    async def over_tcp(self, *packets: bytes) -> list[bytes]:
        reader, writer = await asyncio.open_connection(*self.tcp)
        for packet in packets:
            writer.write(len(packet).to_bytes(2) + packet)
        replies = []
        for _ in packets:
            replies.append(await reader.readexactly(int.from_bytes(await reader.readexactly(2))))
        writer.close()
        return replies

    async def raw_tcp(self, data: bytes) -> bytes:
        """What comes until the server closes."""
        reader, writer = await asyncio.open_connection(*self.tcp)
        writer.write(data)
        writer.write_eof()
        rest = await reader.read()
        writer.close()
        return rest


@asynccontextmanager
async def running(table: Any, upstream: Upstream | None = None, *, servers: int = 1) -> AsyncIterator[Asker]:
    server = DnsServer([LOOPBACK] * servers if upstream else [], upstream.open_socket if upstream else no_socket)
    server.table = table
    udp, tcp = bound(socket.SOCK_DGRAM), bound(socket.SOCK_STREAM)
    ports = udp.getsockname()[1], tcp.getsockname()[1]
    tcp.listen()
    async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as tasks:
        background = [tasks.create_task(server.run(udp, tcp))]
        if upstream:
            background.append(tasks.create_task(upstream.run()))
        yield Asker(server, *ports)
        for task in background:
            task.cancel()


def no_socket(_: int, __: str) -> socket.socket:
    raise AssertionError("there is nobody to ask")


@pytest.fixture
def upstream(dns):
    return Upstream(lambda question: [dns.reply(question, "192.0.2.1", "192.0.2.2")])


async def test_known_names_are_answered_over_udp_and_tcp_and_nobody_else_is_asked(dns, table, upstream):
    async with running(table, upstream) as asker:
        datagram = dns.read(await asker.over_udp(dns.ask("cart.shop")))
        stream = [dns.read(reply) for reply in await asker.over_tcp(dns.ask("cart.shop"), dns.ask("six.shop", "AAAA"))]

    assert datagram.addresses == ["10.97.0.1"]
    assert [reply.addresses for reply in stream] == [["10.97.0.1"], ["fd00::6"]]
    assert upstream.asked == []
    assert (asker.server.questions, asker.server.upstream.asked) == (3, 0)


async def test_an_answer_cut_off_over_udp_is_whole_over_tcp(dns, table):
    async with running(table) as asker:
        datagram = dns.read(await asker.over_udp(dns.ask("huge.shop")))
        (stream,) = await asker.over_tcp(dns.ask("huge.shop"))

    assert datagram.truncated
    assert len(dns.read(stream).addresses) == 300


async def test_other_names_are_asked_upstream_in_the_way_that_they_were_asked_here(dns, table, upstream):
    question = dns.ask("www.python.org", identifier=4711)

    async with running(table, upstream) as asker:
        datagram = dns.read(await asker.over_udp(question))
        (stream,) = await asker.over_tcp(question)

    assert datagram.identifier == 4711
    assert datagram.addresses == dns.read(stream).addresses == ["192.0.2.1", "192.0.2.2"]
    assert upstream.asked == [question, question]
    assert (asker.server.upstream.asked, asker.server.upstream.failed) == (2, 0)


async def test_a_name_that_is_asked_for_again_is_not_asked_for_upstream_again(dns, table, upstream):
    async with running(table, upstream) as asker:
        replies = [dns.read(await asker.over_udp(dns.ask("www.python.org", identifier=each))) for each in (1, 2, 3)]
        other = dns.read(await asker.over_udp(dns.ask("docs.python.org")))

    assert [reply.identifier for reply in replies] == [1, 2, 3]
    assert [reply.addresses for reply in replies] == [["192.0.2.1", "192.0.2.2"]] * 3
    assert other.question == ("docs.python.org", "A")
    assert upstream.asked == [dns.ask("www.python.org", identifier=1), dns.ask("docs.python.org")]


async def test_many_questions_at_once_get_each_its_own_answer(dns, table, upstream):
    names = [f"host-{number}.example.org" for number in range(60)]

    async with running(table, upstream) as asker:
        replies = await asyncio.gather(
            *(asker.over_udp(dns.ask(name, identifier=number)) for number, name in enumerate(names))
        )

    read = [dns.read(reply) for reply in replies]
    assert [reply.question for reply in read] == [(name, "A") for name in names]
    assert [reply.identifier for reply in read] == list(range(60))


async def test_without_upstream_servers_other_names_do_not_exist(dns, table):
    async with running(table) as asker:
        reply = dns.read(await asker.over_udp(dns.ask("www.python.org")))

    assert (reply.code, reply.question) == ("NXDOMAIN", ("www.python.org", "A"))


async def test_before_the_first_table_nobody_is_asked_and_after_it_the_name_is_there(dns, table, upstream):
    async with running(None, upstream) as asker:
        before = dns.read(await asker.over_udp(dns.ask("cart.shop")))
        asker.server.table = table
        after = dns.read(await asker.over_udp(dns.ask("cart.shop")))

    assert (before.code, after.code, after.addresses) == ("SERVFAIL", "NOERROR", ["10.97.0.1"])
    assert upstream.asked == []


async def test_a_forged_reply_is_passed_over_and_the_right_one_behind_it_is_taken(dns, table):
    """Whoever guesses the port could otherwise make every name fail, or lead anywhere."""
    upstream = Upstream(
        lambda question: [dns.reply(question, "203.0.113.66", identifier=9), dns.reply(question, "192.0.2.1")]
    )

    async with running(table, upstream) as asker:
        reply = dns.read(await asker.over_udp(dns.ask("www.python.org")))

    assert reply.addresses == ["192.0.2.1"]


async def test_an_upstream_server_that_is_not_there_is_a_failure_to_try_again(dns, table):
    nobody = bound(socket.SOCK_STREAM)

    class Absent(Upstream):
        def __init__(self) -> None:
            self._tcp = nobody

        async def run(self) -> None:
            await asyncio.Event().wait()

    with nobody:
        async with running(table, Absent()) as asker:
            (reply,) = await asker.over_tcp(dns.ask("www.python.org"))

    assert dns.read(reply).code == "SERVFAIL"
    assert asker.server.upstream.failed == 1


async def test_so_many_questions_wait_for_name_servers_and_the_next_is_to_be_asked_again(dns, table, monkeypatch):
    """The name server never answers; who floods it with other names takes no more sockets than that."""
    monkeypatch.setattr("isthmus.dns.client._AT_ONCE_MAX", 2)
    upstream = Upstream(lambda _: [])
    async with running(table, upstream) as asker, asyncio.TaskGroup() as tasks:
        waiting = [tasks.create_task(asker.over_udp(dns.ask(f"{name}.example.org"))) for name in "ab"]
        while len(upstream.asked) < 2:  # noqa: ASYNC110 - nobody is called for it
            await asyncio.sleep(0.01)
        reply = dns.read(await asker.over_udp(dns.ask("c.example.org")))
        for task in waiting:
            task.cancel()

    assert reply.code == "SERVFAIL"
    assert len(upstream.asked) == 2


async def test_nonsense_disturbs_nobody(dns, table):
    async with running(table) as asker:
        with bound(socket.SOCK_DGRAM) as mine:
            for packet in (b"", b"\x00", b"\xff" * 600, dns.reply(dns.ask("cart.shop"), "192.0.2.1")):
                await asyncio.get_running_loop().sock_sendto(mine, packet, asker.udp)
        closed = [
            await asker.raw_tcp(data)
            for data in (b"", b"\x00", b"\x00\x00", b"\xff\xffhello", b"\x00\x0c" + b"\xff" * 12)
        ]
        reply = dns.read(await asker.over_udp(dns.ask("cart.shop")))

    assert closed == [b""] * 5
    assert reply.addresses == ["10.97.0.1"]


async def test_a_client_that_goes_away_before_its_answer_disturbs_nobody(dns, table):
    async with running(table) as asker:
        for _ in range(3):
            _, writer = await asyncio.open_connection(*asker.tcp)
            packet = dns.ask("huge.shop")
            writer.write((len(packet).to_bytes(2) + packet) * 100)
            writer.transport.abort()
        (reply,) = await asker.over_tcp(dns.ask("cart.shop"))

    assert dns.read(reply).addresses == ["10.97.0.1"]


async def test_what_is_cut_off_upstream_is_fetched_over_tcp_for_a_client_that_takes_as_much(dns, table):
    def replies(question: bytes) -> list[bytes]:
        """Cut off at first, which is over UDP; then whole."""
        cut = len(upstream.asked) % 2 == 1
        whole = dns.reply(question, *(f"192.0.2.{number}" for number in range(1, 40)))
        return [dns.reply(question)[:2] + b"\x83\x80" + dns.reply(question)[4:] if cut else whole]

    upstream = Upstream(replies)
    async with running(table, upstream) as asker:
        large = dns.read(await asker.over_udp(dns.ask("many.example.org", payload=1232)))
        small = dns.read(await asker.over_udp(dns.ask("many.example.org")))

    assert (large.truncated, len(large.addresses)) == (False, 39)
    assert (small.truncated, len(small.addresses)) == (True, 0)
    assert len(upstream.asked) == 4


async def test_a_server_that_fails_is_not_the_last_word(dns, table):
    """As resolvers do: another server may know."""
    upstream = Upstream(lambda question: [failing(dns, question) if first() else dns.reply(question, "192.0.2.1")])
    turns = iter(range(100))

    def first() -> bool:
        return next(turns) == 0

    async with running(table, upstream, servers=2) as asker:
        reply = dns.read(await asker.over_udp(dns.ask("www.python.org")))

    assert reply.addresses == ["192.0.2.1"]
    assert len(upstream.asked) == 2


async def test_when_every_server_fails_their_failure_is_told(dns, table):
    upstream = Upstream(lambda question: [failing(dns, question)])

    async with running(table, upstream, servers=2) as asker:
        reply = dns.read(await asker.over_udp(dns.ask("www.python.org")))

    assert reply.code == "SERVFAIL"
    assert len(upstream.asked) == 2
    assert asker.server.upstream.failed == 1


def failing(dns, question: bytes) -> bytes:
    answered = dns.reply(question)
    return answered[:3] + bytes([answered[3] & 0xF0 | 2]) + answered[4:]


async def test_a_flood_of_questions_is_answered_in_order_and_other_work_gets_its_turn(dns, table):
    async with running(table) as asker:
        loop = asyncio.get_running_loop()
        with bound(socket.SOCK_DGRAM) as mine:
            for number in range(200):
                await loop.sock_sendto(mine, dns.ask("cart.shop", identifier=number), asker.udp)
            (over_tcp,) = await asker.over_tcp(dns.ask("six.shop", "AAAA"))
            replies = [dns.read(await loop.sock_recv(mine, 4096)) for _ in range(200)]

    assert [reply.identifier for reply in replies] == list(range(200))
    assert {tuple(reply.addresses) for reply in replies} == {("10.97.0.1",)}
    assert dns.read(over_tcp).addresses == ["fd00::6"]


async def test_a_new_table_is_in_force_for_questions_that_were_asked_before(dns, table):
    async with running(table) as asker:
        before = dns.read(await asker.over_udp(dns.ask("cart.shop")))
        asker.server.table = NameTable.prepare([], namespace="shop", dns_domain="cluster.local")
        after = dns.read(await asker.over_udp(dns.ask("cart.shop")))

    assert (before.code, after.code) == ("NOERROR", "NXDOMAIN")


async def until_let_go(reader: asyncio.StreamReader) -> bytes:
    with contextlib.suppress(ConnectionError):
        return await reader.read()
    return b""


@pytest.mark.parametrize("begun", [b"", b"\x00", b"\x00\x20begun"])
async def test_a_client_over_tcp_that_does_not_finish_its_question_is_let_go(dns, table, monkeypatch, begun):
    monkeypatch.setattr("isthmus.dns.server._TCP_SECONDS", 0.1)
    async with running(table) as asker:
        reader, writer = await asyncio.open_connection(*asker.tcp)
        writer.write(begun)

        assert await until_let_go(reader) == b""
        writer.close()


async def test_a_question_that_comes_byte_by_byte_gains_no_time(dns, table, monkeypatch):
    monkeypatch.setattr("isthmus.dns.server._TCP_SECONDS", 0.2)
    async with running(table) as asker:
        reader, writer = await asyncio.open_connection(*asker.tcp)
        gone = asyncio.ensure_future(until_let_go(reader))
        writer.write(b"\xff\xff")
        dripped = 0
        while not gone.done():
            writer.write(b"x")
            dripped += 1
            await asyncio.sleep(0.01)

        assert await gone == b""
        assert 1 < dripped < 200, "long before the question is whole, or the test is at its end"
        writer.close()


async def test_a_client_over_tcp_that_takes_no_answers_is_let_go(dns, table, monkeypatch):
    """It asks on and on; what ends that is the end of its connection."""
    monkeypatch.setattr("isthmus.dns.server._TCP_SECONDS", 1.0)
    async with running(table) as asker:
        loop, packet = asyncio.get_running_loop(), dns.ask("huge.shop")
        with socket.socket() as mine:
            mine.setblocking(False)
            await loop.sock_connect(mine, asker.tcp)
            with contextlib.suppress(ConnectionError):
                while True:
                    await loop.sock_sendall(mine, (len(packet).to_bytes(2) + packet) * 1000)
        (reply,) = await asker.over_tcp(dns.ask("cart.shop"))

    assert dns.read(reply).addresses == ["10.97.0.1"]


async def test_a_crowd_over_tcp_makes_room_by_who_asked_longest_ago(dns, table, monkeypatch):
    monkeypatch.setattr("isthmus.dns.server._TCP_CLIENTS_MAX", 2)
    packet = dns.ask("cart.shop")
    question = len(packet).to_bytes(2) + packet
    async with running(table) as asker:
        asking, its_writer = await asyncio.open_connection(*asker.tcp)
        silent, silent_writer = await asyncio.open_connection(*asker.tcp)
        for reader, writer in ((asking, its_writer), (silent, silent_writer), (asking, its_writer)):
            writer.write(question)
            await reader.readexactly(int.from_bytes(await reader.readexactly(2)))
        (reply,) = await asker.over_tcp(packet)

        assert dns.read(reply).addresses == ["10.97.0.1"]
        assert await until_let_go(silent) == b""
        its_writer.write(question)
        assert await asking.readexactly(2), "who asks stays"
        for each in (its_writer, silent_writer):
            each.close()
