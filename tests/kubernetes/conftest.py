"""A small API server with memory, on loopback: one collection of ConfigMaps, and whatever should go wrong next."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from isthmus.kubernetes.client import ApiClient
from isthmus.kubernetes.kubeconfig import ApiAddress

PATH = "/api/v1/configmaps"
Respond = Callable[[web.Request], Awaitable[web.StreamResponse]]


class FakeApiServer:
    """`next_answers` come first, one each; then requests are served honestly. Remembers the query of each request."""

    def __init__(self) -> None:
        self.version = 1
        self.objects: dict[str, dict[str, Any]] = {}
        self.events: list[tuple[int, dict[str, Any]]] = []
        self.compacted = 0
        self.next_answers: deque[Respond] = deque()
        self.requests: list[web.Request] = []
        self.unserved: tuple[str, ...] = ()
        """Beginnings of paths that it does not know."""
        self._hang_ups = 0
        self._news = asyncio.Condition()

    async def write(self, name: str, value: str | None) -> None:
        self.version += 1
        before = self.objects.pop(name, None)
        metadata = {"name": name, "namespace": "ns", "resourceVersion": str(self.version)}
        found = {"metadata": metadata, "data": {"value": value}}
        if value is not None:
            self.objects[name] = found
        kind = "DELETED" if value is None else "MODIFIED" if before else "ADDED"
        self.events.append((self.version, {"type": kind, "object": found}))
        async with self._news:
            self._news.notify_all()

    async def hang_up(self) -> None:
        """Every watch that is open ends in the middle of a line."""
        self._hang_ups += 1
        async with self._news:
            self._news.notify_all()

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        if request.path.startswith(self.unserved):
            raise web.HTTPNotFound
        if self.next_answers:
            return await self.next_answers.popleft()(request)
        if request.query.get("watch"):
            return await self._watch(request)
        items = list(self.objects.values())
        return web.json_response({"metadata": {"resourceVersion": str(self.version)}, "items": items})

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        if int(request.query.get("resourceVersion") or self.version) < self.compacted:
            return web.json_response({"code": 410, "reason": "Expired", "message": "too old"}, status=410)
        response = web.StreamResponse()
        await response.prepare(request)
        at = int(request.query.get("resourceVersion") or 0)
        if "sendInitialEvents" in request.query:
            for found in self.objects.values():
                await send(response, {"type": "ADDED", "object": found})
            end = {"annotations": {"k8s.io/initial-events-end": "true"}, "resourceVersion": str(self.version)}
            await send(response, {"type": "BOOKMARK", "object": {"metadata": end}})
            at = self.version
        hang_ups = self._hang_ups
        while True:
            async with self._news:
                while hang_ups == self._hang_ups and not any(version > at for version, _ in self.events):
                    await self._news.wait()
            if hang_ups != self._hang_ups:
                await response.write(b'{"type":"MODIFIED","object":{"metadata":{"name":"cut o')
                return await hang_up(request)
            for version, event in list(self.events):
                if version > at:
                    await send(response, event)
                    at = version


async def send(response: web.StreamResponse, event: dict[str, Any]) -> None:
    await response.write(json.dumps(event).encode() + b"\n")


def status(code: int, reason: str = "", message: str = "") -> Respond:
    async def respond(_: web.Request) -> web.Response:
        return web.json_response({"kind": "Status", "code": code, "reason": reason, "message": message}, status=code)

    return respond


def text(body: str, code: int = 200) -> Respond:
    async def respond(_: web.Request) -> web.Response:
        return web.Response(text=body, status=code)

    return respond


async def hang_up(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def silence(request: web.Request) -> web.StreamResponse:
    """Accepted, and then nothing more until the client goes."""
    response = web.StreamResponse()
    await response.prepare(request)
    await asyncio.Event().wait()
    return response


class Answers:
    """What may go wrong."""

    status = staticmethod(status)
    text = staticmethod(text)
    hang_up = staticmethod(hang_up)
    silence = staticmethod(silence)


@pytest.fixture(scope="session")
def answers() -> type[Answers]:
    return Answers


@asynccontextmanager
async def listening(server: FakeApiServer, context: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """The URL under which the server is found."""
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", server.serve)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    try:
        yield f"{'https' if context else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.fixture
def listen() -> Any:
    return listening


@pytest.fixture
async def server() -> FakeApiServer:
    return FakeApiServer()


@pytest.fixture
async def client(server: FakeApiServer) -> AsyncIterator[ApiClient]:
    async with listening(server) as url, ApiClient(ApiAddress(server=url, token="secret")) as found:
        yield found
