"""ADS over gRPC: a thin shell around `Session`, for delta and state of the world.

It knows no mesh. A Directory says who may connect and what each client gets; a Newest carries the resources, newest wins.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import grpc
import grpc.aio
from envoy.service.discovery.v3 import discovery_pb2

from isthmus.envoy.resources import ResourceSet
from isthmus.xds.node import NodeClaims, claims_of
from isthmus.xds.session import Session

_SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
_REQUEST_BYTES_MAX = 4 * 1024 * 1024
_FIRST_REQUEST_SECONDS = 15.0

SERVER_OPTIONS: Sequence[tuple[str, int]] = (
    ("grpc.max_receive_message_length", _REQUEST_BYTES_MAX),
    ("grpc.max_send_message_length", -1),
    # The default resets a third of the streams when thousands reconnect at once (measured).
    ("grpc.server.max_pending_requests", 20000),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 15_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # Bandwidth probing costs a third of the CPU of a push (measured).
    ("grpc.http2.bdp_probe", 0),
    ("grpc.so_reuseport", 0),
)


class Refused(Exception):
    """A caller that gets nothing: the gRPC status code's name, and a message for the caller."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFacts:
    """What the transport knows about a caller: metadata as sent, the verified peer certificate (PEM, or empty), its address."""

    metadata: Mapping[str, str]
    peer_certificate: str
    peer: str


class Newest:
    """Carries a value from one writer to one reader. The reader gets the newest; what it missed in between is gone."""

    def __init__(self) -> None:
        self._value: ResourceSet | None = None
        self._news = asyncio.Event()

    def put(self, value: ResourceSet) -> None:
        self._value = value
        self._news.set()

    async def take(self) -> ResourceSet:
        """The newest value, once there is one that was not taken yet."""
        await self._news.wait()
        self._news.clear()
        assert self._value is not None, "set together with the event"
        return self._value


class Directory(Protocol):
    """Who may connect, and what each client gets."""

    async def admit(self, claims: NodeClaims, call: CallFacts) -> Newest:
        """Where the client's resources will appear. Raises Refused."""
        ...

    def gone(self, feed: Newest) -> None:
        """The client that this feed was for has disconnected."""
        ...


@dataclass(slots=True, eq=False)
class Stream:
    """A connected client, for tables. `number` orders streams by age."""

    number: int
    node_id: str
    user_agent: str
    peer: str
    session: Session
    cluster: str
    outbox: asyncio.Queue[bytes] = field(default_factory=asyncio.Queue)


class AdsServer:
    """The two ADS methods. Add it to a gRPC server; `streams` lists who is connected."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._streams: dict[Stream, None] = {}
        self._opened = 0

    @property
    def streams(self) -> list[Stream]:
        """Live streams, oldest first."""
        return list(self._streams)

    def add_to(self, server: grpc.aio.Server) -> None:
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, self._methods()),))

    def _methods(self) -> dict[str, Any]:
        return {
            "StreamAggregatedResources": grpc.stream_stream_rpc_method_handler(
                self._full, request_deserializer=discovery_pb2.DiscoveryRequest.FromString
            ),
            "DeltaAggregatedResources": grpc.stream_stream_rpc_method_handler(
                self._delta, request_deserializer=discovery_pb2.DeltaDiscoveryRequest.FromString
            ),
        }

    async def _full(self, requests: AsyncIterator[Any], context: Any) -> None:
        await self._serve(requests, context, Session(delta=False))

    async def _delta(self, requests: AsyncIterator[Any], context: Any) -> None:
        await self._serve(requests, context, Session(delta=True))

    async def _serve(self, requests: AsyncIterator[Any], context: Any, session: Session) -> None:
        first = await self._first_request(requests)
        if first is None:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the first request must carry the node")
            return
        claims = claims_of(first.node)
        call = call_facts(context)
        try:
            feed = await self._directory.admit(claims, call)
        except Refused as refusal:
            await context.abort(grpc.StatusCode[refusal.code], refusal.message)
            return
        self._opened += 1
        stream = Stream(
            number=self._opened,
            node_id=claims.id,
            user_agent=claims.user_agent,
            peer=call.peer,
            session=session,
            cluster=str(claims.metadata.get("CLUSTER_ID", "")),
        )
        self._streams[stream] = None
        try:
            await self._run(stream, first, requests, feed, context)
        finally:
            del self._streams[stream]
            self._directory.gone(feed)

    async def _first_request(self, requests: AsyncIterator[Any]) -> Any | None:
        try:
            async with asyncio.timeout(_FIRST_REQUEST_SECONDS):
                request = await anext(requests, None)
        except TimeoutError:
            return None
        return request if request is not None and request.node.id else None

    async def _run(self, stream: Stream, first: Any, requests: AsyncIterator[Any], feed: Newest, context: Any) -> None:
        """Until the client ends its side. Writing has a task of its own: a client that does not read stops nothing but itself."""
        send = stream.outbox.put_nowait

        async def learn() -> None:
            while True:
                for response in stream.session.publish(await feed.take()):
                    send(response)

        async def write() -> None:
            while True:
                await context.write(await stream.outbox.get())

        for response in stream.session.receive(first):
            send(response)
        try:
            async with asyncio.TaskGroup() as tasks:
                background = [
                    tasks.create_task(learn(), name=f"learn {stream.node_id}"),
                    tasks.create_task(write(), name=f"write {stream.node_id}"),
                ]
                async for request in requests:
                    for response in stream.session.receive(request):
                        send(response)
                for task in background:
                    task.cancel()
        except* (grpc.aio.UsageError, asyncio.InvalidStateError, grpc.aio.AbortError, grpc.RpcError):
            pass  # The client went away while a response was on its way: the end of a stream like any other.


def call_facts(context: Any) -> CallFacts:
    """What gRPC knows about the caller of a method."""
    metadata = {str(key): value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
    certificates = context.auth_context().get("x509_pem_cert", ())
    certificate = bytes(certificates[0]).decode() if certificates else ""
    return CallFacts(metadata=metadata, peer_certificate=certificate, peer=str(context.peer()))
