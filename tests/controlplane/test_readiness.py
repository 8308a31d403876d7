"""A control plane that may not read its own cluster does not become ready, and says which right it waits for."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

from aiohttp.test_utils import TestClient, TestServer

from isthmus.controlplane.debug import DebugPages
from isthmus.controlplane.delivery import Delivery
from isthmus.controlplane.feeds import ClusterFeed, kinds_of
from isthmus.controlplane.machines import Machines
from isthmus.controlplane.peers import Peers
from isthmus.controlplane.staleness import HOLD
from isthmus.controlplane.world import World
from isthmus.kubernetes.client import ApiClient
from isthmus.kubernetes.kubeconfig import ApiAddress
from isthmus.model.identity import TrustDomain
from isthmus.model.names import ClusterId, MeshId, Namespace
from isthmus.model.snapshot import MeshSettings
from isthmus.xds.directory import Streams

EAST = ClusterId("east")
POLICIES = "/apis/security.istio.io/v1/authorizationpolicies"
ROUTES = "/apis/gateway.networking.k8s.io/v1/httproutes"


class Started:
    """A control plane's own feed and pages."""

    def __init__(self, world: World, pages: Any, monitoring: Any) -> None:
        self.world = world
        self.pages = pages
        self.monitoring = monitoring

    async def ready(self) -> tuple[int, str]:
        answer = await self.pages.get("/ready")
        return answer.status, await answer.text()

    async def until_it_says(self, text: str) -> str:
        for _ in range(1000):
            _, said = await self.ready()
            if text in said:
                return said
            await asyncio.sleep(0.01)
        raise AssertionError(f"not in 10 s: {said}")


@asynccontextmanager
async def starting(own: Any):
    world = World(MeshSettings(mesh=MeshId("m"), trust_domain=TrustDomain("cluster.local")), EAST)
    async with ApiClient(ApiAddress(server=own.url)) as client:
        feed = ClusterFeed(EAST, client, world, kinds_of(world.settings, is_config_cluster=True))
        machines = Machines(world, me="east/istiod", system_namespace=Namespace("istio-system"), grace_seconds=10)
        delivery = Delivery(world, None, machines)
        settings = SimpleNamespace(mesh=world.settings.mesh, identity=None, state_directory="", stale_policy=HOLD)
        peers = Peers.of(settings, world, delivery, lambda: None)
        pages = DebugPages(None, delivery, feed, None, Streams(), [], dict, peers)
        pages.serves_proxies = True
        visible = asyncio.Event()

        async def deliver() -> None:
            await visible.wait()
            await delivery.run()

        async with (
            TestClient(TestServer(pages.readiness())) as readiness,
            TestClient(TestServer(pages.monitoring())) as monitoring,
            asyncio.TaskGroup() as tasks,
        ):
            running = [tasks.create_task(feed.run(visible.set)), tasks.create_task(deliver())]
            yield Started(world, readiness, monitoring)
            for task in running:
                task.cancel()


async def test_a_right_that_is_missing_is_said_until_it_is_given(fake_cluster):
    own = await fake_cluster()
    own.forbidden = {POLICIES}
    async with starting(own) as started:
        said = await started.until_it_says("a right in east")
        code, _ = await started.ready()
        issues = await (await started.monitoring.get("/debug/issues")).json()
        pages = await (await started.monitoring.get("/debug/readyz")).json()

        assert code == 503
        assert "allow get, list and watch of authorizationpolicies.security.istio.io" in said
        assert [(issue["code"], issue["level"], issue["origin"]) for issue in issues] == [
            ("ISM0208", "Error", "AuthorizationPolicy * in east")
        ]
        assert pages == [{"waitsFor": said.removeprefix("waiting for ").rstrip("\n")}]

        own.forbidden = set()
        await started.until_it_says("ready")
        assert (await started.ready())[0] == 200


async def test_a_kind_that_only_adds_is_done_without_and_that_is_told(fake_cluster):
    own = await fake_cluster()
    own.forbidden = {ROUTES, ROUTES.replace("/v1/", "/v1beta1/")}
    async with starting(own) as started:
        await started.until_it_says("ready")

        found = [(issue.code, issue.subject.kind) for issue in started.world.snapshot().issues]
        assert ("ISM0204", "HTTPRoute") in found
