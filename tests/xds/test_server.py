"""ADS over TLS on loopback: the real servers, ours and gRPC's, asked by gRPC's client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import grpc
import grpc.aio
import pytest
from envoy.service.discovery.v3 import discovery_pb2

from isthmus.envoy.resources import CLUSTER, ENDPOINTS, NAME_TABLE, Resource, ResourceSet
from isthmus.model.identity import TrustDomain
from isthmus.trust.authority import CertificateAuthority, ServingCertificate
from isthmus.xds.client import leave, report_health, subscribe
from isthmus.xds.directory import CallFacts, Newest, Refused, Streams
from isthmus.xds.health import HealthReport
from isthmus.xds.native_server import native_server
from isthmus.xds.native_tls import ClientCertificate, server_context
from isthmus.xds.node import NodeClaims
from isthmus.xds.server import SERVER_OPTIONS, AdsServer

NODE = {"id": "sidecar~10.0.0.1~a.ns~ns.svc.cluster.local", "metadata": {"CLUSTER_ID": "east"}}
SECONDS = 60.0
Serving = Callable[["Doorkeeper"], AbstractAsyncContextManager[tuple[Streams, grpc.aio.Channel]]]


def tables(**names: str) -> ResourceSet:
    return ResourceSet({NAME_TABLE: {name: Resource.of_bytes(name, body.encode()) for name, body in names.items()}})


class Doorkeeper:
    """Admits whoever shows the token, and remembers who came and went."""

    def __init__(self) -> None:
        self.came: list[tuple[NodeClaims, CallFacts]] = []
        self.feeds: list[Newest] = []
        self.left: list[Newest] = []
        self.somebody_left = asyncio.Event()
        self.reports: list[tuple[int, HealthReport]] = []
        self.somebody_told = asyncio.Event()

    async def admit(self, claims: NodeClaims, call: CallFacts) -> Newest:
        if call.metadata.get("authorization") != "Bearer good":
            raise Refused("UNAUTHENTICATED", "who are you?")
        self.came.append((claims, call))
        feed = Newest()
        feed.put(tables(a="one", b="one"))
        self.feeds.append(feed)
        return feed

    def gone(self, feed: Newest) -> None:
        self.left.append(feed)
        self.somebody_left.set()

    def told(self, feed: Newest, health: HealthReport) -> None:
        self.reports.append((self.feeds.index(feed), health))
        self.somebody_told.set()

    def leaves(self, feed: Newest) -> None:
        for each in self.feeds:
            each.end()


@pytest.fixture(params=["native", "grpc"])
def serving(request) -> Serving:
    """A server for a directory, over each of the transports, and a channel to it."""
    return {"native": native, "grpc": over_grpc}[request.param]


@asynccontextmanager
async def native(directory: Doorkeeper) -> AsyncIterator[tuple[Streams, grpc.aio.Channel]]:
    authority, shown = credentials()
    context = server_context(
        chain_pem=shown.chain_pem,
        key_pem=shown.key_pem,
        roots_pem=authority.root_pem,
        client=ClientCertificate.WELCOME,
    )
    streams = Streams()
    async with (
        native_server(directory, {}, streams, grace=1) as server,
        channel_to(server.listen("127.0.0.1", 0, context), authority) as channel,
    ):
        yield streams, channel


@asynccontextmanager
async def over_grpc(directory: Doorkeeper) -> AsyncIterator[tuple[Streams, grpc.aio.Channel]]:
    authority, shown = credentials()
    server = grpc.aio.server(options=SERVER_OPTIONS)
    port = server.add_secure_port(
        "127.0.0.1:0", grpc.ssl_server_credentials([(shown.key_pem.encode(), shown.chain_pem.encode())])
    )
    streams = Streams()
    AdsServer(directory, streams).add_to(server)
    await server.start()
    try:
        async with channel_to(port, authority) as channel:
            yield streams, channel
    finally:
        await server.stop(None)


def credentials() -> tuple[CertificateAuthority, ServingCertificate]:
    authority = CertificateAuthority.self_signed(TrustDomain("cluster.local"), datetime.now(UTC))
    return authority, authority.serving_certificate(["istiod.istio-system.svc"], datetime.now(UTC))


def channel_to(port: int, authority: CertificateAuthority) -> grpc.aio.Channel:
    return grpc.aio.secure_channel(
        f"127.0.0.1:{port}",
        grpc.ssl_channel_credentials(root_certificates=authority.root_pem.encode()),
        options=[("grpc.ssl_target_name_override", "istiod.istio-system.svc")],
    )


async def test_a_client_gets_what_there_is_then_what_changes_and_is_seen_to_leave(serving):
    directory = Doorkeeper()
    seen = []

    async with asyncio.timeout(SECONDS), serving(directory) as (known, channel):
        async with aclosing(subscribe(channel, NODE, NAME_TABLE, metadata=[("authorization", "Bearer good")])) as news:
            seen.append(await anext(news))
            streams = [(stream.node_id, stream.cluster) for stream in known.all]
            directory.feeds[0].put(tables(a="two", c="one"))
            seen.append(await anext(news))
        await directory.somebody_left.wait()
        streams_after = known.all

    assert seen == [({"a": b"one", "b": b"one"}, []), ({"a": b"two", "c": b"one"}, ["b"])]
    assert streams == [(NODE["id"], "east")]
    assert directory.left == directory.feeds
    assert streams_after == []
    assert directory.came[0][0].metadata == {"CLUSTER_ID": "east"}


async def test_who_is_refused_is_told_the_code_and_the_reason(serving):
    directory = Doorkeeper()

    async with asyncio.timeout(SECONDS), serving(directory) as (_, channel):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await anext(subscribe(channel, NODE, NAME_TABLE, metadata=[("authorization", "Bearer bad")]))

    assert (refused.value.code(), refused.value.details()) == (grpc.StatusCode.UNAUTHENTICATED, "who are you?")
    assert directory.came == directory.left == []


async def test_a_first_request_that_does_not_say_who_is_there_ends_the_stream(serving):
    async with asyncio.timeout(SECONDS), serving(Doorkeeper()) as (_, channel):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await anext(subscribe(channel, {}, NAME_TABLE, metadata=[("authorization", "Bearer good")]))

    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT


async def test_state_of_the_world_is_spoken_too(serving):
    directory = Doorkeeper()

    async with asyncio.timeout(SECONDS), serving(directory) as (_, channel):
        call = channel.stream_stream(
            "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources",
            request_serializer=discovery_pb2.DiscoveryRequest.SerializeToString,
            response_deserializer=discovery_pb2.DiscoveryResponse.FromString,
        )(metadata=[("authorization", "Bearer good")])
        await call.write(discovery_pb2.DiscoveryRequest(node={"id": NODE["id"]}, type_url=NAME_TABLE))
        first = await call.read()
        await call.write(discovery_pb2.DiscoveryRequest(type_url=NAME_TABLE, response_nonce=first.nonce))
        directory.feeds[0].put(tables(a="one"))
        second = await call.read()
        call.cancel()

    assert [any_.value for any_ in first.resources] == [b"one", b"one"]
    assert [any_.value for any_ in second.resources] == [b"one"]


async def test_a_client_that_ends_its_side_ends_the_stream_without_an_error(serving):
    directory = Doorkeeper()

    async with asyncio.timeout(SECONDS), serving(directory) as (_, channel):
        call = channel.stream_stream(
            "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources",
            request_serializer=discovery_pb2.DeltaDiscoveryRequest.SerializeToString,
            response_deserializer=discovery_pb2.DeltaDiscoveryResponse.FromString,
        )(metadata=[("authorization", "Bearer good")])
        await call.write(discovery_pb2.DeltaDiscoveryRequest(node={"id": NODE["id"]}, type_url=CLUSTER))
        await call.read()
        await call.done_writing()
        code = await call.code()

    assert code == grpc.StatusCode.OK
    assert directory.left == directory.feeds


async def test_newest_gives_the_newest_and_each_value_once():
    feed = Newest()

    feed.put(tables(a="one"))
    feed.put(tables(a="two"))
    taken = [await feed.take()]
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await feed.take()
    feed.put(tables(a="three"))
    taken.append(await feed.take())

    assert [resources for resources, _ in taken] == [tables(a="two"), tables(a="three")]


async def test_newest_gives_everything_that_changed_in_between_with_the_oldest_version_of_each():
    feed = Newest()
    feed.put(tables(a="one"))
    await feed.take()

    feed.put(tables(a="two"), {CLUSTER: {"a": "1"}})
    feed.put(tables(a="three", b="one"), {CLUSTER: {"a": "2", "b": ""}, ENDPOINTS: {"c": "1"}})
    _, known = await feed.take()
    feed.put(tables(a="four"), {CLUSTER: {"a": "3"}})
    feed.put(tables(a="five"))
    _, unknown = await feed.take()

    assert known == {CLUSTER: {"a": "1", "b": ""}, ENDPOINTS: {"c": "1"}}
    assert unknown is None


async def test_an_agent_says_how_its_application_is_and_gets_nothing_in_return(serving):
    directory = Doorkeeper()
    reports = [HealthReport(healthy=False, message="503: no"), HealthReport(healthy=True)]
    waiting = iter(reports)

    async def newest() -> HealthReport:
        for report in waiting:
            return report
        return await asyncio.get_running_loop().create_future()

    async with asyncio.timeout(SECONDS), serving(directory) as (streams, channel), asyncio.TaskGroup() as tasks:
        telling = tasks.create_task(report_health(channel, NODE, newest, metadata=[("authorization", "Bearer good")]))
        while len(directory.reports) < len(reports):
            directory.somebody_told.clear()
            await directory.somebody_told.wait()
        types = [status for stream in streams.all for status in stream.session.status]
        telling.cancel()

    assert directory.reports == [(0, report) for report in reports]
    assert types == []


async def test_who_leaves_has_all_its_streams_ended_without_an_error(serving):
    directory, good = Doorkeeper(), [("authorization", "Bearer good")]

    async with asyncio.timeout(SECONDS), serving(directory) as (known, channel):
        news = subscribe(channel, NODE, NAME_TABLE, metadata=good)
        await anext(news)
        await leave(channel, NODE, metadata=good)
        rest = [told async for told in news]
        while known.all:
            directory.somebody_left.clear()
            await directory.somebody_left.wait()

    assert rest == []
    assert len(directory.left) == 2


async def test_a_stream_on_which_health_is_told_ends_with_a_reason(serving):
    async with asyncio.timeout(SECONDS), serving(Doorkeeper()) as (_, channel):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await report_health(channel, NODE, once_healthy(), metadata=[("authorization", "Bearer bad")])

    assert refused.value.details() == "who are you?"


def once_healthy() -> Callable[[], Coroutine[Any, Any, HealthReport]]:
    """After the first report nothing changes."""
    reports = iter([HealthReport(healthy=True)])

    async def newest() -> HealthReport:
        for report in reports:
            return report
        return await asyncio.get_running_loop().create_future()

    return newest
