"""The webhooks' port (15017): injection and validation over TLS, for API servers. A caller cannot hold more than it is given."""

from __future__ import annotations

import asyncio
import os
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from aiohttp import web

from isthmus.controlplane.admission import BadReview, injection, review, validation
from isthmus.injection.settings import BadRequest, InjectionSettings
from isthmus.trust.authority import ServingCertificate

Object = dict[str, Any]

WEBHOOK_PORT = 15017
_BODY_BYTES_MAX = 8 * 1024 * 1024
"""An API server takes objects of 1.5 MB at most (etcd's limit), and sends an old one beside the new one."""

_BODY_SECONDS = 10.0
_AT_ONCE_MAX = 64
_IDLE_SECONDS = 90.0

log = structlog.get_logger()


class Webhooks:
    """What API servers ask; `injected` and `refused` count the answers."""

    def __init__(self, settings: InjectionSettings) -> None:
        self._settings = settings
        self._room = asyncio.Semaphore(_AT_ONCE_MAX)
        self.injected = 0
        self.refused = 0

    def application(self) -> web.Application:
        application = web.Application(client_max_size=_BODY_BYTES_MAX)
        application.router.add_post("/inject", self._inject)
        application.router.add_post("/inject/{path:.*}", self._inject)
        application.router.add_post("/validate", self._validate)
        application.router.add_get("/ready", self._ready)
        return application

    async def _inject(self, request: web.Request) -> web.Response:
        try:
            settings = self._settings.at(request.path)
        except BadRequest as error:
            raise web.HTTPNotFound(text=f"{error}\n") from None
        return await self._answer(request, partial(injection, settings=settings))

    async def _validate(self, request: web.Request) -> web.Response:
        return await self._answer(request, validation)

    async def _ready(self, _: web.Request) -> web.Response:
        return web.Response(text="ready\n")

    async def _answer(self, request: web.Request, decide: Callable[[Object, str], Object]) -> web.Response:
        if request.content_type != "application/json":
            raise web.HTTPUnsupportedMediaType(text="send an AdmissionReview as application/json\n")
        if self._room.locked():
            raise web.HTTPServiceUnavailable(text="too many reviews at once: ask again\n", headers={"Retry-After": "1"})
        async with self._room:
            try:
                async with asyncio.timeout(_BODY_SECONDS):
                    body = await request.read()
            except TimeoutError:
                raise web.HTTPRequestTimeout(text="the body did not come\n") from None
            try:
                answer = review(body, self._counted(decide))
            except BadReview as error:
                raise web.HTTPBadRequest(text=f"{error}\n") from None
        return web.Response(body=answer, content_type="application/json")

    def _counted(self, decide: Callable[[Object, str], Object]) -> Callable[[Object, str], Object]:
        def counting(item: Object, namespace: str) -> Object:
            answer = decide(item, namespace)
            self.injected += "patch" in answer
            self.refused += not answer["allowed"]
            return answer

        return counting


@asynccontextmanager
async def serving_webhooks(
    webhooks: Webhooks, certificate: ServingCertificate, host: str, port: int
) -> AsyncIterator[int]:
    """The port that it listens on, until the end of the block."""
    runner = web.AppRunner(
        webhooks.application(), access_log=None, keepalive_timeout=_IDLE_SECONDS, shutdown_timeout=1.0
    )
    await runner.setup()
    site = web.TCPSite(runner, host, port, ssl_context=tls_context(certificate))
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def tls_context(certificate: ServingCertificate) -> ssl.SSLContext:
    """OpenSSL takes a key from a file only; it is written where nobody else can read it, and removed at once."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    descriptor, path = tempfile.mkstemp()
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(certificate.chain_pem + certificate.key_pem)
        context.load_cert_chain(path)
    finally:
        Path(path).unlink()
    return context
