"""A small API server for any kind, with memory, on loopback; and whatever should ail it next."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from isthmus.kubernetes.kubeconfig import ContextEntry, render

NAMESPACES = "/api/v1/namespaces"
SECRETS = "/api/v1/namespaces/istio-system/secrets"
SERVICES = "/api/v1/services"


class FakeCluster:
    """Collections by path. `tokens` are taken where there are any; `is_away`: every connection ends at once."""

    def __init__(self, url: str = "") -> None:
        self.url = url
        self.version = 1
        self.collections: dict[str, dict[tuple[str, str], dict[str, Any]]] = {}
        self.events: list[tuple[str, int, dict[str, Any]]] = []
        self.tokens: set[str] = set()
        self.forbidden: set[str] = set()
        self.is_away = False
        self.asked: list[str] = []
        self.written: list[str] = []
        self._transports: set[asyncio.Transport] = set()
        self._news = asyncio.Condition()

    async def put(self, path: str, name: str, namespace: str = "", **body: Any) -> None:
        self.version += 1
        known = self.collections.setdefault(path, {})
        metadata = {"name": name, "namespace": namespace} | body.pop("metadata", {})
        metadata["resourceVersion"] = str(self.version)
        found = {"metadata": metadata} | body
        kind = "MODIFIED" if (namespace, name) in known else "ADDED"
        known[namespace, name] = found
        await self._tell(path, {"type": kind, "object": found})

    async def delete(self, path: str, name: str, namespace: str = "") -> None:
        self.version += 1
        found = self.collections[path].pop((namespace, name))
        found["metadata"]["resourceVersion"] = str(self.version)
        await self._tell(path, {"type": "DELETED", "object": found})

    async def put_secret(self, name: str, **kubeconfigs: str) -> None:
        data = {cluster: base64.b64encode(text.encode()).decode() for cluster, text in kubeconfigs.items()}
        await self.put(SECRETS, name, "istio-system", data=data, metadata={"labels": {"istio/multiCluster": "true"}})

    def kubeconfig(self, token: str = "t") -> str:
        return render([ContextEntry(name="c", server=self.url, ca_pem="", token=token)])

    def go_away(self) -> None:
        self.is_away = True
        for transport in list(self._transports):
            transport.abort()

    async def serve(self, request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        self.asked.append(request.path)
        if self.is_away:
            request.transport.abort()
            return web.Response()
        if self.tokens and request.headers.get("Authorization", "").removeprefix("Bearer ") not in self.tokens:
            return web.json_response({"code": 401, "reason": "Unauthorized", "message": "no"}, status=401)
        if request.path in self.forbidden:
            return web.json_response({"code": 403, "reason": "Forbidden", "message": "no"}, status=403)
        if request.method in ("POST", "PATCH"):
            return await self._write(request)
        if request.query.get("watch"):
            return await self._watch(request, request.transport)
        namespace, _, name = request.path.rpartition("/")
        if (("", name)) in self.collections.get(namespace, {}):
            return web.json_response(self.collections[namespace]["", name])
        named = request.path.removeprefix("/api/v1/namespaces/").split("/")
        if len(named) == 3:
            found = self.collections.get(f"/api/v1/{named[1]}", {}).get((named[0], named[2]))
            return web.json_response(found) if found else _not_found()
        items = list(self.collections.get(request.path, {}).values())
        return web.json_response({"metadata": {"resourceVersion": str(self.version)}, "items": items})

    async def _write(self, request: web.Request) -> web.Response:
        """Of namespaced core objects: what is made must not be there; a patch is merged, one level into `data` and `metadata`."""
        _, _, namespace, plural, *name = request.path.removeprefix("/api/v1").split("/")
        path, body = f"/api/v1/{plural}", await request.json()
        known = self.collections.setdefault(path, {})
        if request.method == "POST":
            name = [body["metadata"]["name"]]
            if (namespace, name[0]) in known:
                return web.json_response({"code": 409, "reason": "AlreadyExists", "message": "no"}, status=409)
        else:
            if (namespace, name[0]) not in known:
                return _not_found()
            before = known[namespace, name[0]]
            for part in {"data", "metadata"} & body.keys():
                merged = before.get(part, {}) | body[part]
                body[part] = {key: value for key, value in merged.items() if value is not None}
            body = before | body
        self.written.append(f"{request.method} {namespace}/{name[0]}")
        await self.put(path, name[0], namespace, **body)
        return web.json_response(known[namespace, name[0]])

    async def _tell(self, path: str, event: dict[str, Any]) -> None:
        self.events.append((path, self.version, event))
        async with self._news:
            self._news.notify_all()

    async def _watch(self, request: web.Request, transport: asyncio.Transport) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        self._transports.add(transport)
        at = int(request.query.get("resourceVersion") or 0)
        if "sendInitialEvents" in request.query:
            for found in self.collections.get(request.path, {}).values():
                await _send(response, {"type": "ADDED", "object": found})
            end = {"annotations": {"k8s.io/initial-events-end": "true"}, "resourceVersion": str(self.version)}
            await _send(response, {"type": "BOOKMARK", "object": {"metadata": end}})
            at = self.version
        try:
            while True:
                due = [(v, event) for path, v, event in self.events if path == request.path and v > at]
                for version, event in due:
                    await _send(response, event)
                    at = version
                if not due:
                    async with self._news:
                        await self._news.wait()
        finally:
            self._transports.discard(transport)


def _not_found() -> web.Response:
    return web.json_response({"code": 404, "reason": "NotFound", "message": "no"}, status=404)


async def _send(response: web.StreamResponse, event: dict[str, Any]) -> None:
    await response.write(json.dumps(event).encode() + b"\n")


@asynccontextmanager
async def _listening() -> AsyncIterator[FakeCluster]:
    cluster = FakeCluster()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", cluster.serve)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    cluster.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield cluster
    finally:
        await runner.cleanup()


@pytest.fixture
async def fake_cluster() -> AsyncIterator[Any]:
    """Makes one each time that it is called."""
    async with AsyncExitStack() as stack:

        async def make() -> FakeCluster:
            return await stack.enter_async_context(_listening())

        yield make
