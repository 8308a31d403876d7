"""A control plane of the cluster `east` as far as it reads that cluster and, while it leads, writes into it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from isthmus.controlplane.delivery import Delivery
from isthmus.controlplane.feeds import ClusterFeed, kinds_of
from isthmus.controlplane.machines import Machines
from isthmus.controlplane.world import World
from isthmus.kubernetes.client import ApiClient
from isthmus.kubernetes.kubeconfig import ApiAddress
from isthmus.kubernetes.lease_client import Leadership
from isthmus.kubernetes.leases import LeaseTerms
from isthmus.model.identity import TrustDomain
from isthmus.model.names import ClusterId, Namespace
from isthmus.model.snapshot import MeshSettings
from isthmus.trust.authentication import Authenticator

EAST = ClusterId("east")
_TERMS = LeaseTerms(duration_seconds=30, renew_seconds=20.0, retry_seconds=0.05)
_LOOKS, _LOOK_SECONDS = 1000, 0.02


@dataclass(frozen=True, slots=True)
class Leading:
    """What a writer is made of, and the lease under which it writes."""

    client: ApiClient
    world: World
    delivery: Delivery
    leadership: Leadership


@asynccontextmanager
async def control_plane(
    server: Any,
    settings: MeshSettings,
    lease: tuple[str, str, str],
    writers: Callable[[Leading], list[Callable[[], Coroutine[Any, Any, None]]]],
) -> AsyncIterator[Leading]:
    """`lease`: its namespace, its name, and who holds it. The writers run while it leads."""
    address = ApiAddress(server=server.url, ca_pem=server.ca_pem, token=server.admin_token)
    async with ApiClient(address) as client:
        world = World(settings, EAST)
        machines = Machines(world, me="east/istiod", system_namespace=Namespace("istio-system"), grace_seconds=10)
        delivery = Delivery(world, Authenticator(TrustDomain("cluster.local"), EAST, _nobody, lambda: 0.0), machines)
        feed = ClusterFeed(EAST, client, world, kinds_of(world.settings, is_config_cluster=True))
        leading = Leading(client, world, delivery, Leadership(client, *lease, _TERMS))
        own, visible = writers(leading), asyncio.Event()

        async def write() -> None:
            async with asyncio.TaskGroup() as work:
                for writer in own:
                    work.create_task(writer())

        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(feed.run(visible.set))]
            await visible.wait()
            running += [tasks.create_task(delivery.run()), tasks.create_task(leading.leadership.run(write))]
            yield leading
            for task in running:
                task.cancel()


async def until(holds: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Waits for what others write; asks again and again, up to a deadline."""
    for _ in range(_LOOKS):
        if found := await holds():
            return found
        await asyncio.sleep(_LOOK_SECONDS)
    raise AssertionError("it never came to be so")


async def _nobody(_token: str, _cluster: ClusterId) -> None:
    return None
