"""ADS over gRPC's own server: a thin shell around `Session`, for delta and state of the world.

The other transport is `native_server`; both are given the same directory and methods.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from typing import Any

import grpc
import grpc.aio
from envoy.service.discovery.v3 import discovery_pb2

from isthmus.xds.directory import (
    DELTA,
    FIRST_REQUEST_SECONDS,
    FULL,
    NO_NODE,
    REQUEST_BYTES_MAX,
    SERVICE,
    CallFacts,
    Directory,
    Newest,
    Refused,
    Stream,
    Streams,
    Unary,
)
from isthmus.xds.health import health_in
from isthmus.xds.leaving import LEAVING
from isthmus.xds.node import claims_of
from isthmus.xds.session import Session
from isthmus.xds.wire import Response

SERVER_OPTIONS: Sequence[tuple[str, int]] = (
    ("grpc.max_receive_message_length", REQUEST_BYTES_MAX),
    ("grpc.max_send_message_length", -1),
    # The default resets a third of the streams when thousands reconnect at once (measured).
    ("grpc.server.max_pending_requests", 20000),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # Bandwidth probing costs a third of the CPU of a push (measured).
    ("grpc.http2.bdp_probe", 0),
    ("grpc.so_reuseport", 0),
)


class AdsServer:
    """The two ADS methods. Add it to a gRPC server; `streams` lists who is connected."""

    def __init__(self, directory: Directory, streams: Streams | None = None) -> None:
        self._directory = directory
        self._streams = Streams() if streams is None else streams
        self._encoded = self._streams.encoded

    @property
    def streams(self) -> list[Stream]:
        """Live streams, oldest first."""
        return self._streams.all

    def add_to(self, server: grpc.aio.Server) -> None:
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, self._methods()),))

    def _methods(self) -> dict[str, Any]:
        return {
            FULL: grpc.stream_stream_rpc_method_handler(
                self._full, request_deserializer=discovery_pb2.DiscoveryRequest.FromString
            ),
            DELTA: grpc.stream_stream_rpc_method_handler(
                self._delta, request_deserializer=discovery_pb2.DeltaDiscoveryRequest.FromString
            ),
        }

    async def _full(self, requests: AsyncIterator[Any], context: Any) -> None:
        await self._serve(requests, context, Session(delta=False, encoded=self._encoded))

    async def _delta(self, requests: AsyncIterator[Any], context: Any) -> None:
        await self._serve(requests, context, Session(delta=True, encoded=self._encoded))

    async def _serve(self, requests: AsyncIterator[Any], context: Any, session: Session) -> None:
        first = await self._first_request(requests)
        if first is None:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, NO_NODE)
            return
        claims = claims_of(first.node)
        call = call_facts(context)
        try:
            feed = await self._directory.admit(claims, call)
        except Refused as refusal:
            await context.abort(grpc.StatusCode[refusal.code], refusal.message)
            return
        stream = self._streams.add(claims, call, session)
        try:
            await self._run(stream, first, requests, feed, context)
        finally:
            self._streams.remove(stream)
            self._directory.gone(feed)

    async def _first_request(self, requests: AsyncIterator[Any]) -> Any | None:
        try:
            async with asyncio.timeout(FIRST_REQUEST_SECONDS):
                request = await anext(requests, None)
        except TimeoutError:
            return None
        return request if request is not None and request.node.id else None

    async def _run(self, stream: Stream, first: Any, requests: AsyncIterator[Any], feed: Newest, context: Any) -> None:
        """Until the client ends its side. Writing has a task of its own: a client that does not read stops nothing but itself."""
        outbox: asyncio.Queue[Response] = asyncio.Queue()
        send = outbox.put_nowait

        async def learn() -> None:
            while True:
                for response in stream.session.publish(*await feed.take()):
                    send(response)

        async def write() -> None:
            while True:
                await context.write(b"".join(await outbox.get()))

        def receive(request: Any) -> None:
            health = health_in(request)
            if health is not None:
                self._directory.told(feed, health)
                return
            if request.type_url == LEAVING:
                self._directory.leaves(feed)
                return
            for response in stream.session.receive(request):
                send(response)

        async def hear() -> None:
            receive(first)
            async for request in requests:
                receive(request)

        try:
            async with asyncio.TaskGroup() as tasks:
                background = [
                    tasks.create_task(learn(), name=f"learn {stream.node_id}"),
                    tasks.create_task(write(), name=f"write {stream.node_id}"),
                ]
                hearing = tasks.create_task(hear(), name=f"hear {stream.node_id}")
                feed.end = partial(_cancel, hearing)
                await asyncio.wait([hearing])
                for task in background:
                    task.cancel()
        except* (grpc.aio.UsageError, asyncio.InvalidStateError, grpc.aio.AbortError, grpc.RpcError):
            pass  # The client went away while a response was on its way: the end of a stream like any other.


def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()


def add_unary(server: grpc.aio.Server, methods: Mapping[str, Unary]) -> None:
    """Methods besides ADS, by path (`/service/method`)."""
    by_service: dict[str, dict[str, Any]] = {}
    for path, method in methods.items():
        service, name = path.removeprefix("/").split("/")
        by_service.setdefault(service, {})[name] = grpc.unary_unary_rpc_method_handler(_handler(method))
    for service, handlers in by_service.items():
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))


def _handler(method: Unary) -> Any:
    async def answer(request: bytes, context: Any) -> bytes:
        try:
            return await method(request, call_facts(context))
        except Refused as refusal:
            await context.abort(grpc.StatusCode[refusal.code], refusal.message)
            raise

    return answer


def call_facts(context: Any) -> CallFacts:
    """What gRPC knows about the caller of a method."""
    metadata = {str(key): value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
    shown = context.auth_context()
    # What gRPC calls the chain has the certificates above the first one (1.85).
    chain = (*shown.get("x509_pem_cert", ()), *shown.get("x509_pem_cert_chain", ()))
    certificate = "".join(bytes(part).decode() for part in chain)
    return CallFacts(metadata=metadata, peer_certificate=certificate, peer=str(context.peer()))
