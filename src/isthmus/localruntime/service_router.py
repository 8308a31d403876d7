"""Keeps the rules of each network's router in step with the Services and EndpointSlices of the clusters on it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from isthmus.kubernetes.resources import ENDPOINT_SLICES, SERVICES, ResourcePath
from isthmus.localruntime.commands import CommandFailed, ip_batch, nft
from isthmus.localruntime.controllers.cache import ClusterCache
from isthmus.localruntime.plan import NetworkPlan
from isthmus.localruntime.service_routing import Route, load_balancer_ips, routes_of, rules

_RETRY_SECONDS = 0.5

log = structlog.get_logger()


class ServiceRouter:
    """One network's. `run` until cancelled."""

    def __init__(self, network: NetworkPlan) -> None:
        self._network = network
        self._caches: list[ClusterCache] = []
        self._always: list[Route] = []
        self._due = asyncio.Event()
        self._applied = ""
        self._balanced: list[str] = []

    def add(self, cache: ClusterCache) -> None:
        """One more cluster on the network."""
        self._caches.append(cache)
        cache.subscribe(self._changed)
        self._due.set()

    def always(self, routes: Sequence[Route]) -> None:
        """Addresses that are no Service's, and lead somewhere all the same."""
        self._always += routes
        self._due.set()

    async def run(self) -> None:
        while True:
            await self._due.wait()
            self._due.clear()
            try:
                await self._apply()
            except CommandFailed as error:
                log.warning("service rules not applied", network=self._network.id, error=str(error))
                await asyncio.sleep(_RETRY_SECONDS)
                self._due.set()

    async def _apply(self) -> None:
        states = [cache.state for cache in self._caches]
        routes = sorted(
            route
            for state in states
            for route in routes_of(state[SERVICES].values(), list(state[ENDPOINT_SLICES].values()))
        )
        balanced = sorted(ip for state in states for ip in load_balancer_ips(state[SERVICES].values()))
        if balanced != self._balanced:
            changes = [
                *(f"addr del {ip}/32 dev transit" for ip in self._balanced if ip not in balanced),
                *(f"addr add {ip}/32 dev transit" for ip in balanced if ip not in self._balanced),
            ]
            await ip_batch(changes, namespace=self._network.namespace)
            self._balanced = balanced
        wanted = rules(sorted([*self._always, *routes]))
        if wanted != self._applied:
            await nft(wanted, namespace=self._network.namespace)
            self._applied = wanted

    def _changed(self, resource: ResourcePath, _: Sequence[object]) -> None:
        if resource in (SERVICES, ENDPOINT_SLICES):
            self._due.set()
