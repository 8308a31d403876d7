"""A tunnel over loopback, with real TLS: what comes in outside arrives inside, by whoever is who they should be."""

from __future__ import annotations

import array
import asyncio
import contextlib
import fcntl
import socket
import ssl
import termios
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from structlog.testing import capture_logs

from isthmus.agent.certificates import Certificate
from isthmus.agent.tunnel import STILL, USE, Account, Ends, Inside, Outside, Pair
from isthmus.model.identity import SpiffeId
from isthmus.model.names import Namespace
from isthmus.trust import x509
from isthmus.trust.authority import CertificateAuthority

SECONDS = 60.0
PORT = 15443
MUCH = b"much"
"""Is answered by more than the kernel's buffers hold."""


def certificate(authority: CertificateAuthority, account: str) -> Certificate:
    key, identity = x509.new_key(), SpiffeId.parse(f"spiffe://cluster.local/ns/istio-system/sa/{account}")
    chain = authority.sign(x509.new_request(key), identity, datetime.now(UTC), timedelta(hours=1))
    return Certificate("".join(chain[:-1]), x509.key_pem(key), chain[-1])


def ends(authority: CertificateAuthority, own: str, peer: str) -> Ends:
    shown = certificate(authority, own)
    return Ends(lambda: shown, Account(Namespace("istio-system"), peer), lambda: None)


@asynccontextmanager
async def tunnel(
    authority: CertificateAuthority, *, dialler: str = "inside", accepts: str = "inside"
) -> AsyncIterator[tuple[Outside, int, list[bytes]]]:
    """The outside, the port for its callers, and what the target behind the inside has heard. It answers in capital letters."""
    heard: list[bytes] = []

    async def target(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1000):
            heard.append(data)
            writer.write(data.upper() * (8_000_000 if data == MUCH else 1))
            await writer.drain()
        writer.close()

    own = ends(authority, "outside", accepts)
    outside = Outside(own)
    behind = await asyncio.start_server(target, "127.0.0.1", 0)
    dialled = await asyncio.start_server(outside.serve_inside, "127.0.0.1", 0, ssl=own.context(server=True))
    called = await asyncio.start_server(partial(outside.serve_caller, PORT), "127.0.0.1", 0)
    ports = [server.sockets[0].getsockname()[1] for server in (behind, dialled, called)]
    inside = Inside(ends(authority, dialler, "outside"), ("127.0.0.1", ports[1]), {PORT: ("127.0.0.1", ports[0])}, 3)
    async with asyncio.timeout(SECONDS), behind, dialled, called, asyncio.TaskGroup() as tasks:
        running = tasks.create_task(inside.run())
        yield outside, ports[2], heard
        running.cancel()


def unread(connection: socket.socket) -> int:
    """Bytes that have arrived."""
    return int(array.array("i", fcntl.ioctl(connection, termios.FIONREAD, bytes(4)))[0])


async def call(port: int, said: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(said)
    answer = await reader.read(1000)
    writer.close()
    return answer


async def test_each_caller_has_a_connection_of_its_own_and_new_ones_are_ready(authority):
    async with tunnel(authority) as (outside, port, heard):
        answers = await asyncio.gather(*(call(port, f"call {number}".encode()) for number in range(12)))
        while outside.ready < 3:  # noqa: ASYNC110 - the other end dials
            await asyncio.sleep(0.01)

    assert sorted(answers) == sorted(f"CALL {number}".encode() for number in range(12))
    assert len(heard) == 12


async def test_a_caller_that_comes_before_the_inside_waits_for_it(authority):
    async with tunnel(authority) as (_, port, _heard):
        assert await call(port, b"early") == b"EARLY"


@pytest.mark.parametrize(("dialler", "accepts"), [("thief", "inside"), ("inside", "another")])
async def test_who_is_not_the_account_that_is_expected_is_no_end_of_a_tunnel(authority, dialler, accepts, monkeypatch):
    monkeypatch.setattr("isthmus.agent.tunnel._WAIT_SECONDS", 0.5)

    async with tunnel(authority, dialler=dialler, accepts=accepts) as (outside, port, heard):
        answer = await call(port, b"hello")
        ready = outside.ready

    assert (answer, heard, ready) == (b"", [], 0)


async def test_a_caller_of_a_port_where_nothing_listens_inside_is_told_at_once_and_costs_one_connection(
    authority, monkeypatch
):
    for patience in ("_WAIT_SECONDS", "_ANSWER_SECONDS"):
        monkeypatch.setattr(f"isthmus.agent.tunnel.{patience}", 2 * SECONDS)
    async with (
        tunnel(authority) as (outside, port, heard),
        await asyncio.start_server(partial(outside.serve_caller, PORT + 1), "127.0.0.1", 0) as unknown,
    ):
        while outside.ready < 3:  # noqa: ASYNC110 - the other end dials
            await asyncio.sleep(0.01)
        answer = await call(unknown.sockets[0].getsockname()[1], b"hello")
        ready = outside.ready
        assert await call(port, b"others go on") == b"OTHERS GO ON"

    assert (answer, heard) == (b"", [b"others go on"])
    assert ready >= 2


async def test_a_connection_whose_caller_has_waited_long_enough_is_closed(authority, monkeypatch):
    """This inside takes no time over being asked whether it is there, and all the time in the world over its answer."""
    monkeypatch.setattr("isthmus.agent.tunnel._WAIT_SECONDS", 1.0)
    own = ends(authority, "outside", "inside")
    outside = Outside(own)
    dialled = await asyncio.start_server(outside.serve_inside, "127.0.0.1", 0, ssl=own.context(server=True))
    called = await asyncio.start_server(partial(outside.serve_caller, PORT), "127.0.0.1", 0)
    async with asyncio.timeout(SECONDS), dialled, called:
        host, number = dialled.sockets[0].getsockname()
        context = ends(authority, "inside", "outside").context(server=False)
        reader, writer = await asyncio.open_connection(host, number, ssl=context)
        assert await reader.readexactly(1) == STILL
        writer.write(STILL)
        answer = await call(called.sockets[0].getsockname()[1], b"hello")
        said = await reader.read()
        writer.close()

    assert (answer, said) == (b"", USE + PORT.to_bytes(2))


async def test_one_caller_more_takes_the_place_of_the_one_that_has_been_silent_longest(authority, monkeypatch):
    monkeypatch.setattr("isthmus.agent.tunnel._CALLERS_MAX", 2)
    async with tunnel(authority) as (_, port, _heard):
        speaking, its_writer = await asyncio.open_connection("127.0.0.1", port)
        silent, silent_writer = await asyncio.open_connection("127.0.0.1", port)
        for reader, writer in ((speaking, its_writer), (silent, silent_writer), (speaking, its_writer)):
            writer.write(b"hello")
            assert await reader.readexactly(5) == b"HELLO"

        assert await call(port, b"one more") == b"ONE MORE"
        assert await silent.read() == b""
        its_writer.write(b"still here")
        assert await speaking.readexactly(10) == b"STILL HERE"
        for each in (its_writer, silent_writer):
            each.close()


async def test_a_caller_that_leaves_its_answer_unread_holds_no_place(authority, monkeypatch):
    """It ends its own way first, when everything on the way to it is full."""
    monkeypatch.setattr("isthmus.agent.tunnel._ANSWER_SECONDS", 1.5)
    async with tunnel(authority) as (outside, port, _):
        loop = asyncio.get_running_loop()
        with socket.socket() as mine:
            mine.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            mine.setblocking(False)
            await loop.sock_connect(mine, ("127.0.0.1", port))
            await loop.sock_sendall(mine, MUCH)
            arrived, before = 0, -1
            while arrived == 0 or arrived != before:
                before, arrived = arrived, unread(mine)
                await asyncio.sleep(0.1)
            assert outside.callers == 1
            mine.shutdown(socket.SHUT_WR)
            while outside.callers:  # noqa: ASYNC110 - nobody is called for it
                await asyncio.sleep(0.01)
            assert await call(port, b"others go on") == b"OTHERS GO ON"


@asynccontextmanager
async def dialled_by_hand(
    authority: CertificateAuthority,
) -> AsyncIterator[tuple[Outside, Callable[[], Awaitable[Pair]]]]:
    """The outside, and what connects to it as the inside does, and then says nothing by itself."""
    own, context = ends(authority, "outside", "inside"), ends(authority, "inside", "outside").context(server=False)
    outside = Outside(own)
    dialled = await asyncio.start_server(outside.serve_inside, "127.0.0.1", 0, ssl=own.context(server=True))
    async with asyncio.timeout(SECONDS), dialled:
        yield outside, partial(asyncio.open_connection, *dialled.sockets[0].getsockname(), ssl=context)


async def test_an_inside_that_gives_no_sign_of_life_is_let_go(authority, monkeypatch):
    monkeypatch.setattr("isthmus.agent.tunnel._SILENT_SECONDS", 0.2)
    async with dialled_by_hand(authority) as (outside, dial):
        reader, writer = await dial()

        assert await reader.read() == STILL
        assert outside.ready == 0
        writer.close()


async def test_so_many_connections_of_the_inside_wait_and_no_more(authority, monkeypatch):
    monkeypatch.setattr("isthmus.agent.tunnel._IDLE_MAX", 2)
    async with dialled_by_hand(authority) as (outside, dial):
        kept = [await dial() for _ in range(2)]
        assert [await reader.readexactly(1) for reader, _ in kept] == [STILL, STILL]
        reader, writer = await dial()

        assert await reader.read() == b""
        assert outside.ready == 2
        for _, each in (*kept, (reader, writer)):
            each.close()


async def test_one_of_another_authority_is_refused_by_tls(authority):
    other = CertificateAuthority.self_signed(
        SpiffeId.parse("spiffe://cluster.local/ns/a/sa/b").trust_domain, datetime.now(UTC)
    )
    own = ends(authority, "outside", "inside")
    outside = Outside(own)
    stranger = ends(other, "inside", "outside").context(server=False)
    stranger.verify_mode = ssl.CERT_NONE
    async with (
        asyncio.timeout(SECONDS),
        await asyncio.start_server(outside.serve_inside, "127.0.0.1", 0, ssl=own.context(server=True)) as dialled,
    ):
        host, number = dialled.sockets[0].getsockname()
        reader, writer = await asyncio.open_connection(host, number, ssl=stranger)
        said = b""
        with contextlib.suppress(OSError):
            said = await reader.read()
        writer.close()

    assert said == b"", "whoever is let in is told at once that the outside is there"
    assert outside.ready == 0


async def test_the_inside_gives_nothing_to_an_outside_of_another_authority(authority, monkeypatch):
    """It goes on dialling, and each time TLS ends it."""
    monkeypatch.setattr("isthmus.agent.tunnel._REDIAL_SECONDS", 0.01)
    other = CertificateAuthority.self_signed(
        SpiffeId.parse("spiffe://cluster.local/ns/a/sa/b").trust_domain, datetime.now(UTC)
    )
    false = ends(other, "outside", "inside").context(server=True)
    false.verify_mode = ssl.CERT_NONE
    outside = Outside(ends(other, "outside", "inside"))
    with capture_logs() as lines:
        async with (
            asyncio.timeout(SECONDS),
            await asyncio.start_server(outside.serve_inside, "127.0.0.1", 0, ssl=false) as dialled,
            asyncio.TaskGroup() as tasks,
        ):
            address = dialled.sockets[0].getsockname()
            inside = Inside(ends(authority, "inside", "outside"), address, {}, 1)
            running = tasks.create_task(inside.run())
            while len(lines) < 2:  # noqa: ASYNC110 - nobody is called for it
                await asyncio.sleep(0.01)
            running.cancel()

    assert all("CERTIFICATE_VERIFY_FAILED" in line["error"] for line in lines)
    assert outside.ready == 0
