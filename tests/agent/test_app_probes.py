"""The kubelet asks the agent; the agent asks the workload, from an address that capture leaves alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import grpc
import grpc.aio
import pytest
from aiohttp import web

from isthmus.agent.app_probes import AppProbes

HEALTH = "grpc.health.v1.Health"


@pytest.fixture
async def probed() -> AsyncIterator[Any]:
    """Makes a client of an agent with these probers."""
    runners: list[web.AppRunner] = []

    async def serve(probers: dict[str, Any], missing: list[str]) -> str:
        async def waits_for() -> list[str]:
            return missing

        runner = web.AppRunner(AppProbes(probers, "127.0.0.1", waits_for).application(), shutdown_timeout=0.1)
        runners.append(runner)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    async with aiohttp.ClientSession() as session:

        async def ask(
            probers: dict[str, Any], path: str, missing: tuple[str, ...] = (), **headers: str
        ) -> tuple[int, str]:
            url = await serve(probers, list(missing))
            async with session.get(url + path, headers=headers) as response:
                return response.status, await response.text()

        yield ask
    for runner in runners:
        await runner.cleanup()


@pytest.fixture
async def workload() -> AsyncIterator[int]:
    """The port of one that says what it was asked, and never answers /slow."""
    forever = asyncio.Event()

    async def answer(request: web.Request) -> web.Response:
        if request.path == "/slow":
            await forever.wait()
        said = f"{request.path} {request.remote} {request.headers.get('X-Token', '')} {request.headers['User-Agent']}"
        return web.Response(text=said, status=503 if request.path == "/sick" else 200)

    application = web.Application()
    application.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner.addresses[0][1]
    await runner.cleanup()


async def test_the_workload_is_asked_what_the_kubelet_wanted_to_know(probed, workload):
    get = {"path": "ok", "port": workload, "httpHeaders": [{"name": "X-Token", "value": "t"}]}

    found = await probed({"/p": {"httpGet": get, "timeoutSeconds": 60}}, "/p", **{"User-Agent": "kube-probe/1.36"})

    assert found == (200, "/ok 127.0.0.6 t kube-probe/1.36")


async def test_a_sick_workload_is_told_as_sick(probed, workload):
    assert (await probed({"/p": {"httpGet": {"path": "/sick", "port": workload}, "timeoutSeconds": 60}}, "/p"))[
        0
    ] == 503


async def test_a_workload_that_does_not_answer_in_time_is_sick(probed, workload):
    question = {"httpGet": {"path": "/slow", "port": workload}, "timeoutSeconds": 0.2}

    assert await probed({"/p": question}, "/p") == (503, "no answer in 0.2 s\n")


async def test_connections_are_tried(probed, workload):
    assert (await probed({"/p": {"tcpSocket": {"port": workload}, "timeoutSeconds": 60}}, "/p"))[0] == 200
    assert (await probed({"/p": {"tcpSocket": {"port": 1}}}, "/p"))[0] == 503


@pytest.mark.parametrize(("service", "status", "code"), [("", 1, 200), ("shop", 1, 200), ("shop", 2, 503)])
async def test_grpc_health_is_asked(probed, service, status, code):
    asked = []

    async def check(request: bytes, _: Any) -> bytes:
        asked.append(request)
        return bytes([8, status])

    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(check)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(HEALTH, {"Check": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        found = await probed({"/p": {"grpc": {"port": port, "service": service}, "timeoutSeconds": 60}}, "/p")
    finally:
        await server.stop(None)

    assert found[0] == code
    assert asked == [b"\n\x04shop" if service else b""]


async def test_grpc_that_is_not_there_is_sick(probed):
    assert (await probed({"/p": {"grpc": {"port": 1}, "timeoutSeconds": 60}}, "/p"))[0] == 503


async def test_nothing_else_is_asked_for_anybody(probed, workload):
    assert (await probed({"/p": {"httpGet": {"port": workload}}}, "/q"))[0] == 404


async def test_the_proxys_own_readiness_is_here_too(probed):
    assert await probed({}, "/healthz/ready") == (200, "ready")
    assert await probed({}, "/healthz/ready", ("no certificate yet",)) == (503, "no certificate yet")
