"""The last resort among an Envoy's control planes: its agent, with what a proxy of the same workload had accepted last.

It answers only an Envoy that has not finished its start. One that runs goes on with what it has, and goes on asking the control planes. A stream
ends as soon as the Envoy runs, so that it asks them again, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import structlog
from envoy.service.discovery.v3 import discovery_pb2

from isthmus.agent.last_good import LastGood
from isthmus.agent.private_calls import serve_calls_privately
from isthmus.xds.session import Session

_SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
_STREAM_SECONDS_MAX = 30.0
_QUIET_SECONDS = 0.5

log = structlog.get_logger()


class LastGoodServer:
    """Delta ADS on a unix socket that is one Envoy's alone."""

    def __init__(self, socket_path: Path, last_good: LastGood, is_live: Callable[[], Awaitable[bool]]) -> None:
        self._path = socket_path
        self._is_live = is_live
        self._last_good = last_good
        self._server: grpc.aio.Server | None = None
        self.served = 0

    async def start(self) -> None:
        """Listens. Raises OSError if the socket cannot be made."""
        delta = grpc.stream_stream_rpc_method_handler(
            self._delta, request_deserializer=discovery_pb2.DeltaDiscoveryRequest.FromString
        )
        self._server = await serve_calls_privately(_SERVICE, {"DeltaAggregatedResources": delta}, self._path)

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(grace=None)
        self._path.unlink(missing_ok=True)

    async def _delta(self, requests: AsyncIterator[Any], context: Any) -> None:
        first = await anext(requests, None)
        kept = self._last_good.configuration() if first is not None and not await self._is_live() else None
        if first is None or kept is None:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "ask a control plane: there is nothing for you here")
            return
        self.served += 1
        log.warning("no control plane answers: starting with the last good configuration", node=first.node.id)
        session = Session(delta=True)
        for response in [*session.receive(first), *session.publish(kept)]:
            await context.write(b"".join(response))
        try:
            async with asyncio.timeout(_STREAM_SECONDS_MAX):
                await self._until_it_runs(requests, context, session)
        except (TimeoutError, asyncio.InvalidStateError, grpc.aio.UsageError):
            return

    async def _until_it_runs(self, requests: AsyncIterator[Any], context: Any, session: Session) -> None:
        incoming = asyncio.ensure_future(anext(requests, None))
        try:
            while True:
                done, _ = await asyncio.wait([incoming], timeout=_QUIET_SECONDS)
                if not done and session.settled and await self._is_live():
                    return
                if not done:
                    continue
                if (request := incoming.result()) is None:
                    return
                for response in session.receive(request):
                    await context.write(b"".join(response))
                incoming = asyncio.ensure_future(anext(requests, None))
        finally:
            incoming.cancel()
