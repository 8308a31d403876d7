"""However a client cuts, delays and mixes what it says: it gets the newest, and no window is ever overrun."""

from __future__ import annotations

import asyncio
import random
import socket

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest
from doors import Doors
from envoy.service.discovery.v3 import discovery_pb2

from isthmus.envoy.resources import NAME_TABLE, Resource, ResourceSet
from isthmus.xds import http2
from isthmus.xds.directory import Streams
from isthmus.xds.native_server import NativeServer, native_server
from isthmus.xds.session import Session

SECONDS = 60.0
PATH = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"


class Changing(Doors):
    """Gives all the same, and now and then something else."""

    def __init__(self) -> None:
        super().__init__(table(0))

    def change(self, number: int) -> None:
        was = self.first.of_type(NAME_TABLE)["table"].version
        self.first = table(number)
        for feed in self.feeds:
            feed.put(self.first, {NAME_TABLE: {"table": was}})


def table(number: int) -> ResourceSet:
    return ResourceSet({NAME_TABLE: {"table": Resource.of_bytes("table", b"%06d" % number + bytes(700))}})


class Client:
    """h2's client, which raises when a window is overrun; it says what it has to say in the way it is told to."""

    def __init__(self, port: int, window: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setblocking(False)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self.h2.initiate_connection()
        self.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window})
        headers = {":method": "POST", ":scheme": "http", ":path": PATH, ":authority": "istiod", "te": "trailers"}
        self.h2.send_headers(1, [*headers.items(), ("content-type", "application/grpc")])
        self.number = -1
        self.owed = self.windows_given_back = 0
        self._came = b""
        self._said = b""
        self._unanswered: list[str] = []
        first = discovery_pb2.DeltaDiscoveryRequest(type_url=NAME_TABLE)
        first.node.id = "sidecar~10.0.0.1~a.ns~x"
        self.say(first)

    def say(self, request: discovery_pb2.DeltaDiscoveryRequest, *, pieces: int = 1, padding: int | None = None) -> None:
        message = request.SerializeToString()
        message = b"\0" + len(message).to_bytes(4, "big") + message
        each = -(-len(message) // pieces)
        for at in range(0, len(message), each):
            self.h2.send_data(1, message[at : at + each], pad_length=padding)
        self._said += self.h2.data_to_send()

    def answer(self, chance: random.Random) -> None:
        if self._unanswered:
            request = discovery_pb2.DeltaDiscoveryRequest(type_url=NAME_TABLE, response_nonce=self._unanswered.pop(0))
            self.say(request, pieces=chance.choice((1, 1, 1, 2, 3)), padding=chance.choice((None, None, None, 0, 9)))

    def ask_again(self) -> None:
        self.say(discovery_pb2.DeltaDiscoveryRequest(type_url=NAME_TABLE, resource_names_subscribe=["table"]))

    def ping(self) -> None:
        self.h2.ping(b"12345678")
        self._said += self.h2.data_to_send()

    def give_back(self) -> None:
        """Makes room for more, of what has been read."""
        if self.owed:
            self.h2.acknowledge_received_data(self.owed, 1)
            self._said += self.h2.data_to_send()
            self.owed = 0

    def write(self, count: int) -> None:
        self.socket.send(self._said[:count])
        self._said = self._said[count:]

    def write_all(self) -> None:
        self.write(len(self._said))

    def read(self) -> None:
        try:
            data = self.socket.recv(65_536)
        except BlockingIOError:
            return
        assert data, "the server has hung up"
        for event in self.h2.receive_data(data):
            assert not isinstance(event, h2.events.StreamEnded | h2.events.StreamReset | h2.events.ConnectionTerminated)
            self.windows_given_back += isinstance(event, h2.events.WindowUpdated) and event.stream_id == 1
            if isinstance(event, h2.events.DataReceived):
                self._came += event.data
                self.owed += event.flow_controlled_length
        self._said += self.h2.data_to_send()
        while len(self._came) >= 5 and len(self._came) >= (end := 5 + int.from_bytes(self._came[1:5], "big")):
            response = discovery_pb2.DeltaDiscoveryResponse.FromString(self._came[5:end])
            self._came = self._came[end:]
            self._unanswered.append(response.nonce)
            self.number = int(response.resources[0].resource.value[:6])


async def turns(server: NativeServer, clients: list[Client]) -> None:
    for _ in range(3):
        await asyncio.sleep(0)
    for client in clients:
        client.read()


@pytest.mark.parametrize("window", [1_500, 65_535, 256 * 1024 * 1024])
@pytest.mark.parametrize("seed", range(4))
async def test_the_newest_arrives_within_the_windows_whatever_is_said_meanwhile(monkeypatch, seed, window):
    monkeypatch.setattr(http2, "_STREAM_WINDOW", 1_000)
    chance, doors, streams = random.Random(seed), Changing(), Streams()
    async with asyncio.timeout(SECONDS), native_server(doors, {}, streams, grace=0.1) as server:
        port = server.listen("127.0.0.1", 0, None)
        clients = [Client(port, window) for _ in range(3)]
        number = 0
        for _ in range(500):
            client = chance.choice(clients)
            match chance.randrange(12):
                case 0 | 1:
                    doors.change(number := number + 1)
                case 2 | 3 | 4:
                    client.answer(chance)
                case 5:
                    client.give_back()
                case 6 if chance.random() < 0.2:
                    client.ask_again()
                case 7 if chance.random() < 0.5:
                    client.ping()
                case 8:
                    client.write(chance.randrange(40))
                case _:
                    client.write_all()
            if chance.random() < 0.7:
                await turns(server, clients)

        def is_over() -> bool:
            told = all(client.number == number and client.windows_given_back for client in clients)
            return told and all(stream.session.settled for stream in streams.all)

        doors.change(number := number + 1)
        while not is_over():
            for client in clients:
                client.answer(chance)
                client.give_back()
                client.write_all()
            await turns(server, clients)
            if not all(client.windows_given_back for client in clients):
                doors.change(number := number + 1)

        assert server.connections == 3
        for client in clients:
            client.socket.close()


async def test_a_mistake_with_one_stream_keeps_news_from_no_other(monkeypatch):
    chance, doors, streams = random.Random(0), Changing(), Streams()
    mistakes: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: mistakes.append(context))
    async with asyncio.timeout(SECONDS), native_server(doors, {}, streams, grace=0.1) as server:
        port = server.listen("127.0.0.1", 0, None)
        clients = [Client(port, 65_535) for _ in range(3)]

        async def until(*known: int) -> None:
            while tuple(client.number for client in clients) != known:
                for client in clients:
                    client.answer(chance)
                    client.write_all()
                await turns(server, clients)

        await until(0, 0, 0)
        first = streams.all[0].session
        publish = Session.publish

        def told(session: Session, *news: object) -> object:
            if session is first:
                raise RuntimeError("a mistake")
            return publish(session, *news)

        with monkeypatch.context() as mistaken:
            mistaken.setattr(Session, "publish", told)
            doors.change(1)
            await until(0, 1, 1)
        doors.change(2)
        await until(2, 2, 2)
        for client in clients:
            client.socket.close()

    assert [str(each["exception"]) for each in mistakes] == ["a mistake"]
