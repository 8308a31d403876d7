"""Rules of several primaries, where API servers have Gateway API's kinds in different versions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from isthmus.assurance.drift import plan_sync
from isthmus.cli.contexts import Context
from isthmus.cli.drifting import carry_out, rules_in
from isthmus.kubernetes.kubeconfig import ApiAddress

ROUTES = "/apis/gateway.networking.k8s.io"
ROUTE = {"metadata": {"name": "r", "namespace": "shop"}, "spec": {"hostnames": ["a.example"]}}


class Server:
    """An API server with TLSRoutes in one version, and nothing else but an empty list of ConfigMaps."""

    def __init__(self, version: str, *routes: dict[str, Any]) -> None:
        self._version = version
        self.routes = list(routes)

    async def serve(self, request: web.Request) -> web.Response:
        of_version = f"{ROUTES}/{self._version}"
        if request.method == "POST" and request.path == f"{of_version}/namespaces/shop/tlsroutes":
            self.routes.append(await request.json())
            return web.json_response(self.routes[-1], status=201)
        if request.path == f"{of_version}/tlsroutes":
            return web.json_response({"items": self.routes})
        if request.path.endswith("/configmaps"):
            return web.json_response({"items": []})
        gone = {"kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound"}
        return web.json_response(gone, status=404)


@asynccontextmanager
async def running(name: str, server: Server) -> AsyncIterator[Context]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield Context(name=name, address=ApiAddress(server=url), server=url)
    finally:
        await runner.cleanup()


async def test_a_route_is_replicated_in_the_version_that_the_other_server_has() -> None:
    source, target = Server("v1", ROUTE), Server("v1alpha2")

    async with running("east", source) as east, running("west", target) as west:
        rules = await rules_in([east, west], "istio-system")
        steps = plan_sync("east", rules["east"], rules["west"], overwrite=False, prune=False)
        await carry_out({west: steps})

    [route] = target.routes
    assert route["apiVersion"] == "gateway.networking.k8s.io/v1alpha2"
    assert route["spec"] == ROUTE["spec"]
