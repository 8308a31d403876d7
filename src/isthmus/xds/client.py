"""A small delta ADS client: for agents, and for tests. Reconnecting is the caller's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc.aio
from envoy.config.core.v3 import base_pb2
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import json_format
from google.rpc import status_pb2

from isthmus.xds.health import HEALTH, HealthReport
from isthmus.xds.leaving import LEAVING

_INTERNAL = 13
_DELTA = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"


async def subscribe(
    channel: grpc.aio.Channel,
    node: dict[str, Any],
    type_url: str,
    *,
    names: Sequence[str] = (),
    metadata: Sequence[tuple[str, str]] = (),
) -> AsyncIterator[tuple[dict[str, bytes], list[str]]]:
    """What the server sends of one type, as `follow` has it."""
    async for told in follow(channel, node, {type_url: names}, metadata=metadata):
        yield told.changed, told.removed


@dataclass(frozen=True, slots=True)
class Told:
    """One response. `answer` acknowledges it; with a text it refuses it, or says why it cannot be acknowledged yet."""

    type_url: str
    changed: dict[str, bytes]
    removed: list[str]
    answer: Callable[[str], Awaitable[None]]


async def follow(
    channel: grpc.aio.Channel,
    node: dict[str, Any],
    wanted: Mapping[str, Sequence[str]],
    *,
    metadata: Sequence[tuple[str, str]] = (),
    answered_later: Set[str] = frozenset(),
) -> AsyncIterator[Told]:
    """What the server sends, each acknowledged when the next is asked for; but types that are `answered_later`, when the caller does.

    `wanted` are names by type, none for all; `node` is the xDS Node as JSON. Raises grpc.aio.AioRpcError when the stream ends with an error.
    """
    call = _stream(channel, metadata)
    claims = json_format.ParseDict(node, base_pb2.Node())
    writing = asyncio.Lock()

    async def answer(type_url: str, nonce: str, refusal: str) -> None:
        request = discovery_pb2.DeltaDiscoveryRequest(type_url=type_url, response_nonce=nonce)
        if refusal:
            request.error_detail.message = refusal
        async with writing:
            await call.write(request)

    try:
        for type_url, names in wanted.items():
            await call.write(
                discovery_pb2.DeltaDiscoveryRequest(node=claims, type_url=type_url, resource_names_subscribe=names)
            )
        while (response := await call.read()) is not grpc.aio.EOF:
            told = Told(
                response.type_url,
                {resource.name: resource.resource.value for resource in response.resources},
                list(response.removed_resources),
                partial(answer, response.type_url, response.nonce),
            )
            yield told
            if told.type_url not in answered_later:
                await told.answer("")
    except asyncio.InvalidStateError:
        # An answer met the stream's end: how that was is what counts, and it may have been in order.
        await call.read()
    finally:
        call.cancel()


async def leave(channel: grpc.aio.Channel, node: dict[str, Any], *, metadata: Sequence[tuple[str, str]] = ()) -> None:
    """Returns when the control plane has ended all streams of the proxy, this one last. Raises grpc.aio.AioRpcError."""
    call = _stream(channel, metadata)
    claims = json_format.ParseDict(node, base_pb2.Node())
    try:
        await call.write(discovery_pb2.DeltaDiscoveryRequest(node=claims, type_url=LEAVING))
        while await call.read() is not grpc.aio.EOF:
            pass
    finally:
        call.cancel()


async def report_health(
    channel: grpc.aio.Channel,
    node: dict[str, Any],
    newest: Callable[[], Coroutine[Any, Any, HealthReport]],
    *,
    metadata: Sequence[tuple[str, str]] = (),
) -> None:
    """Says each report that `newest` waits for, on a stream that asks for nothing. Raises grpc.aio.AioRpcError when the stream ends."""
    call = _stream(channel, metadata)
    said: dict[str, Any] = {"node": json_format.ParseDict(node, base_pb2.Node())}
    ended = asyncio.ensure_future(call.read())
    report = asyncio.ensure_future(newest())
    try:
        while not ended.done():
            await asyncio.wait([ended, report], return_when=asyncio.FIRST_COMPLETED)
            if report.done() and not ended.done():
                health = report.result()
                if not health.healthy:
                    said["error_detail"] = status_pb2.Status(code=_INTERNAL, message=health.message)
                await call.write(discovery_pb2.DeltaDiscoveryRequest(type_url=HEALTH, **said))
                said = {}
                report = asyncio.ensure_future(newest())
        ended.result()
        raise ConnectionError("the control plane has ended the stream")
    except (asyncio.InvalidStateError, grpc.aio.AioRpcError):
        # What was being written when the stream ended says less than its end.
        raise grpc.aio.AioRpcError(
            await call.code(), await call.initial_metadata(), await call.trailing_metadata(), await call.details()
        ) from None
    finally:
        report.cancel()
        ended.cancel()
        call.cancel()


def _stream(channel: grpc.aio.Channel, metadata: Sequence[tuple[str, str]]) -> Any:
    return channel.stream_stream(
        _DELTA,
        request_serializer=discovery_pb2.DeltaDiscoveryRequest.SerializeToString,
        response_deserializer=discovery_pb2.DeltaDiscoveryResponse.FromString,
    )(metadata=list(metadata))
