"""Clusters join, change and leave as their remote secrets, or files, do. What is to be done is decided in `remote_secrets`; it is done here.

A changed kubeconfig is made before it is broken with: the new feed reads everything first, then takes the old one's place in one step. So
endpoints never vanish because a credential was rotated, nor because the new one does not work.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import structlog

from isthmus.api.core import Namespace, Secret
from isthmus.controlplane.cluster_identity import ClusterIdentity, identity_of
from isthmus.controlplane.cluster_table import ClusterRow
from isthmus.controlplane.credential_expiry import expiry_of
from isthmus.controlplane.feeds import ClusterFeed, kinds_of
from isthmus.controlplane.kept_clusters import KeptClusters
from isthmus.controlplane.remote_files import follow, reading_of_files
from isthmus.controlplane.remote_secrets import (
    LABEL,
    RemoteCluster,
    RemoteReading,
    RemoteRules,
    misnamed,
    reading_of,
    sharing,
    transition,
    unusable,
)
from isthmus.controlplane.staleness import StalePolicy
from isthmus.controlplane.world import World
from isthmus.kubernetes.client import ApiClient
from isthmus.kubernetes.errors import KubernetesError
from isthmus.kubernetes.reflector import Reflector
from isthmus.kubernetes.resources import SECRETS
from isthmus.kubernetes.watch import Change
from isthmus.model.names import ClusterId
from isthmus.model.topology import ImportState

_RETRY_SECONDS_FIRST = 0.5
_RETRY_SECONDS_MAX = 30.0
_GONE_MAX = 100
_PATIENCE_SECONDS = 3.0
"""So long a cluster that was known before may take to answer, before it is shown as it was known."""
_KEEP_SECONDS_FIRST, _KEEP_SECONDS = 2.0, 30.0

log = structlog.get_logger()


Duties = Callable[[ClusterId, ApiClient], Coroutine[None, None, None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteSettings:
    """`sync_seconds`: after that a cluster that has not been read holds nothing up; 0 is for ever. `directory` of kubeconfigs, or empty.

    `kept` is what was known before this control plane started. `duties` are what is done for a cluster for as long as it is read, beside reading it.
    """

    rules: RemoteRules
    sync_seconds: float
    policy: StalePolicy
    directory: str = ""
    kept: KeptClusters = field(default_factory=lambda: KeptClusters(""))
    duties: Duties | None = None


@dataclass(slots=True, eq=False)
class _Discovery:
    """One remote cluster being read. `task` runs its feed; one that is `over` will not be tried again."""

    wanted: RemoteCluster
    expires: datetime | None
    task: asyncio.Task[None] | None = None
    feed: ClusterFeed | None = None
    error: str = ""
    over: bool = False
    late: bool = False
    identity: ClusterIdentity | None = None


class RemoteClusters:
    """Follows the remote secrets of the config cluster, or a directory of kubeconfigs where there is one."""

    def __init__(self, world: World, client: ApiClient, settings: RemoteSettings) -> None:
        self._world = world
        self._settings = settings
        self._current: dict[ClusterId, _Discovery] = {}
        self._joining: dict[ClusterId, _Discovery] = {}
        self._gone: dict[ClusterId, ClusterRow] = {}
        self._work = asyncio.Event()
        self._quiet = asyncio.Event()
        """Set while every cluster that is asked for is visible, late, or beyond hope."""
        self._known = asyncio.Event()
        """Set once the sources have been read."""
        self._files: dict[str, bytes] = {}
        self.events: Counter[str] = Counter()
        self.timeouts = 0
        self._secrets: Reflector[Secret] = Reflector(
            client,
            SECRETS,
            _decode_secret,
            self._secrets_changed,
            namespace=settings.rules.system_namespace,
            selector={"labelSelector": f"{LABEL}=true"},
        )

    async def run(self) -> None:
        """Until cancelled. One cluster's failure is that cluster's."""
        async with asyncio.TaskGroup() as tasks:
            if self._settings.directory:
                tasks.create_task(follow(Path(self._settings.directory), self._files_changed), name="watch kubeconfigs")
            else:
                tasks.create_task(self._secrets.run(), name="watch remote secrets")
            while True:
                await self._work.wait()
                self._work.clear()
                self._reconcile(tasks)
                self._known.set()

    async def settled(self) -> bool:
        """Waits until every cluster that is asked for is visible, or has had its time. False if some are not visible."""
        await self._known.wait()
        await self._quiet.wait()
        return not self._joining

    def are_all_known(self) -> bool:
        """Whether something is known of every cluster that is asked for, if only from a time before this process."""
        return self._known.is_set() and all(each in self._world.clusters for each in self._joining)

    def client_for(self, cluster: ClusterId) -> ApiClient:
        """For questions to a discovered cluster. Raises KeyError for one that is not."""
        discovery = self._current.get(cluster) or self._joining[cluster]
        if discovery.feed is None:
            raise KeyError(cluster)
        return discovery.feed.client

    def table(self) -> list[ClusterRow]:
        """Every remote cluster, with the state of its discovery; then those that left, for as long as there is room."""
        here = self._joining | self._current
        rows = [self._row(cluster, discovery) for cluster, discovery in sorted(here.items())]
        return rows + [row for cluster, row in sorted(self._gone.items()) if cluster not in here]

    def _row(self, cluster: ClusterId, discovery: _Discovery) -> ClusterRow:
        feed, waiting = discovery.feed, self._joining.get(cluster)
        heard = feed.last_contact if feed else None
        read = ImportState.SYNCING if feed is None else feed.imported.state
        # What proxies are told may be from before this control plane started, with its age, while the cluster is still being read.
        shown = self._world.clusters.get(cluster) or (feed.imported if feed else None)
        late = discovery.late and read is ImportState.SYNCING
        error = discovery.error or (feed.error if feed else "")
        waiting_for = feed.waiting_for if feed else []
        return ClusterRow(
            id=cluster,
            secretName=discovery.wanted.source,
            syncStatus="timeout" if late else "syncing" if read is ImportState.SYNCING else "synced",
            state=(shown.state if shown else ImportState.SYNCING).value,
            staleSince=shown.stale_since if shown else "",
            standing=shown.standing.value if shown else "",
            lastContact="" if heard is None else _moment(asyncio.get_running_loop().time() - heard),
            server=discovery.wanted.address.server,
            reason=error or "; ".join(waiting_for),
            waitingFor=waiting_for,
            replacement="" if waiting in (None, discovery) else (waiting.error or "connecting"),
            credentialExpires=discovery.expires.isoformat(timespec="seconds") if discovery.expires else "",
            callsItself=sorted(discovery.identity.names) if discovery.identity else [],
            uid=discovery.identity.uid if discovery.identity else "",
        )

    def _secrets_changed(self, changes: list[Change[Secret]]) -> None:
        for change in changes:
            self.events["add" if change.old is None else "delete" if change.new is None else "update"] += 1
        self._sources_changed()

    def _files_changed(self, files: dict[str, bytes]) -> None:
        self.events["files"] += 1
        self._files = files
        self._sources_changed()

    def _sources_changed(self) -> None:
        self._quiet.clear()
        self._work.set()

    def _reading(self, newest: dict[ClusterId, RemoteCluster]) -> RemoteReading:
        if self._settings.directory:
            return reading_of_files(self._files, self._settings.rules, newest)
        return reading_of(self._secrets.values.values(), self._settings.rules)

    def _reconcile(self, tasks: asyncio.TaskGroup) -> None:
        newest = {cluster: discovery.wanted for cluster, discovery in (self._current | self._joining).items()}
        reading = self._reading(newest)
        self._world.report("remote secrets", reading.issues)
        change = transition(newest, reading)
        for cluster in change.leave:
            self._leave(cluster)
        for remote in change.connect:
            self._join(remote, tasks)
        self._note_quiet()

    def _note_quiet(self) -> None:
        waited_for = [d for d in self._joining.values() if not d.late and not d.over]
        if not waited_for and not self._work.is_set():
            self._quiet.set()

    def _join(self, remote: RemoteCluster, tasks: asyncio.TaskGroup) -> None:
        earlier = self._joining.pop(remote.id, None)
        if earlier is not None and earlier.task is not None:
            earlier.task.cancel()
        current = self._current.get(remote.id)
        if current is not None and current.wanted.digest == remote.digest:
            # A change was taken back before it had been made: the connection of before still stands.
            current.wanted = remote
            return
        log.info("cluster joins", cluster=remote.id, server=remote.address.server, source=remote.source)
        self._gone.pop(remote.id, None)
        discovery = _Discovery(remote, expiry_of(remote.address))
        self._joining[remote.id] = discovery
        discovery.task = tasks.create_task(self._discover(discovery), name=f"discover {remote.id}")

    def _leave(self, cluster: ClusterId) -> None:
        log.info("cluster leaves", cluster=cluster)
        row = self._row(cluster, (self._joining | self._current)[cluster])
        self._gone[cluster] = row.left(_moment(0.0))
        while len(self._gone) > _GONE_MAX:
            self._gone.pop(next(iter(self._gone)))
        for known in (self._joining, self._current):
            discovery = known.pop(cluster, None)
            if discovery is not None and discovery.task is not None:
                discovery.task.cancel()
        self._world.remove(cluster)
        self._settings.kept.forget(cluster)
        self._world.report(f"unusable {cluster}", ())
        self._report_identities()

    async def _discover(self, discovery: _Discovery) -> None:
        """Until cancelled, or beyond hope: what ends for any other reason is tried again, ever less often."""
        pause = _RETRY_SECONDS_FIRST
        async with asyncio.TaskGroup() as tasks:
            timer = tasks.create_task(self._give_time(discovery), name="time to be read")
            while True:
                try:
                    client = ApiClient(discovery.wanted.address)
                except (ssl.SSLError, ValueError, OSError) as error:
                    timer.cancel()
                    self._beyond_hope(discovery, f"bad certificates in the kubeconfig: {error}")
                    return
                try:
                    async with client:
                        await self._read(discovery, client)
                except* Exception as errors:
                    # Also for a mistake of ours: it must cost this cluster alone, and what is known of it stays.
                    discovery.error = str(errors.exceptions[0])
                    log.warning("cluster cannot be read", cluster=discovery.wanted.id, exc_info=errors)
                if discovery.feed is not None:
                    discovery.feed.ended(discovery.error)
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(pause * 2, _RETRY_SECONDS_MAX)

    async def _read(self, discovery: _Discovery, client: ApiClient) -> None:
        kinds = kinds_of(self._world.settings, is_config_cluster=False)
        discovery.feed = ClusterFeed(discovery.wanted.id, client, self._world, kinds, self._settings.policy)
        discovery.error = ""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(discovery.feed.run(lambda: self._visible(discovery)), name="feed")
            tasks.create_task(self._identify(discovery, client), name="identify")
            tasks.create_task(self._keep(discovery), name="keep")
            if self._settings.duties is not None:
                tasks.create_task(self._settings.duties(discovery.wanted.id, client), name="duties")

    async def _give_time(self, discovery: _Discovery) -> None:
        sync_seconds = self._settings.sync_seconds
        patience = min(_PATIENCE_SECONDS, sync_seconds or _PATIENCE_SECONDS)
        await asyncio.sleep(patience)
        if self._joining.get(discovery.wanted.id) is discovery and self._recall(discovery):
            return
        if sync_seconds == 0:
            return
        await asyncio.sleep(sync_seconds - patience)
        if self._joining.get(discovery.wanted.id) is discovery:
            discovery.late = True
            self.timeouts += 1
            reason = self._row(discovery.wanted.id, discovery).reason
            log.warning("cluster could not be read in time", cluster=discovery.wanted.id, error=reason[:300])
            self._note_quiet()

    def _recall(self, discovery: _Discovery) -> bool:
        """Shows the cluster as it was known before this control plane started, if it was; reading it goes on."""
        cluster = discovery.wanted.id
        kept = self._settings.kept.recalled(cluster) if cluster not in self._world.clusters else None
        if kept is None:
            return False
        log.warning("cluster is shown as it was last known", cluster=cluster, since=kept.stale_since)
        self._world.put(cluster, kept)
        discovery.late = True
        self._note_quiet()
        return True

    async def _keep(self, discovery: _Discovery) -> None:
        """What is known, for the next start, once it is. Often at first: in a cluster that has just begun, much is still to come."""
        cluster, pause = discovery.wanted.id, _KEEP_SECONDS_FIRST
        while True:
            if discovery.feed is not None and self._world.clusters.get(cluster) is discovery.feed.imported:
                if discovery.feed.imported.state is ImportState.LIVE:
                    self._settings.kept.keep(cluster, discovery.feed.imported)
                await asyncio.sleep(pause)
                pause = min(2 * pause, _KEEP_SECONDS)
            else:
                await asyncio.sleep(1.0)

    async def _identify(self, discovery: _Discovery, client: ApiClient) -> None:
        pause = _RETRY_SECONDS_FIRST
        while discovery.identity is None:
            try:
                discovery.identity = await identity_of(client, self._settings.rules.system_namespace)
            except KubernetesError as error:
                log.debug("cluster not identified yet", cluster=discovery.wanted.id, error=str(error))
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(pause * 2, _RETRY_SECONDS_MAX)
        self._report_identities()

    def _report_identities(self) -> None:
        own = self._settings.rules.own_cluster
        issues = []
        uids = {own: self._own_uid()}
        for cluster, discovery in sorted((self._joining | self._current).items()):
            if discovery.identity is not None:
                uids[cluster] = discovery.identity.uid
                issues.append(misnamed(cluster, discovery.identity.names, own, discovery.wanted.source))
        found = [issue for issue in issues if issue is not None]
        self._world.report("remote identities", [*found, *sharing(uids, own)])

    def _own_uid(self) -> str:
        imported = self._world.clusters.get(self._settings.rules.own_cluster)
        system = imported.objects.get("Namespace", {}).get(("", "kube-system")) if imported else None
        return system.metadata.uid if isinstance(system, Namespace) else ""

    def _beyond_hope(self, discovery: _Discovery, error: str) -> None:
        discovery.error, discovery.over = error, True
        log.warning("cluster cannot be discovered", cluster=discovery.wanted.id, error=error)
        own = self._settings.rules.own_cluster
        self._world.report(f"unusable {discovery.wanted.id}", [unusable(discovery.wanted, error, own)])
        self._note_quiet()

    def _visible(self, discovery: _Discovery) -> None:
        """The new feed has taken its place: the old one may end."""
        cluster = discovery.wanted.id
        before = self._current.get(cluster)
        self._joining.pop(cluster, None)
        self._current[cluster] = discovery
        discovery.late = False
        if before is not None and before is not discovery and before.task is not None:
            before.task.cancel()
        self._world.report(f"unusable {cluster}", ())
        self._note_quiet()
        self._report_identities()
        log.info("cluster is visible", cluster=cluster)


def _moment(seconds_ago: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds_ago)).isoformat(timespec="seconds")


def _decode_secret(body: bytes) -> Secret:
    return msgspec.json.decode(body, type=Secret)
