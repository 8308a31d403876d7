"""What the kubelet wants to know of the workload, asked by the agent from inside the Pod (port 15020)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import aiohttp
import grpc.aio
import structlog
from aiohttp import web

Object = dict[str, Any]

APP_PROBES_PORT = 15020
PAST_THE_PROXY = ("127.0.0.6", 0)
"""Capture leaves connections from this address alone: the workload is asked past its proxy."""

_BODY_BYTES_MAX = 10 * 1024
_SERVING = 1
_FROM_THE_KUBELET = frozenset(("host", "connection", "accept-encoding", "content-length", "transfer-encoding"))

log = structlog.get_logger()


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
        seconds = float(question.get("timeoutSeconds") or 1)
        try:
            async with asyncio.timeout(seconds):
                if "httpGet" in question:
                    return await self._http(question["httpGet"], request)
                if "tcpSocket" in question:
                    return await self._tcp(int(question["tcpSocket"]["port"]))
                return await self._grpc(question["grpc"])
        except TimeoutError:
            return web.Response(status=503, text=f"no answer in {seconds:g} s\n")
        except (aiohttp.ClientError, OSError, grpc.aio.AioRpcError, KeyError, ValueError) as error:
            return web.Response(status=503, text=f"{type(error).__name__}: {error}\n")

    async def _http(self, get: Object, request: web.Request) -> web.Response:
        """The workload's own answer, without its body's end if that is long: the kubelet shows a little of it."""
        scheme = str(get.get("scheme") or "http").lower()
        path = "/" + str(get.get("path") or "/").lstrip("/")
        said = {header["name"]: header["value"] for header in get.get("httpHeaders") or ()}
        passed = {key: value for key, value in request.headers.items() if key.lower() not in _FROM_THE_KUBELET}
        connector = aiohttp.TCPConnector(local_addr=PAST_THE_PROXY, ssl=False, force_close=True)
        async with (
            aiohttp.ClientSession(connector=connector, auto_decompress=False) as session,
            session.get(
                f"{scheme}://{self._ip}:{get['port']}{path}", headers={**passed, **said}, allow_redirects=False
            ) as response,
        ):
            body = await response.content.read(_BODY_BYTES_MAX)
            return web.Response(status=response.status, body=body)

    async def _tcp(self, port: int) -> web.Response:
        _, writer = await asyncio.open_connection(self._ip, port, local_addr=PAST_THE_PROXY)
        writer.close()
        return web.Response(text="connected\n")

    async def _grpc(self, said: Object) -> web.Response:
        """grpc.health.v1.Health/Check, of two fields: the service's name; the status, first field of the answer."""
        service = str(said.get("service") or "").encode()
        asked = b"\n" + bytes([len(service)]) + service if 0 < len(service) < 128 else b""
        async with grpc.aio.insecure_channel(
            f"{self._ip}:{said['port']}", options=[("grpc.enable_http_proxy", 0)]
        ) as channel:
            answer = await channel.unary_unary("/grpc.health.v1.Health/Check")(asked)
        if answer[:2] == bytes([8, _SERVING]):
            return web.Response(text="SERVING\n")
        return web.Response(status=503, text="not serving\n")
