"""The teller's end on real sockets: whoever is slow, large or many is shown out, and the others go on."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from isthmus.model.identity import TrustDomain
from isthmus.peering import server as module
from isthmus.peering.messages import LINE_BYTES_MAX, Goodbye, Hello, News, Still, Taken, encode, from_teller
from isthmus.peering.server import Feed, NotAdmitted, PeerServer, serving_peers
from isthmus.trust import x509
from isthmus.xds.native_tls import load_key

SECONDS = 60.0
NOW = datetime.now(UTC)
ROOT = x509.new_root(TrustDomain("b.example"), NOW, timedelta(days=1))


def context() -> ssl.SSLContext:
    found = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    key = x509.new_key()
    leaf = x509.sign_server(ROOT, key.public_key(), ["localhost"], NOW, timedelta(days=1))
    load_key(found, chain_pem=x509.certificate_pem(leaf), key_pem=x509.key_pem(key))
    return found


class Teller:
    """Tells everybody the same, but for one mesh that it does not admit."""

    def __init__(self, port: int, feeds: list[Feed]) -> None:
        self.port = port
        self.feeds = feeds

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        anybody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        anybody.check_hostname = False
        anybody.verify_mode = ssl.CERT_NONE
        return await asyncio.open_connection("127.0.0.1", self.port, ssl=anybody)


@contextlib.asynccontextmanager
async def telling(**resources: bytes) -> AsyncIterator[Teller]:
    feeds: list[Feed] = []

    def admit(hello: Hello, _: Any) -> Feed:
        if hello.mesh == "nobody":
            raise NotAdmitted("you are nobody")
        feed = Feed()
        feed.put(resources)
        feeds.append(feed)
        return feed

    server = PeerServer(admit, feeds.remove, context())
    async with asyncio.timeout(SECONDS), serving_peers(server, "127.0.0.1", 0) as listening:
        yield Teller(listening, feeds)


async def test_news_come_when_there_are_some_and_not_before_the_last_were_taken() -> None:
    async with telling(a=b"1") as teller:
        reader, writer = await teller.connect()
        writer.write(encode(Hello("mesh-a")))
        assert from_teller(await reader.readuntil()).changed.keys() == {"a"}

        [feed] = teller.feeds
        feed.put({"a": b"2"})
        feed.put({"a": b"3", "b": b"1"})
        writer.write(encode(Taken(refused={"a": "too old"})))
        news = from_teller(await reader.readuntil())
        assert {name: bytes(body) for name, body in news.changed.items()} == {"a": b"3", "b": b"1"}, "the newest alone"
        assert feed.refused == {"a": "too old"}
        writer.close()


async def test_a_silent_teller_says_that_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STILL_SECONDS", 0.05)
    async with telling() as teller:
        reader, writer = await teller.connect()
        writer.write(encode(Hello("mesh-a")))
        assert from_teller(await reader.readuntil()) == News()
        writer.write(encode(Taken()))
        assert from_teller(await reader.readuntil()) == Still()
        writer.close()


async def test_who_is_not_admitted_is_told_why() -> None:
    async with telling() as teller:
        reader, writer = await teller.connect()
        writer.write(encode(Hello("nobody")))
        assert from_teller(await reader.readuntil()) == Goodbye("you are nobody")
        assert await reader.read() == b""
        writer.close()


@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\n",
        encode(Taken()),
        b"x" * (LINE_BYTES_MAX + 2),
        b'{"type":"hello","mesh":' + b"[" * 9000 + b"\n",
    ],
)
async def test_what_is_no_hello_is_the_end(said: bytes) -> None:
    async with telling() as teller:
        reader, writer = await teller.connect()
        with contextlib.suppress(OSError):
            writer.write(said)
            assert await reader.read() == b""
        writer.close()
        assert teller.feeds == []


async def test_who_says_nothing_or_does_not_even_begin_tls_is_shown_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HELLO_SECONDS", 0.1)
    monkeypatch.setattr(module, "HANDSHAKE_SECONDS", 2.0)
    async with telling() as teller:
        reader, writer = await teller.connect()
        bare_reader, bare_writer = await asyncio.open_connection("127.0.0.1", teller.port)
        for each in (reader, bare_reader):
            with contextlib.suppress(OSError):
                assert await each.read() == b""
        writer.close()
        bare_writer.close()


async def test_who_does_not_say_that_news_are_taken_is_shown_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.1)
    async with telling(a=b"1") as teller:
        reader, writer = await teller.connect()
        writer.write(encode(Hello("mesh-a")))
        assert isinstance(from_teller(await reader.readuntil()), News)

        assert await reader.read() == b""
        assert teller.feeds == []
        writer.close()


async def test_who_does_not_read_news_is_shown_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are more than anybody's buffers hold."""
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.5)
    async with telling(**{str(number): bytes(500_000) for number in range(60)}) as teller:
        _, writer = await teller.connect()
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(encode(Hello("mesh-a")))
        while not teller.feeds:  # noqa: ASYNC110 - nobody is called for it
            await asyncio.sleep(0.01)

        while teller.feeds:  # noqa: ASYNC110 - nobody is called for it
            await asyncio.sleep(0.01)
        writer.transport.abort()


async def test_strangers_are_bounded_before_their_handshake_and_take_no_place_of_askers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "STRANGERS_MAX", 2)
    async with telling(a=b"1") as teller:
        reader, writer = await teller.connect()
        writer.write(encode(Hello("mesh-a")))
        assert isinstance(from_teller(await reader.readuntil()), News)
        strangers = [await asyncio.open_connection("127.0.0.1", teller.port) for _ in range(3)]
        assert await strangers[0][0].read() == b"", "the first of them makes room for the third"

        another, its_writer = await teller.connect()
        its_writer.write(encode(Hello("mesh-b")))
        assert isinstance(from_teller(await another.readuntil()), News)
        assert await strangers[1][0].read() == b""
        writer.write(encode(Taken()))
        teller.feeds[0].put({"a": b"2"})
        assert isinstance(from_teller(await reader.readuntil()), News), "who is there goes on"
        for each in (writer, its_writer, *(stranger for _, stranger in strangers)):
            each.close()


async def test_no_mesh_takes_the_places_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ASKERS_MAX", 2)
    monkeypatch.setattr(module, "ASKERS_OF_A_MESH_MAX", 1)
    said = []
    async with telling(a=b"1") as teller:
        writers = []
        for mesh in ("mesh-a", "mesh-a", "mesh-b", "mesh-c"):
            reader, writer = await teller.connect()
            writer.write(encode(Hello(mesh)))
            said.append(type(from_teller(await reader.readuntil())))
            writers.append(writer)
        assert said == [News, Goodbye, News, Goodbye]
        assert len(teller.feeds) == 2

        writers[2].close()
        while len(teller.feeds) > 1:  # noqa: ASYNC110 - nobody is called for it
            await asyncio.sleep(0.01)
        reader, writer = await teller.connect()
        writer.write(encode(Hello("mesh-c")))
        assert isinstance(from_teller(await reader.readuntil()), News), "a place that is left is free"
        for each in (*writers, writer):
            each.close()
