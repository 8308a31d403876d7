"""The webhooks' port (15017): injection and validation over TLS, for API servers. A caller cannot hold more than it is given."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import structlog
from aiohttp import web
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from isthmus.controlplane.admission import BadReview, IsTooMany, injection, quota, review, validation
from isthmus.controlplane.shown import Credentials, Shown
from isthmus.injection.settings import BadRequest, InjectionSettings
from isthmus.kubernetes.sites import serving
from isthmus.model.proxy_config import ProxyConfigs
from isthmus.trust.authority import ServingCertificate
from isthmus.xds.native_tls import load_key

Object = dict[str, Any]

WEBHOOK_PORT = 15017
_BODY_BYTES_MAX = 8 * 1024 * 1024
"""An API server takes objects of 1.5 MB at most (etcd's limit), and sends an old one beside the new one."""

_BODY_SECONDS = 10.0
_AT_ONCE_MAX = 64

_INJECTED, _LEFT, _NOT_INJECTED = "sidecar_injection_success", "sidecar_injection_skip", "sidecar_injection_failure"
_VALID, _INVALID = "galley_validation_passed", "galley_validation_failed"
_MEANINGS = {
    _INJECTED: "Pods that were given a proxy.",
    _LEFT: "Pods that needed none.",
    _NOT_INJECTED: "Pods that were refused, because of what they ask for.",
    _VALID: "Objects that were checked and let through.",
    _INVALID: "Objects that were refused.",
}

log = structlog.get_logger()


class Webhooks(Collector):
    """What API servers ask. The answers are counted, under Istio's names."""

    def __init__(
        self, settings: InjectionSettings, proxies: Callable[[], ProxyConfigs], is_too_many: IsTooMany
    ) -> None:
        """`proxies`: what is said now of how proxies are run."""
        self._is_too_many = is_too_many
        self._settings = settings
        self._proxies = proxies
        self._room = asyncio.Semaphore(_AT_ONCE_MAX)
        self._counts = {_INJECTED: 0, _LEFT: 0, _NOT_INJECTED: 0, _VALID: 0, _INVALID: 0}

    def application(self) -> web.Application:
        application = web.Application(client_max_size=_BODY_BYTES_MAX)
        application.router.add_post("/inject", self._inject)
        application.router.add_post("/inject/{path:.*}", self._inject)
        application.router.add_post("/validate", self._validate)
        application.router.add_post("/quota", self._quota)
        application.router.add_get("/ready", self._ready)
        return application

    async def _inject(self, request: web.Request) -> web.Response:
        try:
            settings = replace(self._settings.at(request.path), proxies=self._proxies())
        except BadRequest as error:
            raise web.HTTPNotFound(text=f"{error}\n") from None
        return await self._answer(request, partial(self._injected, settings=settings))

    async def _validate(self, request: web.Request) -> web.Response:
        return await self._answer(request, self._validated)

    async def _quota(self, request: web.Request) -> web.Response:
        return await self._answer(request, partial(quota, is_too_many=self._is_too_many))

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
                answer = review(body, decide)
            except BadReview as error:
                raise web.HTTPBadRequest(text=f"{error}\n") from None
        return web.Response(body=answer, content_type="application/json")

    def _injected(self, pod: Object, namespace: str, settings: InjectionSettings) -> Object:
        answer = injection(pod, namespace, settings)
        self._counts[_INJECTED if "patch" in answer else _LEFT if answer["allowed"] else _NOT_INJECTED] += 1
        return answer

    def _validated(self, item: Object, namespace: str) -> Object:
        answer = validation(item, namespace)
        if answer["allowed"]:
            answer |= quota(item, namespace, self._is_too_many)
        self._counts[_VALID if answer["allowed"] else _INVALID] += 1
        return answer

    def collect(self) -> list[CounterMetricFamily]:
        """For a registry of metrics."""
        return [CounterMetricFamily(name, _MEANINGS[name], count) for name, count in self._counts.items()]


@asynccontextmanager
async def serving_webhooks(webhooks: Webhooks, shown: Shown, host: str, port: int) -> AsyncIterator[int]:
    """The port that it listens on, until the end of the block."""
    context = tls_context(shown.current.serving)

    def show(credentials: Credentials) -> None:
        load_certificate(context, credentials.serving)

    shown.changed.append(show)
    try:
        async with serving(webhooks.application(), host, port, tls=context) as bound:
            yield bound
    finally:
        shown.changed.remove(show)


def tls_context(certificate: ServingCertificate) -> ssl.SSLContext:
    """For a server that asks for no certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    load_certificate(context, certificate)
    return context


def load_certificate(context: ssl.SSLContext, certificate: ServingCertificate) -> None:
    """New connections are shown it."""
    load_key(context, chain_pem=certificate.chain_pem, key_pem=certificate.key_pem)
