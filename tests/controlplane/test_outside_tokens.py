"""The keys of an issuer beyond the clusters: fetched, renewed, and kept while it is away."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from minted_tokens import EC_KEY, KEY, public, token

from isthmus.controlplane.outside_tokens import OutsideTokens
from isthmus.controlplane.token_keys import KeyFetching
from isthmus.model.names import Namespace
from isthmus.trust.authentication import ServiceAccount
from isthmus.trust.oidc import OutsideIssuer

CART = ServiceAccount(Namespace("shop"), "cart")


class Issuer:
    """Answers with a status and what keys it has; `asked` is released at each question."""

    def __init__(self) -> None:
        self.status, self.keys, self.asked, self.url = 200, [public(KEY, "k1")], asyncio.Semaphore(0), ""

    async def answer(self, _: web.Request) -> web.Response:
        self.asked.release()
        return web.Response(status=self.status, text=json.dumps({"keys": self.keys}))


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    found, application = Issuer(), web.Application()
    application.router.add_get("/keys", found.answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}/keys"
    yield found
    await runner.cleanup()


def current(key: object = KEY, algorithm: str = "RS256", name: str = "k1") -> str:
    return token(key, algorithm, name, exp=time.time() + 600)


async def test_keys_are_renewed_and_outlive_the_issuers_absence(issuer):
    rule = OutsideIssuer(issuer="https://issuer.example", audiences=("mesh",), jwks_uri=issuer.url)
    tokens = OutsideTokens(rule, KeyFetching(refresh_seconds=0.01))
    before = tokens.account(current())

    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(tokens.run(), name="keys")
        for _ in range(3):
            await issuer.asked.acquire()
        fetched = tokens.account(current())
        issuer.status = 500
        for _ in range(3):
            await issuer.asked.acquire()
        kept = tokens.account(current())
        issuer.status, issuer.keys = 200, [public(EC_KEY, "k2")]
        for _ in range(3):
            await issuer.asked.acquire()
        renewed = tokens.account(current(EC_KEY, "ES256", "k2")), tokens.account(current())
        running.cancel()

    assert before is None, "there are no keys yet"
    assert (fetched, kept) == (CART, CART)
    assert renewed == (CART, None)


async def test_keys_that_are_written_down_need_no_issuer():
    keys = json.dumps({"keys": [public(KEY, "k1")]})
    tokens = OutsideTokens(
        OutsideIssuer(issuer="https://issuer.example", audiences=("mesh",), jwks=keys), KeyFetching()
    )

    await tokens.run()

    assert tokens.account(current()) == CART
