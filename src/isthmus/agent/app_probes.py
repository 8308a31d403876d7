"""What the kubelet wants to know of the workload, asked by the agent from inside the Pod (port 15020)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web

from isthmus.agent.asking import ask

Object = dict[str, Any]

APP_PROBES_PORT = 15020
_FROM_THE_KUBELET = frozenset(("host", "connection", "accept-encoding", "content-length", "transfer-encoding"))


class AppProbes:
    """`missing` tells what the proxy itself waits for; `ip` is where the workload listens."""

    def __init__(self, probers: Mapping[str, Object], ip: str, missing: Callable[[], Awaitable[list[str]]]) -> None:
        self._probers = probers
        self._ip = ip
        self._missing = missing

    def application(self, metrics: Callable[[web.Request], Awaitable[web.Response]] | None = None) -> web.Application:
        """With `metrics`, that answer for the whole Pod."""
        application = web.Application()
        if metrics is not None:
            application.router.add_get("/stats/prometheus", metrics)
        application.router.add_get("/healthz/ready", self._ready)
        application.router.add_get("/{path:.*}", self._probe)
        return application

    async def _ready(self, _: web.Request) -> web.Response:
        missing = await self._missing()
        return web.Response(status=503 if missing else 200, text="; ".join(missing) or "ready")

    async def _probe(self, request: web.Request) -> web.Response:
        question = self._probers.get(request.path)
        if question is None:
            raise web.HTTPNotFound(text=f"nobody wants to know {request.path}\n")
        headers = {key: value for key, value in request.headers.items() if key.lower() not in _FROM_THE_KUBELET}
        answer = await ask(question, self._ip, headers)
        return web.Response(status=answer.status, body=answer.text)
