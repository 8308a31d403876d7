"""Follows drains: a control plane does so by its own clock, for what its config cluster asks for (`ingest/drains.py`)."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from functools import partial

import msgspec

from isthmus.api.core import ConfigMap
from isthmus.controlplane.world import World
from isthmus.ingest.drains import CONFIG_MAP, asked
from isthmus.kubernetes.client import ApiClient
from isthmus.kubernetes.reflector import Reflector
from isthmus.kubernetes.resources import CONFIG_MAPS
from isthmus.model.issues import Issue, Severity, Subject
from isthmus.model.names import ClusterId, Namespace


class Drains:
    """Follows the ConfigMap, and tells the world each cluster's share as time goes by."""

    def __init__(self, client: ApiClient, world: World, cluster: ClusterId, namespace: Namespace) -> None:
        self._world = world
        self._cluster = cluster
        self._namespace = namespace
        self._changed = asyncio.Event()
        self._config: Reflector[ConfigMap] = Reflector(
            client,
            CONFIG_MAPS,
            partial(msgspec.json.decode, type=ConfigMap),
            lambda _: self._changed.set(),
            namespace=namespace,
            selector={"fieldSelector": f"metadata.name={CONFIG_MAP}"},
            optional=True,
        )

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._config.run(), name="watch drains")
            while True:
                self._changed.clear()
                found = self._config.values.get((self._namespace, CONFIG_MAP))
                said = asked(found.data if found else {})
                now = datetime.now(UTC)
                self._world.set_shares({cluster: drain.share(now) for cluster, drain in said.drains.items()})
                self._world.report("drains", [self._issue(cluster, why) for cluster, why in said.wrong.items()])
                steps = [step for drain in said.drains.values() if (step := drain.next_step(now)) is not None]
                wait = (min(steps) - now).total_seconds() if steps else None
                try:
                    async with asyncio.timeout(wait):
                        await self._changed.wait()
                except TimeoutError:
                    continue

    def _issue(self, cluster: str, why: str) -> Issue:
        return Issue(
            subject=Subject(self._cluster, "ConfigMap", self._namespace, CONFIG_MAP),
            code="ISM0206",
            severity=Severity.ERROR,
            what=f"the entry for {cluster} cannot be read, and drains nothing: {why}",
            fix="write it with `isthmus drain`, or delete it with `isthmus undrain`",
            field=f"data.{cluster}",
        )
