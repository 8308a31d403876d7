"""Feeds: keep one cluster's objects current in the world.

A cluster becomes visible when every kind has been listed once. When its API server is lost, what was last known stays, labelled with the
time since which it is stale.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import partial

from isthmus.api.meta import KubernetesObject
from isthmus.api.registry import KINDS, Kind, decode
from isthmus.controlplane.world import ImportedCluster, World
from isthmus.kubernetes.client import ApiClient
from isthmus.kubernetes.reflector import Reflector
from isthmus.kubernetes.resources import ResourcePath
from isthmus.kubernetes.watch import Change, Name
from isthmus.model.issues import Issue, Severity, Subject
from isthmus.model.names import ClusterId
from isthmus.model.topology import ImportState

_STALE_CHECK_SECONDS = 1.0


def kinds_of(*, is_config_cluster: bool) -> list[Kind]:
    """What is read from a cluster: configuration comes from the config cluster alone."""
    return [kind for kind in KINDS.values() if is_config_cluster or kind.from_every_cluster]


def path_of(kind: Kind) -> ResourcePath:
    return ResourcePath(group=kind.group, version=kind.version, plural=kind.plural, namespaced=kind.namespaced)


class ClusterFeed:
    """One cluster, read through one client, into an `ImportedCluster` of its own."""

    def __init__(self, cluster: ClusterId, client: ApiClient, world: World, kinds: Iterable[Kind]) -> None:
        self.cluster = cluster
        self.client = client
        self.imported = ImportedCluster()
        self._world = world
        self._reflectors: dict[str, Reflector[KubernetesObject]] = {}
        for kind in kinds:
            self._reflectors[kind.name] = self._reflector(kind)

    async def run(self, visible: Callable[[], None]) -> None:
        """Until cancelled. `visible` is called once, when the cluster has taken its place in the world."""
        async with asyncio.TaskGroup() as tasks:
            for name, reflector in self._reflectors.items():
                tasks.create_task(reflector.run(), name=f"watch {name} of {self.cluster}")
            for reflector in self._reflectors.values():
                await reflector.synced.wait()
            self.imported.state = ImportState.LIVE
            self._world.put(self.cluster, self.imported)
            visible()
            await self._watch_over()

    @property
    def waiting_for(self) -> list[str]:
        """Kinds that have not been listed yet, with the last error of each."""
        return [
            f"{name}: {reflector.last_error or 'listing'}"
            for name, reflector in self._reflectors.items()
            if not reflector.synced.is_set()
        ]

    async def _watch_over(self) -> None:
        while True:
            await asyncio.sleep(_STALE_CHECK_SECONDS)
            lost = any(reflector.last_error for reflector in self._reflectors.values())
            if lost and self.imported.state is ImportState.LIVE:
                self.imported.state = ImportState.STALE
                self.imported.stale_since = datetime.now(UTC).isoformat(timespec="seconds")
                self._world.touched(self.imported)
            elif not lost and self.imported.state is ImportState.STALE:
                self.imported.state = ImportState.LIVE
                self.imported.stale_since = ""
                self._world.touched(self.imported)

    def _reflector(self, kind: Kind) -> Reflector[KubernetesObject]:
        objects: dict[Name, object] = {}
        self.imported.objects[kind.name] = objects
        taken = partial(self._taken, kind, objects)
        selector = {"fieldSelector": f"metadata.name={kind.only_named}"} if kind.only_named else None
        return Reflector(self.client, path_of(kind), partial(decode, kind), taken, selector=selector)

    def _taken(self, kind: Kind, objects: dict[Name, object], changes: list[Change[KubernetesObject]]) -> None:
        for change in changes:
            if change.new is None:
                objects.pop(change.name, None)
            else:
                objects[change.name] = change.new
        malformed = self._reflectors[kind.name].malformed
        self._world.report(
            f"{self.cluster}/{kind.name}", [self._issue(kind, n, why) for n, why in sorted(malformed.items())]
        )
        self._world.touched(self.imported)

    def _issue(self, kind: Kind, name: Name, why: str) -> Issue:
        return Issue(
            subject=Subject(self.cluster, kind.name, name[0], name[1]),
            code="ISM0106",
            severity=Severity.ERROR,
            what=f"cannot be read, and is left out: {why}",
            fix="correct the field that is named; other objects are not affected",
        )
