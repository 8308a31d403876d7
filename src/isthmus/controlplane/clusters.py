"""Clusters join, change and leave as their remote secrets do.

A changed kubeconfig is made before it is broken with: the new feed reads everything first, then takes the old one's place in one step.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass

import msgspec
import structlog

from isthmus.api.core import Secret
from isthmus.controlplane.feeds import ClusterFeed, kinds_of
from isthmus.controlplane.remote_secrets import LABEL, RemoteCluster, RemoteRules, reading_of, transition
from isthmus.controlplane.world import World
from isthmus.kubernetes.client import ApiClient
from isthmus.kubernetes.reflector import Reflector
from isthmus.kubernetes.resources import SECRETS
from isthmus.kubernetes.watch import Change
from isthmus.model.names import ClusterId, Namespace

log = structlog.get_logger()


@dataclass(slots=True)
class _Discovery:
    """One remote cluster being read. `task` runs its feed."""

    wanted: RemoteCluster
    task: asyncio.Task[None]
    feed: ClusterFeed | None = None
    error: str = ""


class RemoteClusters:
    """Follows the remote secrets of the config cluster."""

    def __init__(self, world: World, client: ApiClient, own_cluster: ClusterId, system_namespace: Namespace) -> None:
        self._world = world
        self._rules = RemoteRules(own_cluster=own_cluster, system_namespace=system_namespace)
        self._current: dict[ClusterId, _Discovery] = {}
        self._joining: dict[ClusterId, _Discovery] = {}
        self._work = asyncio.Event()
        self._quiet = asyncio.Event()
        """Set while every cluster that the secrets name is visible."""
        self._secrets: Reflector[Secret] = Reflector(
            client,
            SECRETS,
            _decode_secret,
            self._changed,
            namespace=system_namespace,
            selector={"labelSelector": f"{LABEL}=true"},
        )

    async def run(self) -> None:
        """Until cancelled. One cluster's failure is that cluster's."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._secrets.run(), name="watch remote secrets")
            while True:
                await self._work.wait()
                self._work.clear()
                self._reconcile(tasks)

    async def settled(self, seconds: float) -> bool:
        """Waits until every cluster that the secrets name is visible, or the time is over. False if some are not."""
        try:
            async with asyncio.timeout(seconds):
                await self._secrets.synced.wait()
                await self._quiet.wait()
        except TimeoutError:
            return False
        return True

    def client_for(self, cluster: ClusterId) -> ApiClient:
        """For questions to a discovered cluster. Raises KeyError for one that is not."""
        discovery = self._current.get(cluster) or self._joining[cluster]
        if discovery.feed is None:
            raise KeyError(cluster)
        return discovery.feed.client

    def table(self) -> list[dict[str, str]]:
        """Every remote cluster, with the state of its discovery."""
        rows = []
        for name, discovery in sorted((self._current | self._joining).items()):
            feed = discovery.feed
            state = feed.imported.state.value if feed else "syncing"
            rows.append(
                {
                    "id": name,
                    "secretName": discovery.wanted.source,
                    "syncStatus": state,
                    "staleSince": feed.imported.stale_since if feed else "",
                    "server": discovery.wanted.address.server,
                    "waitingFor": discovery.error or ("; ".join(feed.waiting_for) if feed else "connecting"),
                }
            )
        return rows

    def _changed(self, _: list[Change[Secret]]) -> None:
        self._quiet.clear()
        self._work.set()

    def _reconcile(self, tasks: asyncio.TaskGroup) -> None:
        reading = reading_of(self._secrets.values.values(), self._rules)
        self._world.report("remote secrets", reading.issues)
        newest = {cluster: discovery.wanted for cluster, discovery in (self._current | self._joining).items()}
        change = transition(newest, reading)
        for cluster in change.leave:
            self._leave(cluster)
        for remote in change.connect:
            self._join(remote, tasks)
        self._note_quiet()

    def _note_quiet(self) -> None:
        if not self._joining and not self._work.is_set():
            self._quiet.set()

    def _join(self, remote: RemoteCluster, tasks: asyncio.TaskGroup) -> None:
        earlier = self._joining.pop(remote.id, None)
        if earlier is not None:
            earlier.task.cancel()
        log.info("cluster joins", cluster=remote.id, server=remote.address.server, secret=remote.source)
        task = tasks.create_task(self._discover(remote), name=f"discover {remote.id}")
        self._joining[remote.id] = _Discovery(remote, task)

    def _leave(self, cluster: ClusterId) -> None:
        log.info("cluster leaves", cluster=cluster)
        for known in (self._joining, self._current):
            discovery = known.pop(cluster, None)
            if discovery is not None:
                discovery.task.cancel()
        self._world.remove(cluster)

    async def _discover(self, remote: RemoteCluster) -> None:
        try:
            client = ApiClient(remote.address)
        except (ssl.SSLError, ValueError, OSError) as error:
            # The certificates in the kubeconfig cannot be used; a new secret is a new try.
            self._joining[remote.id].error = f"bad certificates in the kubeconfig: {error}"
            log.warning("cluster cannot be discovered", cluster=remote.id, error=str(error))
            return
        async with client:
            feed = ClusterFeed(remote.id, client, self._world, kinds_of(is_config_cluster=False))
            self._joining[remote.id].feed = feed
            await feed.run(lambda: self._visible(remote.id))

    def _visible(self, cluster: ClusterId) -> None:
        """The new feed has taken its place: the old one may end."""
        before = self._current.get(cluster)
        self._current[cluster] = self._joining.pop(cluster)
        if before is not None:
            before.task.cancel()
        self._note_quiet()
        log.info("cluster is visible", cluster=cluster)


def _decode_secret(body: bytes) -> Secret:
    return msgspec.json.decode(body, type=Secret)
