"""Tokens that nobody knows yet are asked about at their cluster's API server, and cost it so much and no more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from isthmus.api.registry import KINDS
from isthmus.controlplane.token_reviews import TokenReviews
from isthmus.kubernetes.client import ApiClient
from isthmus.kubernetes.kubeconfig import ApiAddress
from isthmus.model.names import ClusterId, Namespace
from isthmus.trust.authentication import ServiceAccount

AT_ONCE = 32
EAST, WEST = ClusterId("east"), ClusterId("west")


class Reviewer:
    """An API server that knows one token, and answers nobody before it is let go."""

    def __init__(self) -> None:
        self.under_way = self.most = self.answered = 0
        self.audiences: list[list[str]] = []
        self.arrived, self.let_go = asyncio.Condition(), asyncio.Event()

    async def serve(self, request: web.Request) -> web.Response:
        spec = (await request.json())["spec"]
        token = spec["token"]
        self.audiences.append(spec.get("audiences"))
        async with self.arrived:
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            self.arrived.notify_all()
        await self.let_go.wait()
        self.under_way -= 1
        self.answered += 1
        user = {"username": "system:serviceaccount:shop:web", "groups": ["system:serviceaccounts"]}
        return web.json_response({"status": {"authenticated": True, "user": user} if token == "good" else {}})

    async def watch(self, _: web.Request) -> web.Response:
        async with self.arrived:
            self.under_way += 1
            self.arrived.notify_all()
        await self.let_go.wait()
        return web.Response(text="seen")

    async def until(self, count: int) -> None:
        async with asyncio.timeout(60), self.arrived:
            await self.arrived.wait_for(lambda: self.under_way >= count)


async def _ready(_: web.Request) -> web.Response:
    return web.Response(text="ok")


@pytest.fixture
async def clusters() -> AsyncIterator[dict[ClusterId, tuple[Reviewer, ApiClient]]]:
    found, runners = {}, []
    for cluster in (EAST, WEST):
        reviewer, application = Reviewer(), web.Application()
        application.router.add_post("/apis/authentication.k8s.io/v1/tokenreviews", reviewer.serve)
        application.router.add_get("/watch", reviewer.watch)
        application.router.add_get("/readyz", _ready)
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        address = ApiAddress(server=f"http://127.0.0.1:{runner.addresses[0][1]}")
        client = await ApiClient(address).__aenter__()
        runners.append((runner, client))
        found[cluster] = reviewer, client
    yield found
    for runner, client in runners:
        await client.__aexit__(None, None, None)
        await runner.cleanup()


async def test_however_many_tokens_are_shown_an_api_server_is_asked_about_32_at_once(clusters):
    """The others wait, and are answered; another cluster's callers wait for none of them."""
    (east, _), (west, _) = clusters[EAST], clusters[WEST]
    reviews = TokenReviews(lambda cluster: clusters[cluster][1])
    west.let_go.set()

    async with asyncio.TaskGroup() as callers:
        flood = [callers.create_task(reviews.review(f"made up {number}", EAST)) for number in range(5 * AT_ONCE)]
        await east.until(AT_ONCE)
        elsewhere = await reviews.review("good", WEST)
        good = callers.create_task(reviews.review("good", EAST))
        east.let_go.set()

    account = ServiceAccount(Namespace("shop"), "web")
    assert elsewhere == account
    assert [each.result() for each in flood] == [None] * len(flood)
    assert good.result() == account
    assert (east.most, east.answered) == (AT_ONCE, len(flood) + 1)


async def test_a_token_counts_for_the_audience_of_the_mesh_alone(clusters):
    """An API server vouches for tokens of its own audience where none is asked for, and every Pod has one of those."""
    west, _ = clusters[WEST]
    west.let_go.set()

    await TokenReviews(lambda cluster: clusters[cluster][1]).review("good", WEST)

    assert west.audiences == [["istio-ca"]]


async def test_a_flood_of_tokens_leaves_room_for_the_control_planes_own_questions(clusters):
    """As many watches as there are kinds, and one question more, which the API server answers at once."""
    east, client = clusters[EAST]
    reviews = TokenReviews(lambda cluster: clusters[cluster][1])

    async with asyncio.TaskGroup() as callers:
        watches = [callers.create_task(client.read("/watch")) for _ in KINDS]
        await east.until(len(KINDS))
        for number in range(5 * AT_ONCE):
            callers.create_task(reviews.review(f"made up {number}", EAST))
        await east.until(len(KINDS) + AT_ONCE)
        async with asyncio.timeout(20):  # Before the reviews have waited long enough, and make room.
            ready = await client.read("/readyz")
        east.let_go.set()

    assert ready == b"ok"
    assert [watch.result() for watch in watches] == [b"seen"] * len(KINDS)


async def test_of_clusters_that_are_not_known_nobody_is_asked(clusters):
    reviews = TokenReviews(lambda cluster: clusters[cluster][1])

    with pytest.raises(KeyError):
        await reviews.review("good", ClusterId("nowhere"))

    assert [reviewer.most for reviewer, _ in clusters.values()] == [0, 0]
