"""Everything that matters is read out of an API server, page by page; what may not be read is named."""

from __future__ import annotations

from aiohttp import web

from isthmus.kubernetes.client import ApiClient
from isthmus.kubernetes.kubeconfig import ApiAddress
from isthmus.kubernetes.object_reader import read_objects

SERVICES = [{"metadata": {"name": f"s{number}", "namespace": "shop"}} for number in range(3)]

ROUTE = {"metadata": {"name": "r", "namespace": "shop"}}


async def serve(request: web.Request) -> web.Response:
    """Two Services on a page; a route in two versions; Secrets are not for this caller; there is no other kind."""
    if request.path == "/api/v1/services":
        start = int(request.query.get("continue") or 0)
        assert request.query["limit"]
        rest = str(start + 2) if start + 2 < len(SERVICES) else ""
        return web.json_response({"items": SERVICES[start : start + 2], "metadata": {"continue": rest}})
    if request.path in [f"/apis/gateway.networking.k8s.io/{version}/tlsroutes" for version in ("v1alpha3", "v1alpha2")]:
        return web.json_response({"items": [ROUTE]})
    status, reason = (403, "Forbidden") if request.path == "/api/v1/secrets" else (404, "NotFound")
    return web.json_response({"kind": "Status", "status": "Failure", "code": status, "reason": reason}, status=status)


async def test_pages_are_put_together_kinds_filled_in_once_and_refusals_named() -> None:
    app = web.Application()
    app.router.add_get("/{path:.*}", serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        async with ApiClient(ApiAddress(server=f"http://127.0.0.1:{port}")) as client:
            found = await read_objects(client)
    finally:
        await runner.cleanup()

    assert found.objects == [
        *({"apiVersion": "v1", "kind": "Service"} | service for service in SERVICES),
        {"apiVersion": "gateway.networking.k8s.io/v1alpha3", "kind": "TLSRoute"} | ROUTE,
    ]
    assert found.unread == ["Secret"]
