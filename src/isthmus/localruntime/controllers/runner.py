"""Runs one cluster's controllers: whenever something changed, all of them look at everything, and their writes are carried out.

A round begins only when the cache has seen the writes of the round before, so no controller acts twice on the same need.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache

import structlog

from isthmus.kubernetes.client import ApiClient
from isthmus.kubernetes.errors import KubernetesError
from isthmus.localruntime.controllers.actions import Action, carry_out
from isthmus.localruntime.controllers.cache import ClusterCache
from isthmus.localruntime.controllers.deployments import deployments
from isthmus.localruntime.controllers.endpoint_slices import endpoint_slices
from isthmus.localruntime.controllers.injection import InjectionSettings
from isthmus.localruntime.controllers.load_balancers import load_balancers
from isthmus.localruntime.controllers.namespaces import namespaces
from isthmus.localruntime.controllers.replica_sets import replica_sets
from isthmus.localruntime.controllers.scheduling import scheduling
from isthmus.localruntime.plan import ClusterPlan
from isthmus.model.proxy_config import ProxyConfigs

_RETRY_SECONDS = 0.5
_SEEN_SECONDS = 2.0

log = structlog.get_logger()


class Controllers:
    """`run` until cancelled."""

    def __init__(
        self,
        plan: ClusterPlan,
        client: ApiClient,
        cache: ClusterCache,
        api_ca_pem: str,
        proxies: Callable[[], ProxyConfigs],
    ) -> None:
        """`proxies`: what is said now of how proxies are run."""
        self._plan = plan
        self._client = client
        self._cache = cache
        self._api_ca_pem = api_ca_pem
        self._injection = InjectionSettings(plan.network, (*plan.revisions, *plan.tags))
        self._proxies = proxies
        self._due = asyncio.Event()
        cache.subscribe(lambda *_: self._due.set())

    async def run(self) -> None:
        await self._cache.synced()
        self._due.set()
        while True:
            await self._due.wait()
            self._due.clear()
            try:
                async with asyncio.TaskGroup() as tasks:
                    for action in list(self._actions()):
                        tasks.create_task(self._carry_out(action), name=type(action).__name__)
            except* KubernetesError as errors:
                log.warning("a controller's write failed", cluster=self._plan.id, error=str(errors.exceptions[0]))
                await asyncio.sleep(_RETRY_SECONDS)
                self._due.set()

    def _actions(self) -> Iterator[Action]:
        state, now = self._cache.state, datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        yield from namespaces(state, self._api_ca_pem)
        yield from deployments(state, now)
        yield from replica_sets(state, now)
        yield from scheduling(state, replace(self._injection, proxies=cache(self._proxies)))
        yield from load_balancers(state, self._plan.load_balancer_cidr)
        yield from endpoint_slices(state, now)

    async def _carry_out(self, action: Action) -> None:
        written = await carry_out(self._client, action)
        if written is not None:
            try:
                async with asyncio.timeout(_SEEN_SECONDS):
                    await self._cache.has_seen(*written)
            except TimeoutError:
                return  # Deleted meanwhile, or the watch is being made anew: what is there then counts.
