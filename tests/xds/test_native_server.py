"""The native transport on real sockets: identities, windows of all sizes, clients that mean no good, and many at once."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from weakref import ref

import grpc
import grpc.aio
import hpack
import pytest
from doors import Doors
from envoy.service.discovery.v3 import discovery_pb2
from forged_certificates import CODE, HOUR, SERVER, forged

from isthmus.envoy.resources import NAME_TABLE, Resource, ResourceSet
from isthmus.model.identity import SpiffeId, TrustDomain
from isthmus.trust import x509
from isthmus.trust.authority import CertificateAuthority
from isthmus.xds import frames, native_server
from isthmus.xds.directory import CallFacts, Refused, Streams
from isthmus.xds.frames import PREFACE, Kind, frame
from isthmus.xds.native_server import NativeServer
from isthmus.xds.native_tls import ClientCertificate, server_context
from isthmus.xds.session import Session

NAME = "istiod.istio-system.svc"
DELTA = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
SECONDS = 60.0
ALICE = SpiffeId.parse("spiffe://cluster.local/ns/default/sa/alice")


def table(size: int) -> ResourceSet:
    return ResourceSet({NAME_TABLE: {"table": Resource.of_bytes("table", bytes(size))}})


@pytest.fixture(scope="module")
def authority() -> CertificateAuthority:
    return CertificateAuthority.self_signed(TrustDomain("cluster.local"), datetime.now(UTC))


@asynccontextmanager
async def serving(
    doors: Doors, authority: CertificateAuthority, client: ClientCertificate, **unary: object
) -> AsyncIterator[tuple[NativeServer, int]]:
    shown = authority.serving_certificate([NAME], datetime.now(UTC))
    context = server_context(
        chain_pem=shown.chain_pem, key_pem=shown.key_pem, roots_pem=authority.root_pem, client=client
    )
    methods = {f"/service/{name}": method for name, method in unary.items()}
    async with asyncio.timeout(SECONDS), native_server.native_server(doors, methods, Streams(), grace=0.5) as server:
        yield server, server.listen("127.0.0.1", 0, context)


@asynccontextmanager
async def plain(doors: Doors) -> AsyncIterator[tuple[NativeServer, int]]:
    async with asyncio.timeout(SECONDS), native_server.native_server(doors, {}, Streams(), grace=0.5) as server:
        yield server, server.listen("127.0.0.1", 0, None)


def channel_to(
    port: int, authority: CertificateAuthority, *, pair: tuple[str, str] | None = None, **options: int
) -> grpc.aio.Channel:
    key, chain = (pair[0].encode(), pair[1].encode()) if pair else (None, None)
    return grpc.aio.secure_channel(
        f"127.0.0.1:{port}",
        grpc.ssl_channel_credentials(authority.root_pem.encode(), key, chain),
        options=[
            ("grpc.ssl_target_name_override", NAME),
            ("grpc.max_receive_message_length", -1),
            *((f"grpc.{name}", value) for name, value in options.items()),
        ],
    )


def certificate_of(authority: CertificateAuthority, who: SpiffeId) -> tuple[str, str]:
    """Key and chain."""
    key = x509.new_key()
    now = datetime.now(UTC)
    chain = authority.sign(x509.new_request(key), who, now, timedelta(hours=1))
    return x509.key_pem(key), "".join(chain[:-1])


def delta(channel: grpc.aio.Channel, *, patient: bool = False) -> grpc.aio.StreamStreamCall:
    """A patient one comes again when there was no room for its handshake."""
    return channel.stream_stream(
        DELTA,
        request_serializer=discovery_pb2.DeltaDiscoveryRequest.SerializeToString,
        response_deserializer=discovery_pb2.DeltaDiscoveryResponse.FromString,
    )(wait_for_ready=patient)


def asking() -> discovery_pb2.DeltaDiscoveryRequest:
    return discovery_pb2.DeltaDiscoveryRequest(node={"id": "sidecar~1.1.1.1~a.b~c"}, type_url=NAME_TABLE)


def knock(path: str = DELTA) -> bytes:
    """The first bytes of a call."""
    headers = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        ("content-type", "application/grpc"),
    ]
    block = hpack.Encoder().encode(headers)
    return PREFACE + frames.settings({}) + frame(Kind.HEADERS, frames.END_HEADERS, 1, block)


async def test_a_certificate_is_taken_where_it_is_welcome_and_not_needed_there(authority):
    doors = Doors(table(10))
    async with serving(doors, authority, ClientCertificate.WELCOME) as (_, port):
        for pair in (None, certificate_of(authority, ALICE)):
            async with channel_to(port, authority, pair=pair) as channel:
                call = delta(channel)
                await call.write(asking())
                await call.read()

    nobody, alice = (call.peer_certificate for call in doors.came)
    assert nobody == ""
    assert x509.identity_of(alice) == ALICE


async def test_without_a_certificate_of_the_mesh_nobody_gets_in_where_it_is_demanded(authority):
    stranger = CertificateAuthority.self_signed(TrustDomain("cluster.local"), datetime.now(UTC))
    doors = Doors(table(10))
    codes = []
    async with serving(doors, authority, ClientCertificate.DEMANDED) as (_, port):
        for pair in (None, certificate_of(stranger, ALICE)):
            async with channel_to(port, authority, pair=pair) as channel:
                call = delta(channel)
                codes.append(await call.code())

    assert codes == [grpc.StatusCode.UNAVAILABLE] * 2
    assert doors.came == []


def shown_by_attackers(authority: CertificateAuthority) -> dict[str, tuple[str, str]]:
    """Keys and chains; most are signed by the mesh's own authority, as if it had been talked into it."""
    ours, name = authority.issuer, str(ALICE)
    theirs = x509.new_root(TrustDomain("cluster.local"), datetime.now(UTC), timedelta(days=1))
    key, chain = certificate_of(authority, ALICE)
    workload = x509.Issuer(x509.parse_certificates(chain)[0], x509.parse_key(key))
    by_workload, its_key = forged(workload, name)
    leaves = {
        "expired": forged(ours, name, begins=-2 * HOUR, ends=-HOUR),
        "not valid yet": forged(ours, name, begins=HOUR, ends=2 * HOUR),
        "for servers only": forged(ours, name, usages=(SERVER,)),
        "for signing code": forged(ours, name, usages=(CODE,)),
        "of another authority": forged(theirs, name),
        "signed by a workload": (by_workload + chain, its_key),
    }
    return {what: (key, chain) for what, (chain, key) in leaves.items()}


@pytest.mark.parametrize("client", [ClientCertificate.WELCOME, ClientCertificate.DEMANDED])
async def test_no_forged_certificate_gets_in_not_even_where_none_is_needed(authority, client):
    doors = Doors(table(10))
    async with serving(doors, authority, client) as (_, port):
        for what, pair in shown_by_attackers(authority).items():
            async with channel_to(port, authority, pair=pair) as channel:
                assert await delta(channel).code() is grpc.StatusCode.UNAVAILABLE, what
    assert doors.came == []


@pytest.mark.parametrize("window", [65_535, 256 * 1024 * 1024])
async def test_ten_megabytes_arrive_whole_through_windows_of_any_size(authority, window):
    """`http2.lookahead_bytes` is the window that gRPC's client announces."""
    doors = Doors(table(10_000_000))
    options = {"http2.bdp_probe": 0, "http2.lookahead_bytes": window}
    async with (
        serving(doors, authority, ClientCertificate.WELCOME) as (_, port),
        channel_to(port, authority, **options) as channel,
    ):
        call = delta(channel)
        await call.write(asking())
        response = await call.read()

    assert response.resources[0].resource.value == bytes(10_000_000)


async def test_a_client_that_does_not_read_keeps_nobody_waiting_and_gets_the_newest_in_the_end(authority):
    doors = Doors(table(3_000_000))
    async with plain(doors) as (_, port):
        with socket.create_connection(("127.0.0.1", port)) as lazy:
            message = asking().SerializeToString()
            lazy.sendall(knock() + frame(Kind.DATA, 0, 1, b"\0" + len(message).to_bytes(4, "big") + message))
            async with grpc.aio.insecure_channel(
                f"127.0.0.1:{port}", options=[("grpc.max_receive_message_length", -1)]
            ) as channel:
                call = delta(channel)
                await call.write(asking())
                sizes = []
                for size in (0, 1_000_000, 1_000_001):
                    if size:
                        for feed in doors.feeds:
                            feed.put(table(size))
                    response = await call.read()
                    sizes.append(len(response.resources[0].resource.value))
                    await call.write(
                        discovery_pb2.DeltaDiscoveryRequest(type_url=NAME_TABLE, response_nonce=response.nonce)
                    )

    assert sizes == [3_000_000, 1_000_000, 1_000_001]


async def test_one_request_is_answered_refused_or_given_up_in_time(authority):
    async def echo(request: bytes, call: CallFacts) -> bytes:
        return request + call.metadata["suffix"].encode()

    async def refuse(request: bytes, call: CallFacts) -> bytes:
        raise Refused("PERMISSION_DENIED", "not you: ☃")

    async def break_down(request: bytes, call: CallFacts) -> bytes:
        raise KeyError("secret detail")

    async def sleep(request: bytes, call: CallFacts) -> bytes:
        await asyncio.Event().wait()
        return b""

    found = []
    methods = {"echo": echo, "refuse": refuse, "break": break_down, "sleep": sleep}
    async with (
        serving(Doors(table(1)), authority, ClientCertificate.WELCOME, **methods) as (_, port),
        channel_to(port, authority) as channel,
    ):
        answer = await channel.unary_unary("/service/echo")(b"x" * 100_000, metadata=[("suffix", "!")])
        for name in ("refuse", "break", "sleep", "unknown"):
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await channel.unary_unary(f"/service/{name}")(b"", timeout=0.3 if name == "sleep" else SECONDS)
            found.append((failed.value.code().name, failed.value.details()))

    assert answer == b"x" * 100_000 + b"!"
    assert found[0] == ("PERMISSION_DENIED", "not you: ☃")
    assert found[1] == ("INTERNAL", "the control plane made a mistake: see its log")
    assert found[2][0] == "DEADLINE_EXCEEDED"
    assert found[3] == ("UNIMPLEMENTED", "there is no such method here")


async def test_a_stream_ends_at_the_callers_deadline(authority):
    doors = Doors(table(10))
    async with (
        serving(doors, authority, ClientCertificate.WELCOME) as (_, port),
        channel_to(port, authority) as channel,
    ):
        await channel.channel_ready()
        call = channel.stream_stream(DELTA)(timeout=2)
        await call.write(asking().SerializeToString())
        await call.read()
        code = await call.code()

    assert code == grpc.StatusCode.DEADLINE_EXCEEDED
    assert doors.feeds == {}


async def test_a_message_that_is_too_long_is_refused_before_it_has_come(authority):
    async with plain(Doors(table(10))) as (_, port):
        answer = await said_to(port, knock() + frame(Kind.DATA, 0, 1, b"\0\x7f\0\0\0"))

    assert b"grpc-status\x018" in answer


async def test_what_is_no_grpc_call_is_answered_as_http_has_it(authority):
    headers = [(":method", "GET"), (":scheme", "http"), (":path", "/")]
    get = frame(Kind.HEADERS, frames.END_HEADERS | frames.END_STREAM, 1, hpack.Encoder().encode(headers))
    async with plain(Doors(table(10))) as (_, port):
        answer = await said_to(port, PREFACE + frames.settings({}) + get)

    assert b"405" in answer


async def said_to(port: int, sent: bytes) -> bytes:
    """What a server answers, to the end of its answer on the first stream."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    answer = b""
    while frames.reset(1, frames.Code.NO_ERROR) not in answer and b"status" not in answer and b"405" not in answer:
        answer += await reader.read(65_536)
    writer.close()
    return answer


async def test_who_comes_and_says_nothing_is_shown_out(authority, monkeypatch):
    monkeypatch.setattr(native_server, "HANDSHAKE_SECONDS", 1.5)
    monkeypatch.setattr(native_server, "FIRST_CALL_SECONDS", 0.2)
    async with serving(Doors(table(10)), authority, ClientCertificate.WELCOME) as (server, port):
        silent, _ = await asyncio.open_connection("127.0.0.1", port)
        context = ssl.create_default_context(cadata=authority.root_pem)
        greeted, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=NAME)
        ends = [await silent.read(), await greeted.read()]
        left = server.connections
        writer.close()

    assert ends[0] == b""
    assert b"nothing was asked for" in ends[1]
    assert left <= 1


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01\x02"], ids=["nothing", "the beginning"])
async def test_a_crowd_that_never_ends_its_handshakes_keeps_nobody_out(authority, monkeypatch, said):
    """Waiting for each of them to run out of time would take twice 20 s."""
    monkeypatch.setattr(native_server, "HANDSHAKES_AT_ONCE", 2)
    monkeypatch.setattr(native_server, "HANDSHAKE_SECONDS", 20.0)
    async with serving(Doors(table(10)), authority, ClientCertificate.WELCOME) as (_, port):
        crowd = [await asyncio.open_connection("127.0.0.1", port) for _ in range(4)]
        for _, writer in crowd:
            writer.write(said)
        context = ssl.create_default_context(cadata=authority.root_pem)
        async with asyncio.timeout(19):
            _, greeted = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=NAME)
        for _, writer in (*crowd, (None, greeted)):
            writer.close()


async def test_where_all_places_are_taken_the_one_that_has_said_nothing_longest_makes_room(authority, monkeypatch):
    monkeypatch.setattr(native_server, "CONNECTIONS_MAX", 3)
    monkeypatch.setattr(native_server, "HANDSHAKE_SECONDS", SECONDS * 2)
    async with serving(Doors(table(10)), authority, ClientCertificate.WELCOME) as (_, port):
        crowd = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        context = ssl.create_default_context(cadata=authority.root_pem)
        _, greeted = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=NAME)

        assert await crowd[0][0].read() == b""
        for _, writer in (*crowd, (None, greeted)):
            writer.close()


async def test_a_flood_ends_the_connection_that_it_came_on(authority):
    async with plain(Doors(table(10))) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(PREFACE + frames.settings({}) + frame(Kind.PING, 0, 0, bytes(8)) * 20_000)
        answer = await reader.read()
        writer.close()

    assert b"too many frames that carry nothing" in answer


async def test_hundreds_that_come_at_once_are_all_served(authority):
    doors = Doors(table(1000))
    came = 300

    async def one(port: int) -> int:
        async with channel_to(port, authority, use_local_subchannel_pool=1) as channel:
            call = delta(channel, patient=True)
            await call.write(asking())
            response = await call.read()
            return len(response.resources[0].resource.value)

    async with serving(doors, authority, ClientCertificate.WELCOME) as (_, port), asyncio.TaskGroup() as tasks:
        asked = [tasks.create_task(one(port), name=f"client {number}") for number in range(came)]

    assert [task.result() for task in asked] == [1000] * came
    assert doors.feeds == {}


class Prompt:
    """A client that answers as soon as it is asked to, without a turn of the event loop."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.sendall(knock())
        self.say(asking())

    def say(self, request: discovery_pb2.DeltaDiscoveryRequest) -> None:
        message = request.SerializeToString()
        self.socket.sendall(frame(Kind.DATA, 0, 1, b"\0" + len(message).to_bytes(4, "big") + message))

    def acknowledge(self) -> None:
        """Reads frames until a response has come."""
        with self.socket.makefile("rb") as lines:
            kind, payload = None, b""
            while kind != Kind.DATA:
                head = lines.read(frames.HEAD_BYTES)
                kind, payload = head[3], lines.read(int.from_bytes(head[:3], "big"))
        response = discovery_pb2.DeltaDiscoveryResponse.FromString(payload[5:])
        self.say(discovery_pb2.DeltaDiscoveryRequest(type_url=NAME_TABLE, response_nonce=response.nonce))


@pytest.mark.parametrize(("patience", "all_wait"), [(SECONDS, True), (0.0, False)])
async def test_all_are_told_before_answers_are_read_unless_that_takes_too_long(monkeypatch, patience, all_wait):
    monkeypatch.setattr(native_server, "_TELL_SECONDS", 0.0)
    monkeypatch.setattr(native_server, "TELLING_FIRST_SECONDS", patience)
    doors, streams = Doors(table(10)), Streams()
    seen = []
    async with asyncio.timeout(SECONDS), native_server.native_server(doors, {}, streams, grace=0.5) as server:
        port = server.listen("127.0.0.1", 0, None)
        clients: list[Prompt] = []
        for _ in range(5):
            clients.append(Prompt(port))
            await asyncio.to_thread(clients[-1].acknowledge)
        while not all(stream.session.settled for stream in streams.all):  # noqa: ASYNC110 - nobody is called for it
            await asyncio.sleep(0)

        client_of = {stream.session: client for stream, client in zip(streams.all, clients, strict=True)}
        publish = Session.publish

        def told(session, *news):
            responses = publish(session, *news)
            seen.append(sum(not stream.session.settled for stream in streams.all))
            asyncio.get_running_loop().call_soon(client_of[session].acknowledge)
            return responses

        monkeypatch.setattr(Session, "publish", told)
        for feed in list(doors.feeds):
            feed.put(table(20), {NAME_TABLE: {"table": "old"}})
        while len(seen) < 5 or not all(stream.session.settled for stream in streams.all):  # noqa: ASYNC110 - nor for this
            await asyncio.sleep(0)
        for client in clients:
            client.socket.close()

    assert (seen == [1, 2, 3, 4, 5]) is all_wait


async def test_who_has_gone_leaves_nothing_that_a_search_for_garbage_would_have_to_find():
    doors, streams = Doors(table(10)), Streams()
    async with asyncio.timeout(SECONDS), native_server.native_server(doors, {}, streams, grace=0.5) as server:
        client = Prompt(server.listen("127.0.0.1", 0, None))
        await asyncio.to_thread(client.acknowledge)
        [stream] = streams.all
        [connection] = server._connections.values()
        left = {
            type(each).__name__: ref(each) for each in (connection, connection._http2, stream.session, *doors.feeds)
        }
        left |= {str(type(call)): ref(call) for call in connection._calls.values()}
        del stream, connection
        gc.disable()
        try:
            client.socket.close()
            while server.connections:  # noqa: ASYNC110 - nobody is called for it
                await asyncio.sleep(0)
            found = sorted(name for name, each in left.items() if each() is not None)
        finally:
            gc.enable()

    assert found == []


async def test_clients_are_told_when_the_server_stops(authority):
    doors = Doors(table(10))
    shown = authority.serving_certificate([NAME], datetime.now(UTC))
    context = server_context(
        chain_pem=shown.chain_pem, key_pem=shown.key_pem, roots_pem="", client=ClientCertificate.NOT_ASKED_FOR
    )
    async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as tasks:
        server = NativeServer(doors, {}, Streams(), tasks)
        port = server.listen("127.0.0.1", 0, context)
        async with channel_to(port, authority) as channel:
            call = delta(channel)
            await call.write(asking())
            await call.read()
            await server.stop(grace=1)
            ending = (await call.code(), await call.details())

    assert ending == (grpc.StatusCode.UNAVAILABLE, "the control plane is stopping")
    assert (doors.feeds, server.connections) == ({}, 0)


async def test_a_client_that_shows_no_sign_of_life_is_asked_for_one_and_then_let_go(monkeypatch):
    monkeypatch.setattr(native_server, "KEEPALIVE_SECONDS", 0.5)
    monkeypatch.setattr(native_server, "KEEPALIVE_ANSWER_SECONDS", 1.0)
    async with plain(Doors(table(10))) as (server, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(knock())
        answer = await reader.read()
        left = server.connections
        writer.close()

    assert frame(Kind.PING, 0, 0, b"isthmus\0") in answer
    assert left == 0
