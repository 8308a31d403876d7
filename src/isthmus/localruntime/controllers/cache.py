"""ClusterCache: the objects of one cluster as its controllers and its kubelet see them, kept current by watching."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from isthmus.kubernetes.client import ApiClient
from isthmus.kubernetes.reflector import Reflector
from isthmus.kubernetes.resources import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    ENDPOINT_SLICES,
    NAMESPACES,
    NODES,
    PODS,
    PROXY_CONFIGS,
    REPLICA_SETS,
    SERVICE_ACCOUNTS,
    SERVICES,
    ResourcePath,
)
from isthmus.kubernetes.watch import Change, Name, plain
from isthmus.localruntime.controllers.actions import Object

WATCHED = (
    NAMESPACES,
    NODES,
    SERVICE_ACCOUNTS,
    CONFIG_MAPS,
    SERVICES,
    ENDPOINT_SLICES,
    DEPLOYMENTS,
    REPLICA_SETS,
    PODS,
    PROXY_CONFIGS,
)

Subscriber = Callable[[ResourcePath, list[Change[Object]]], None]


class ClusterCache:
    """`state` has every object by resource and name. Subscribers are called with each change, after it is in `state`."""

    def __init__(self, client: ApiClient) -> None:
        self.state: dict[ResourcePath, dict[Name, Object]] = {resource: {} for resource in WATCHED}
        self._subscribers: list[Subscriber] = []
        self._moved = asyncio.Event()
        self._reflectors = [
            Reflector(client, resource, plain, partial(self._changed, resource)) for resource in WATCHED
        ]

    def subscribe(self, subscriber: Subscriber) -> None:
        self._subscribers.append(subscriber)

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for reflector in self._reflectors:
                tasks.create_task(reflector.run(), name="watch")

    async def synced(self) -> None:
        """Everything has been read once."""
        for reflector in self._reflectors:
            await reflector.synced.wait()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Waits for the objects to be so. The condition is asked after each change."""
        while not holds():
            self._moved.clear()
            await self._moved.wait()

    async def has_seen(self, resource: ResourcePath, written: Object) -> None:
        """Waits until a write is in `state`, or the object has gone since."""
        metadata = written["metadata"]
        name, version = (metadata.get("namespace", ""), metadata["name"]), int(metadata["resourceVersion"])
        await self.until(lambda: int(self.state[resource].get(name, _NONE)["metadata"]["resourceVersion"]) >= version)

    def _changed(self, resource: ResourcePath, changes: list[Change[Object]]) -> None:
        objects = self.state[resource]
        for change in changes:
            if change.new is None:
                objects.pop(change.name, None)
            else:
                objects[change.name] = change.new
        self._moved.set()
        for subscriber in self._subscribers:
            subscriber(resource, changes)


_NONE: Object = {"metadata": {"resourceVersion": "0"}}
