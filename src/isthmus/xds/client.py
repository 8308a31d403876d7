"""A small delta ADS client: for the agent's name table, and for tests. Reconnecting is the caller's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import grpc.aio
from envoy.config.core.v3 import base_pb2
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import json_format

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
    async for _, changed, removed in follow(channel, node, {type_url: names}, metadata=metadata):
        yield changed, removed


async def follow(
    channel: grpc.aio.Channel,
    node: dict[str, Any],
    wanted: Mapping[str, Sequence[str]],
    *,
    metadata: Sequence[tuple[str, str]] = (),
) -> AsyncIterator[tuple[str, dict[str, bytes], list[str]]]:
    """What the server sends, as (type, changed by name, removed names), each acknowledged when the next is asked for.

    `wanted` are names by type, none for all; `node` is the xDS Node as JSON. Raises grpc.aio.AioRpcError when the stream ends with an error.
    """
    call = channel.stream_stream(
        _DELTA,
        request_serializer=discovery_pb2.DeltaDiscoveryRequest.SerializeToString,
        response_deserializer=discovery_pb2.DeltaDiscoveryResponse.FromString,
    )(metadata=list(metadata))
    claims = json_format.ParseDict(node, base_pb2.Node())
    try:
        for type_url, names in wanted.items():
            await call.write(
                discovery_pb2.DeltaDiscoveryRequest(node=claims, type_url=type_url, resource_names_subscribe=names)
            )
        while (response := await call.read()) is not grpc.aio.EOF:
            yield (
                response.type_url,
                {resource.name: resource.resource.value for resource in response.resources},
                list(response.removed_resources),
            )
            await call.write(
                discovery_pb2.DeltaDiscoveryRequest(type_url=response.type_url, response_nonce=response.nonce)
            )
    except asyncio.InvalidStateError:
        await call.code()
        raise
    finally:
        call.cancel()
