"""A tunnel over loopback, with real TLS: what comes in outside arrives inside, by whoever is who they should be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from isthmus.agent.certificates import Certificate
from isthmus.agent.tunnel import Account, Ends, Inside, Outside
from isthmus.model.identity import SpiffeId
from isthmus.model.names import Namespace
from isthmus.trust import x509
from isthmus.trust.authority import CertificateAuthority

SECONDS = 20.0
PORT = 15443


def certificate(authority: CertificateAuthority, account: str) -> Certificate:
    key, identity = x509.new_key(), SpiffeId.parse(f"spiffe://cluster.local/ns/istio-system/sa/{account}")
    chain = authority.sign(x509.new_request(key), identity, datetime.now(UTC), timedelta(hours=1))
    return Certificate("".join(chain[:-1]), x509.key_pem(key), chain[-1])


def ends(authority: CertificateAuthority, own: str, peer: str) -> Ends:
    shown = certificate(authority, own)
    return Ends(lambda: shown, Account(Namespace("istio-system"), peer))


@asynccontextmanager
async def tunnel(
    authority: CertificateAuthority, *, dialler: str = "inside", accepts: str = "inside"
) -> AsyncIterator[tuple[Outside, int, list[bytes]]]:
    """The outside, the port for its callers, and what the target behind the inside has heard. It answers in capital letters."""
    heard: list[bytes] = []

    async def target(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1000):
            heard.append(data)
            writer.write(data.upper())
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


async def test_one_of_another_authority_is_refused_by_tls(authority, monkeypatch):
    monkeypatch.setattr("isthmus.agent.tunnel._WAIT_SECONDS", 0.5)
    other = CertificateAuthority.self_signed(
        SpiffeId.parse("spiffe://cluster.local/ns/a/sa/b").trust_domain, datetime.now(UTC)
    )
    own = ends(authority, "outside", "inside")
    outside = Outside(own)
    dialled = await asyncio.start_server(outside.serve_inside, "127.0.0.1", 0, ssl=own.context(server=True))
    inside = Inside(ends(other, "inside", "outside"), dialled.sockets[0].getsockname(), {}, 1)

    async with asyncio.timeout(SECONDS), dialled, asyncio.TaskGroup() as tasks:
        running = tasks.create_task(inside.run())
        await asyncio.sleep(1)
        ready = outside.ready
        running.cancel()

    assert ready == 0
