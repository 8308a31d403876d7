"""Callers that mean no good, on the ports for kubelets, API servers and collectors of metrics: each is let go, and others are served meanwhile."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from time import monotonic

import pytest
from aiohttp import web

from isthmus.controlplane.webhooks import tls_context
from isthmus.kubernetes.sites import Patience, serving
from isthmus.model.identity import TrustDomain
from isthmus.trust.authority import CertificateAuthority

SHORT = 0.2
DEADLINE = 60.0
QUICK = Patience(handshake_seconds=SHORT, head_seconds=SHORT, stalled_seconds=SHORT, idle_seconds=SHORT, connections=4)
QUESTION = b"GET /ready HTTP/1.1\r\nHost: x\r\n\r\n"
_PAGE = bytes(16 * 1024 * 1024)


@asynccontextmanager
async def site(
    patience: Patience = QUICK, tls: ssl.SSLContext | None = None, given_up: asyncio.Event | None = None
) -> AsyncIterator[int]:
    """`given_up` is set when the large page is no longer sent."""

    async def ready(_: web.Request) -> web.Response:
        return web.Response(text="ready\n")

    async def large(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            await response.write(_PAGE)
        finally:
            (given_up or asyncio.Event()).set()
        return response

    application = web.Application()
    application.router.add_get("/ready", ready)
    application.router.add_get("/large", large)
    async with asyncio.timeout(DEADLINE), serving(application, "127.0.0.1", 0, tls=tls, patience=patience) as port:
        yield port


def server_context() -> ssl.SSLContext:
    authority = CertificateAuthority.self_signed(TrustDomain.parse("cluster.local"), datetime.now(UTC))
    return tls_context(authority.serving_certificate(["x"], datetime.now(UTC)))


def anybody() -> ssl.SSLContext:
    """A client's that believes every server."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


async def until_closed(reader: asyncio.StreamReader) -> bytes:
    received = b""
    try:
        while part := await reader.read(65536):
            received += part
    except ConnectionError:
        pass
    return received


async def is_served(port: int) -> bool:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(QUESTION)
    line = await reader.readline()
    writer.close()
    return line == b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize("begun", [b"", b"G", b"GET /ready HTTP/1.1\r\nHost: x\r\n", QUESTION[:-1]])
async def test_who_does_not_finish_the_head_of_a_request_is_let_go(begun):
    async with site(replace(QUICK, idle_seconds=2 * DEADLINE)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(begun)

        assert await until_closed(reader) == b""
        assert await is_served(port)


async def test_a_head_that_comes_byte_by_byte_gains_no_time():
    async with site(replace(QUICK, idle_seconds=2 * DEADLINE)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        began = monotonic()

        async def drip() -> None:
            writer.write(b"GET /ready HTTP/1.1\r\n")
            while not writer.is_closing():
                writer.write(b"X-A: b\r\n")
                await asyncio.sleep(SHORT / 10)

        async with asyncio.TaskGroup() as tasks:
            dripping = tasks.create_task(drip(), name="drip")
            await until_closed(reader)
            dripping.cancel()
        assert monotonic() - began < DEADLINE / 2


async def test_a_second_request_has_its_time_too():
    async with site() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(QUESTION)
        await reader.readuntil(b"ready\n")
        writer.write(b"GET /ready HTTP/1.1\r\n")

        assert await until_closed(reader) == b""


async def test_who_does_not_read_the_answer_is_let_go():
    given_up = asyncio.Event()
    async with site(given_up=given_up) as port:
        plain = socket.socket()
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        plain.connect(("127.0.0.1", port))
        reader, writer = await asyncio.open_connection(sock=plain, limit=1024)
        writer.write(QUESTION.replace(b"ready", b"large"))
        await reader.readline()

        await given_up.wait()
        assert len(await until_closed(reader)) < len(_PAGE)


async def test_more_than_there_is_room_for_take_the_place_of_the_oldest_idle_one():
    patient = Patience(connections=4, head_seconds=2 * DEADLINE)
    async with site(patient) as port:
        crowd = [await asyncio.open_connection("127.0.0.1", port) for _ in range(4)]

        assert await is_served(port)
        assert await until_closed(crowd[0][0]) == b""


async def test_a_handshake_that_never_ends_is_ended():
    async with site(tls=server_context()) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"\x16\x03\x01\x02\x00")

        assert await until_closed(reader) == b""


async def test_a_crowd_that_never_ends_its_handshakes_keeps_nobody_out_and_is_bounded():
    """Who came first makes room for who comes, before its time is over, which is after the end of the test."""
    patient = Patience(handshake_seconds=DEADLINE + 1, handshakes=3)
    async with site(patient, tls=server_context()) as port:
        crowd = [await asyncio.open_connection("127.0.0.1", port) for _ in range(4)]
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=anybody())
        writer.write(QUESTION)

        assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
        assert [await until_closed(each) for each, _ in crowd[:2]] == [b"", b""]
        for _, each in (*crowd, (reader, writer)):
            each.close()


async def test_many_that_come_together_all_have_time_for_their_handshakes():
    """More than there is room for at once, and all of them honest."""
    patient = Patience(handshake_seconds=DEADLINE * 10, handshakes=2)
    async with site(patient, tls=server_context()) as port:
        came = await asyncio.gather(
            *(asyncio.open_connection("127.0.0.1", port, ssl=anybody()) for _ in range(12)), return_exceptions=True
        )

    assert [each for each in came if isinstance(each, BaseException)] == []
    for _, writer in came:
        writer.close()
