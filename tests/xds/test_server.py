"""ADS over gRPC and TLS on loopback: the real server, asked by the real client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime

import grpc
import grpc.aio
import pytest
from envoy.service.discovery.v3 import discovery_pb2

from isthmus.envoy.resources import CLUSTER, NAME_TABLE, Resource, ResourceSet
from isthmus.model.identity import TrustDomain
from isthmus.trust.authority import CertificateAuthority
from isthmus.xds.client import subscribe
from isthmus.xds.node import NodeClaims
from isthmus.xds.server import SERVER_OPTIONS, AdsServer, CallFacts, Newest, Refused

NODE = {"id": "sidecar~10.0.0.1~a.ns~ns.svc.cluster.local", "metadata": {"CLUSTER_ID": "east"}}
SECONDS = 10.0


def tables(**names: str) -> ResourceSet:
    return ResourceSet({NAME_TABLE: {name: Resource.of_bytes(name, body.encode()) for name, body in names.items()}})


class Doorkeeper:
    """Admits whoever shows the token, and remembers who came and went."""

    def __init__(self) -> None:
        self.came: list[tuple[NodeClaims, CallFacts]] = []
        self.feeds: list[Newest] = []
        self.left: list[Newest] = []
        self.somebody_left = asyncio.Event()

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


@asynccontextmanager
async def serving(directory: Doorkeeper) -> AsyncIterator[tuple[AdsServer, grpc.aio.Channel]]:
    authority = CertificateAuthority.self_signed(TrustDomain("cluster.local"), datetime.now(UTC))
    shown = authority.serving_certificate(["istiod.istio-system.svc"], datetime.now(UTC))
    server = grpc.aio.server(options=SERVER_OPTIONS)
    port = server.add_secure_port(
        "127.0.0.1:0", grpc.ssl_server_credentials([(shown.key_pem.encode(), shown.chain_pem.encode())])
    )
    ads = AdsServer(directory)
    ads.add_to(server)
    await server.start()
    credentials = grpc.ssl_channel_credentials(root_certificates=authority.root_pem.encode())
    override = [("grpc.ssl_target_name_override", "istiod.istio-system.svc")]
    try:
        async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options=override) as channel:
            yield ads, channel
    finally:
        await server.stop(None)


async def test_a_client_gets_what_there_is_then_what_changes_and_is_seen_to_leave():
    directory = Doorkeeper()
    seen = []

    async with asyncio.timeout(SECONDS), serving(directory) as (ads, channel):
        async with aclosing(subscribe(channel, NODE, NAME_TABLE, metadata=[("authorization", "Bearer good")])) as news:
            seen.append(await anext(news))
            streams = [(stream.node_id, stream.cluster) for stream in ads.streams]
            directory.feeds[0].put(tables(a="two", c="one"))
            seen.append(await anext(news))
        await directory.somebody_left.wait()
        streams_after = ads.streams

    assert seen == [({"a": b"one", "b": b"one"}, []), ({"a": b"two", "c": b"one"}, ["b"])]
    assert streams == [(NODE["id"], "east")]
    assert directory.left == directory.feeds
    assert streams_after == []
    assert directory.came[0][0].metadata == {"CLUSTER_ID": "east"}


async def test_who_is_refused_is_told_the_code_and_the_reason():
    directory = Doorkeeper()

    async with asyncio.timeout(SECONDS), serving(directory) as (_, channel):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await anext(subscribe(channel, NODE, NAME_TABLE, metadata=[("authorization", "Bearer bad")]))

    assert (refused.value.code(), refused.value.details()) == (grpc.StatusCode.UNAUTHENTICATED, "who are you?")
    assert directory.came == directory.left == []


async def test_a_first_request_that_does_not_say_who_is_there_ends_the_stream():
    async with asyncio.timeout(SECONDS), serving(Doorkeeper()) as (_, channel):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await anext(subscribe(channel, {}, NAME_TABLE, metadata=[("authorization", "Bearer good")]))

    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT


async def test_state_of_the_world_is_spoken_too():
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


async def test_a_client_that_ends_its_side_ends_the_stream_without_an_error():
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

    assert taken == [tables(a="two"), tables(a="three")]
