"""The agent's own API, on a unix socket of mode 0600: proxies are named, told what they need, and forgotten."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import msgspec
import structlog
from aiohttp import web

from isthmus.agent.certificates import ControlPlanes
from isthmus.agent.envoy_admin import EnvoyUnavailable
from isthmus.agent.proxy import Proxy
from isthmus.agent.specification import AgentSettings, ProxySpec

_READY_SECONDS = 60.0

log = structlog.get_logger()


@dataclass(slots=True)
class _Running:
    proxy: Proxy
    task: asyncio.Task[None] = field(init=False)
    error: str = ""

    def is_as(self, spec: ProxySpec) -> bool:
        """Whether it runs and goes on running, as this specification says."""
        return self.proxy.spec == spec and not self.task.done() and not self.task.cancelling()


class AgentServer:
    """Looks after many Envoys; one's failure is its own. `tasks` owns what runs for them."""

    def __init__(self, settings: AgentSettings, tasks: asyncio.TaskGroup) -> None:
        self._settings = settings
        self._tasks = tasks
        self._control_planes: dict[tuple[str, ...], ControlPlanes] = {}
        """By the name that they show, and their addresses."""
        """By their addresses: which of them answers is found out once for all proxies that use them."""
        self._proxies: dict[str, _Running] = {}

    def application(self) -> web.Application:
        application = web.Application()
        one = "/proxies/{namespace}/{name}"
        application.router.add_put(one, self._put)
        application.router.add_delete(one, self._delete)
        application.router.add_get(one, self._get)
        application.router.add_post(one + "/drain", self._drain)
        application.router.add_get("/proxies", self._list)
        application.router.add_get("/healthz", self._healthz)
        return application

    async def _put(self, request: web.Request) -> web.Response:
        """The same specification again changes nothing, so it may be said again after a restart of either side."""
        try:
            spec = msgspec.json.decode(await request.read(), type=ProxySpec)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            return _answer({"error": f"not a proxy specification: {error}"}, status=400)
        key = f"{spec.namespace}/{spec.name}"
        if key != _key(request):
            return _answer({"error": f"the path names {_key(request)}, the body {key}"}, status=400)
        while (running := self._proxies.get(key)) is not None and not running.is_as(spec):
            await self._end(key, running)
        if running is None:
            running = self._start(key, spec)
        ready = asyncio.ensure_future(running.proxy.ready())
        try:
            await asyncio.wait([ready, running.task], timeout=_READY_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if ready.done():
                return web.Response(
                    status=201, body=msgspec.json.encode(ready.result()), content_type="application/json"
                )
        finally:
            ready.cancel()
        if running.task.done() and not running.error:
            return _answer({"error": f"proxy {key} was deleted or replaced meanwhile"}, status=503)
        missing = running.error or "; ".join(await running.proxy.missing())
        return _answer({"error": f"proxy {key} cannot be started yet: {missing}"}, status=503)

    async def _delete(self, request: web.Request) -> web.Response:
        running = self._proxies.get(_key(request))
        if running is not None:
            await self._end(_key(request), running)
        return web.Response(status=204)

    async def _get(self, request: web.Request) -> web.Response:
        running = self._found(request)
        missing = await running.proxy.missing()
        return _answer(running.proxy.state() | {"error": running.error, "missing": missing})

    async def _list(self, _: web.Request) -> web.Response:
        return _answer([running.proxy.state() | {"error": running.error} for running in self._proxies.values()])

    async def _drain(self, request: web.Request) -> web.Response:
        try:
            await self._found(request).proxy.drain()
        except EnvoyUnavailable as error:
            return _answer({"error": f"Envoy does not answer: {error}"}, status=503)
        return web.Response(status=204)

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    def _found(self, request: web.Request) -> _Running:
        running = self._proxies.get(_key(request))
        if running is None:
            raise web.HTTPNotFound(text=f"no proxy {_key(request)}\n")
        return running

    def _start(self, key: str, spec: ProxySpec) -> _Running:
        name, *addresses = used = (
            spec.control_plane_name or self._settings.control_plane_name,
            *(spec.control_planes or self._settings.control_planes),
        )
        if used not in self._control_planes:
            self._control_planes[used] = ControlPlanes(addresses, name)
        running = _Running(Proxy(spec, self._settings, self._control_planes[used]))
        running.task = self._tasks.create_task(_run(key, running), name=f"proxy {key}")
        self._proxies[key] = running
        return running

    async def _end(self, key: str, running: _Running) -> None:
        """It stays listed until it has ended: nothing else begins in its folder meanwhile."""
        if not running.task.cancelling():  # a second time would break off its cleaning up
            running.task.cancel()
        await asyncio.wait([running.task])
        if self._proxies.get(key) is running:
            del self._proxies[key]


async def _run(key: str, running: _Running) -> None:
    try:
        await running.proxy.run()
    except* Exception as errors:
        error = _first(errors)
        running.error = f"{type(error).__name__}: {error}"
        log.error("proxy failed", proxy=key, error=str(error), exc_info=error)


def _first(error: Exception) -> Exception:
    """What went wrong, out of the groups around it."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


def _key(request: web.Request) -> str:
    return f"{request.match_info['namespace']}/{request.match_info['name']}"


def _answer(body: Any, *, status: int = 200) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(body), content_type="application/json")
