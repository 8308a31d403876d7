"""Clients that mean no good, or hang: each gets a Status or an end, and the others are served meanwhile."""

from __future__ import annotations

import asyncio
import itertools
import socket
import ssl

import msgspec
import pytest

DEADLINE = 60.0
MAPS = "/api/v1/namespaces/default/configmaps"


@pytest.fixture
async def strict(strict_server, connected):
    async with connected(strict_server) as api:
        yield api


@pytest.fixture
async def raw(strict_server):
    """Opens connections that a test writes bytes to; all are closed at its end."""
    opened = []

    async def connect(*, reads=True, server=strict_server):
        context = ssl.create_default_context(cadata=server.ca_pem)
        plain = socket.socket()
        if not reads:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        plain.connect(server.address)
        reader, writer = await asyncio.open_connection(
            sock=plain, limit=65536 if reads else 1024, ssl=context, server_hostname="127.0.0.1"
        )
        opened.append(writer)
        return reader, writer

    yield connect
    for writer in opened:
        writer.transport.abort()


def request(server, line, *headers, body=b""):
    lines = [line, "Host: x", f"Authorization: Bearer {server.admin_token}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def everything(reader):
    """All bytes until the server closes the connection, however it does it."""
    received = b""
    try:
        async with asyncio.timeout(DEADLINE):
            while part := await reader.read(65536):
                received += part
    except (ConnectionError, ssl.SSLError):
        pass
    return received


async def exchange(raw, *parts):
    reader, writer = await raw()
    for part in parts:
        writer.write(part)
    return await everything(reader)


def statuses(received):
    """The codes of all answers, each of which must be a Status."""
    codes = []
    while received:
        head, _, rest = received.partition(b"\r\n\r\n")
        length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length"))
        status = msgspec.json.decode(rest[:length])
        assert status["kind"] == "Status"
        assert b"Traceback" not in rest[:length]
        codes.append(int(head.split()[1]))
        received = rest[length:]
    return codes


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"GARBAGE\r\n\r\n", id="no request line"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="preface of HTTP/2"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", id="TLS in TLS"),
        pytest.param(b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", id="endless request line"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 100_000 + b"\r\n\r\n", id="endless header"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 10_000 + b"\r\n", id="flood of headers"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\nA\x00B: c\r\n\r\n", id="NUL in a header"),
        pytest.param(b"GET / HTTP/9.9\r\nHost: x\r\n\r\n", id="HTTP that there is not"),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /x HTTP/1.1\r\n\r\n",
            id="smuggled by two lengths",
        ),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhelloX", id="two Content-Lengths"
        ),
        pytest.param(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\nhello", id="negative length"),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", id="unknown transfer coding"
        ),
        pytest.param(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length : 5\r\n\r\nhello", id="blank before the colon"),
    ],
)  # fmt: skip
async def test_what_is_no_http_gets_a_status_and_an_end(raw, strict, sent):
    received = await exchange(raw, sent)

    codes = statuses(received)
    assert codes in ([], [400])
    assert (await strict.get("/version")).code == 200


async def test_a_chunk_that_lies_about_its_length_stores_nothing(raw, strict_server, strict):
    head = request(
        strict_server, f"POST {MAPS} HTTP/1.1", "Content-Type: application/json", "Transfer-Encoding: chunked"
    )

    received = await exchange(raw, head, b'zz\r\n{"metadata":{"name":"smuggled"}}\r\n0\r\n\r\n')

    assert set(statuses(received)) <= {400, 408}
    assert (await strict.get(f"{MAPS}/smuggled")).code == 404


async def test_pipelined_requests_are_answered_in_their_order(raw, strict_server):
    missing = request(strict_server, "GET /nowhere HTTP/1.1")
    unknown = request(strict_server, "PUT /api/v1/pods HTTP/1.1")
    last = request(strict_server, "GET /nowhere HTTP/1.1", "Connection: close")

    received = await exchange(raw, *[missing, unknown] * 50, last)

    assert statuses(received) == [404, 405] * 50 + [404]


async def test_an_unknown_expectation_is_refused(raw, strict_server):
    asked = request(strict_server, "GET /version HTTP/1.1", "Expect: miracles", "Connection: close")

    assert statuses(await exchange(raw, asked)) == [417]


@pytest.mark.parametrize("token", [b"\xff\xfe", b"a.b.c", b"....", b"e30.e30.e30", "ü".encode()])
async def test_a_token_that_is_none_is_refused_as_such(raw, token):
    sent = b"GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer " + token + b"\r\n\r\n"

    assert statuses(await exchange(raw, sent)) == [401]


@pytest.mark.parametrize(
    "begun", [b"GET /ver", b"GET /version HTTP/1.1\r\nHost: x\r\nX-Slow: ", b"GET /version HTTP/1.1\r\n"]
)
async def test_a_request_that_does_not_come_to_its_end_is_ended(raw, begun):
    assert statuses(await exchange(raw, begun)) == []


async def test_one_that_sends_a_header_now_and_then_is_ended_too(raw):
    reader, writer = await raw()
    writer.write(b"GET /version HTTP/1.1\r\n")
    ended = asyncio.ensure_future(everything(reader))

    sent = 0
    while not ended.done() and sent < 100:
        writer.write(b"X-Slow: 1\r\n")
        sent += 1
        await asyncio.wait([ended], timeout=0.1)

    assert await ended == b""
    assert sent < 100


@pytest.mark.parametrize("length", ["Content-Length: 1000", "Content-Length: 1000000", "Transfer-Encoding: chunked"])
async def test_a_body_that_does_not_come_is_refused_in_time(raw, strict_server, length):
    received = await exchange(
        raw, request(strict_server, f"POST {MAPS} HTTP/1.1", "Content-Type: application/json", length)
    )

    assert statuses(received) == [408]


async def test_long_bodies_beyond_the_bound_are_told_to_come_again(raw, crowded_server):
    """Those within it may take their time."""
    head = request(crowded_server, f"POST {MAPS} HTTP/1.1", "Content-Type: application/json", "Content-Length: 1000000")
    connections = [await raw(server=crowded_server) for _ in range(6)]
    for _, writer in connections:
        writer.write(head)

    ends = [asyncio.ensure_future(everything(reader)) for reader, _ in connections]
    answers = [await each for each in itertools.islice(asyncio.as_completed(ends), 4)]

    assert [statuses(received) for received in answers] == [[429]] * 4
    assert sum(not each.done() for each in ends) == 2
    for each in ends:
        each.cancel()


async def test_more_than_can_be_stored_is_refused_however_it_is_sent(raw, strict_server):
    head = request(
        strict_server, f"POST {MAPS} HTTP/1.1", "Content-Type: application/json", "Transfer-Encoding: chunked"
    )
    chunk = b"10000\r\n" + b"a" * 0x10000 + b"\r\n"

    received = await exchange(raw, head, *[chunk] * 60)

    assert statuses(received) in ([413], [])  # [] if the end came while we were still sending.


async def test_a_packed_body_is_measured_unpacked(strict):
    import zlib

    answer = await strict.call(
        "POST", MAPS, raw=zlib.compress(b" " * 500_000_000, 9), headers={"Content-Encoding": "deflate"}
    )

    assert (answer.code, answer.body["kind"]) in ((413, "Status"), (400, "Status"))


async def test_handshakes_that_never_end_keep_nobody_out(strict_server, strict):
    before = strict_server.megabytes
    silent = [socket.create_connection(strict_server.address) for _ in range(300)]
    try:
        answer = await strict.get("/version")
        for connection in silent:
            connection.settimeout(DEADLINE)
        ends = [await asyncio.to_thread(ended, connection) for connection in silent]
    finally:
        for connection in silent:
            connection.close()

    assert answer.code == 200
    assert all(ends)
    assert strict_server.megabytes - before < 50


def ended(connection):
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


async def test_many_honest_handshakes_at_once_are_all_served(crowded_server, connected):
    async def asked():
        async with connected(crowded_server) as api:
            return (await api.get("/version")).code

    assert await asyncio.gather(*(asked() for _ in range(16))) == [200] * 16


async def test_connections_that_do_nothing_make_room_for_those_that_ask(raw, strict_server, connected):
    silent = [await raw() for _ in range(100)]

    async with connected(strict_server) as api:
        answer = await api.get("/version")

    assert answer.code == 200
    assert sum(reader.at_eof() or reader.exception() is not None for reader, _ in silent) >= 60


async def test_whoever_reads_nothing_of_a_list_holds_little_and_is_ended(raw, strict_server, strict):
    for number in range(300):
        await strict.made(MAPS, {"metadata": {"name": f"large-{number}"}, "data": {"a": "x" * 50_000}})
    before, already = strict_server.megabytes, strict_server.said("nothing is read")

    asked = request(strict_server, f"GET {MAPS} HTTP/1.1")
    slow = []
    for _ in range(20):
        slow.append(await raw(reads=False))
        slow[-1][1].write(asked)
    await asyncio.to_thread(strict_server.wait_until_said, "nothing is read", already + len(slow))
    read = await asyncio.gather(*(everything(reader) for reader, _ in slow))

    assert max(map(len, read)) < 15_000_000
    assert strict_server.megabytes - before < 60
    assert (await strict.get("/version")).code == 200


async def test_a_watcher_that_reads_nothing_is_ended_and_others_hear_everything(raw, strict_server, strict):
    version = (await strict.get(MAPS)).body["metadata"]["resourceVersion"]
    path = f"{MAPS}?watch=1&resourceVersion={version}"
    slow = []
    for _ in range(10):
        slow.append(await raw(reads=False))
        slow[-1][1].write(request(strict_server, f"GET {path} HTTP/1.1"))
    before, already = strict_server.megabytes, strict_server.said("nothing is read")

    async with strict.watch(MAPS, resourceVersion=version) as watch:
        names, heard = [f"told-{number}" for number in range(200)], []
        for name in names:
            await strict.made(MAPS, {"metadata": {"name": name}, "data": {"a": "x" * 40_000}})
            heard += await watch.next_names(1)
    await asyncio.to_thread(strict_server.wait_until_said, "nothing is read", already + len(slow))
    read = await asyncio.gather(*(everything(reader) for reader, _ in slow))

    assert heard == [("ADDED", name) for name in names]
    assert max(map(len, read)) < 200 * 40_000
    assert strict_server.megabytes - before < 80


async def test_the_log_does_not_grow_by_what_attackers_send(raw, strict_server):
    length = sum(map(len, strict_server.log))

    for _ in range(20):
        await exchange(raw, b"GARBAGE " + b"x" * 5000 + b"\r\n\r\n")

    assert sum(map(len, strict_server.log)) - length < 20 * 300
    assert "Traceback" not in "".join(strict_server.log)
