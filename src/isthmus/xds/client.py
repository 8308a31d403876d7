"""A small delta ADS client: for the agent's name table, and for tests. Reconnecting is the caller's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
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
    """What the server sends of one type, as (changed by name, removed names), each acknowledged when the next is asked for.

    `node` is the xDS Node as JSON. Raises grpc.aio.AioRpcError when the stream ends with an error.
    """
    call = channel.stream_stream(
        _DELTA,
        request_serializer=discovery_pb2.DeltaDiscoveryRequest.SerializeToString,
        response_deserializer=discovery_pb2.DeltaDiscoveryResponse.FromString,
    )(metadata=list(metadata))
    first = discovery_pb2.DeltaDiscoveryRequest(
        node=json_format.ParseDict(node, base_pb2.Node()), type_url=type_url, resource_names_subscribe=names
    )
    try:
        await call.write(first)
        while (response := await call.read()) is not grpc.aio.EOF:
            yield (
                {resource.name: resource.resource.value for resource in response.resources},
                list(response.removed_resources),
            )
            await call.write(discovery_pb2.DeltaDiscoveryRequest(type_url=type_url, response_nonce=response.nonce))
    except asyncio.InvalidStateError:
        await call.code()
        raise
    finally:
        call.cancel()
