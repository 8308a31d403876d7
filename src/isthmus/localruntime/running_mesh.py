"""RunningMesh: networks, clusters and processes of one mesh, from their start to their end."""

from __future__ import annotations

import asyncio
import os
import time
from functools import partial
from typing import Any

import structlog

from isthmus.agent.envoy_binary import envoy_path
from isthmus.kubernetes.kubeconfig import render
from isthmus.localruntime.authorities import Authorities
from isthmus.localruntime.cluster import Cluster
from isthmus.localruntime.cluster_dns import ClusterDns
from isthmus.localruntime.controllers.cache import ClusterCache
from isthmus.localruntime.networks import Networks
from isthmus.localruntime.plan import Plan
from isthmus.localruntime.processes import Processes
from isthmus.localruntime.service_router import ServiceRouter
from isthmus.localruntime.state import StateFolder
from isthmus.trust.private_files import write_privately

_LOOK_SECONDS = 0.05
_ACQUAINTANCE_SECONDS = 20.0
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "PYTHONPATH", "VIRTUAL_ENV", "TZ")

log = structlog.get_logger()


class RunningMesh:
    """The running mesh. `phase` goes from starting to ready, and to failed with an `error`, or to stopping."""

    def __init__(self, plan: Plan, state: StateFolder, host_fds: dict[str, int], processes: Processes) -> None:
        self.plan = plan
        self.state = state
        self.phase = "starting"
        self.error = ""
        self.stopping = asyncio.Event()
        self.processes = processes
        self.began = time.monotonic()
        self.ready_seconds = 0.0
        self.told: list[dict[str, Any]] = []
        """What has happened, with the seconds since the beginning: progress for those who wait."""
        networks = Networks(plan.networks)
        environment = {name: value for name, value in os.environ.items() if name in _INHERITED}
        envoy = envoy_path()
        self.clusters = {
            cluster.id: Cluster(
                plan,
                cluster,
                state,
                host_fds[cluster.id],
                networks,
                self.processes,
                environment,
                envoy,
                self.tell,
            )
            for cluster in plan.clusters
        }
        self._networks = networks

    def tell(self, what: str) -> None:
        self.told.append({"seconds": round(time.monotonic() - self.began, 2), "what": what})
        log.info(what)

    async def run(self) -> None:
        """Until cancelled. A mesh that cannot start stays, so that it can be asked why."""
        try:
            await self._run()
        except* Exception as errors:
            error: BaseException = errors
            while isinstance(error, BaseExceptionGroup):
                error = error.exceptions[0]
            self.phase, self.error = "failed", str(error) or repr(error)
            log.error("the mesh failed", error=self.error, exc_info=error)

    async def _run(self) -> None:
        await self._networks.build(self.plan.clusters)
        routers = {network.id: ServiceRouter(network) for network in self.plan.networks}
        self.tell(f"networks {', '.join(routers)}")
        secrets = Authorities(self.plan)
        async with asyncio.TaskGroup() as tasks:
            for network_id, router in routers.items():
                tasks.create_task(router.run(), name=f"router of {network_id}")
            for cluster in self.clusters.values():
                router = routers[cluster.plan.network]
                dns = ClusterDns(cluster.plan, self.plan.network(cluster.plan.network))
                router.always(dns.routes)
                tasks.create_task(dns.run(), name=f"DNS of {cluster.plan.id}")
                authority, bundles = secrets.secret(cluster.plan), secrets.bundles(cluster.plan)
                run = cluster.run(authority, bundles, self.clusters, partial(_joined, router, dns))
                tasks.create_task(run, name=str(cluster.plan.id))
            tasks.create_task(self._become_ready(), name="readiness")

    async def _become_ready(self) -> None:
        for cluster in self.clusters.values():
            await cluster.answers.wait()
        self._write_kubeconfig()
        waiting: list[str] = []
        while True:
            now = [what for cluster in self.clusters.values() for what in cluster.is_ready()]
            for what in waiting:
                if what not in now:
                    self.tell(f"{what} is ready")
            waiting = now
            if not waiting and all(cluster.guarded.is_set() for cluster in self.clusters.values()):
                break
            await asyncio.sleep(_LOOK_SECONDS)
        await self._become_acquainted()
        self.ready_seconds = time.monotonic() - self.began
        self.phase = "ready"

    async def _become_acquainted(self) -> None:
        """Meshes that trust each other are waited for, but not for ever: what a MeshPeer says may be wrong, and is to be looked at."""
        deadline = time.monotonic() + _ACQUAINTANCE_SECONDS
        while waiting := [what for cluster in self.clusters.values() for what in await cluster.unheard()]:
            if time.monotonic() > deadline:
                for what in waiting:
                    self.tell(f"{what} has not been heard of: see `isthmus peers -o wide`")
                return
            await asyncio.sleep(_LOOK_SECONDS)

    def _write_kubeconfig(self) -> None:
        text = render([cluster.context() for cluster in self.clusters.values()])
        write_privately(self.state.kubeconfig, text.encode())


def _joined(router: ServiceRouter, dns: ClusterDns, cache: ClusterCache) -> None:
    router.add(cache)
    dns.follow(cache)
