"""A kind that the server does not know has no objects; it is no reason to wait."""

from __future__ import annotations

import asyncio
from functools import partial

from aiohttp import web

from isthmus.kubernetes.client import ApiClient
from isthmus.kubernetes.kubeconfig import ApiAddress
from isthmus.kubernetes.reflector import Reflector
from isthmus.kubernetes.resources import ResourcePath
from isthmus.kubernetes.watch import plain

ODD = ResourcePath(group="example.org", version="v1", plural="odds", namespaced=True)


async def test_a_collection_that_is_not_there_is_empty():
    application = web.Application()
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]
    seen: list[object] = []
    async with ApiClient(ApiAddress(server=f"http://127.0.0.1:{port}")) as client, asyncio.timeout(60):
        reflector = Reflector(client, ODD, plain, partial(seen.append))
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(reflector.run())

            await reflector.synced.wait()

            assert reflector.values == {}
            running.cancel()
    await runner.cleanup()
    assert seen == [[]]
