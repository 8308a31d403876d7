"""Machines that are connected here: registered while they are, and a little longer; their health is told to everybody by their entries."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import structlog

from isthmus.api.networking import WorkloadEntry
from isthmus.api.registry import KINDS
from isthmus.controlplane.machine_plan import (
    Change,
    Create,
    Delete,
    Machine,
    Name,
    Sight,
    Step,
    registered,
    steps,
    without_machine,
)
from isthmus.controlplane.world import World
from isthmus.ingest.inputs import Objects
from isthmus.ingest.machines import CONTROLLER, Registration
from isthmus.kubernetes.client import ApiClient
from isthmus.kubernetes.errors import AlreadyExists, Conflict, Forbidden, KubernetesError, NotFound
from isthmus.kubernetes.kind_paths import path_of
from isthmus.kubernetes.lease_client import Leadership
from isthmus.kubernetes.leases import Candidate, LeaseTerms
from isthmus.kubernetes.resources import LEASES
from isthmus.model.issues import Issue, Severity, Subject
from isthmus.model.names import ClusterId, Namespace
from isthmus.xds.directory import Newest
from isthmus.xds.health import HealthReport

_ENTRIES = path_of(KINDS["WorkloadEntry"])
_LEASE = "isthmus-machines-"
_TERMS = LeaseTerms(duration_seconds=15, renew_seconds=10.0, retry_seconds=4.0)
_LOOK_SECONDS = 1.0
"""How often entries without machines, and other control planes' Leases, are looked at."""
_RETRY_SECONDS = 0.2

log = structlog.get_logger()


class Machines:
    """`me` names this control plane among those that write into the same cluster."""

    def __init__(self, world: World, *, me: str, system_namespace: Namespace, grace_seconds: float) -> None:
        self._world = world
        self._me = me
        self._system = system_namespace
        self._grace = grace_seconds
        self._connected: dict[ClusterId, dict[Name, Machine]] = defaultdict(dict)
        self._feeds: dict[Newest, Registration] = {}
        self._due: dict[ClusterId, asyncio.Event] = defaultdict(asyncio.Event)

    def connected(self, feed: Newest, registration: Registration) -> None:
        """A proxy of the machine, or its agent, has connected."""
        self._feeds[feed] = registration
        machines = self._connected[registration.cluster]
        known = machines.get(registration.key)
        machines[registration.key] = Machine(
            registration=registration,
            connected_at=known.connected_at if known else _stamp(),
            health=known.health if known else None,
        )
        self._due[registration.cluster].set()

    def gone(self, feed: Newest) -> None:
        """One of its connections has ended; with the last one, the machine has gone."""
        registration = self._feeds.pop(feed, None)
        if registration is None:
            return
        others = (each for each in self._feeds.values() if each.cluster == registration.cluster)
        if all(each.key != registration.key for each in others):
            del self._connected[registration.cluster][registration.key]
        self._due[registration.cluster].set()

    def told(self, feed: Newest, health: HealthReport) -> None:
        """What a machine's agent says of its application. Nobody else's word counts."""
        registration = self._feeds.get(feed)
        if registration is None:
            return
        machines = self._connected[registration.cluster]
        known = machines[registration.key]
        machines[registration.key] = Machine(
            registration=known.registration, connected_at=known.connected_at, health=health
        )
        self._due[registration.cluster].set()

    async def run(self, cluster: ClusterId, client: ApiClient) -> None:
        """Keeps one cluster's entries as they should be. Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            writer = _Writer(client, self, cluster)
            while True:
                due = self._due[cluster]
                due.clear()
                done = await writer.round(tasks)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_SECONDS if done else _RETRY_SECONDS):
                        await due.wait()

    def sight(self, cluster: ClusterId, abandoned: frozenset[str], left_for: Mapping[Name, float]) -> Sight:
        """What is known of the cluster's machines now."""
        return Sight(
            me=self._me,
            machines=dict(self._connected[cluster]),
            entries=registered(self._objects(cluster).get("WorkloadEntry", {})),
            abandoned=abandoned,
            left_for=left_for,
            grace_seconds=self._grace,
            stamp=_stamp(),
        )

    def lease(self, client: ApiClient, owner: str) -> Leadership:
        return Leadership(client, self._system, lease_name(owner), owner, _TERMS)

    def report(self, cluster: ClusterId, issues: Sequence[Issue]) -> None:
        self._world.report(f"{cluster}/machines", issues)

    @property
    def system_namespace(self) -> Namespace:
        return self._system

    @property
    def me(self) -> str:
        return self._me

    def _objects(self, cluster: ClusterId) -> Objects:
        imported = self._world.clusters.get(cluster)
        return imported.objects if imported is not None else {}


class _Writer:
    """Into one cluster, through one client."""

    def __init__(self, client: ApiClient, machines: Machines, cluster: ClusterId) -> None:
        self._client = client
        self._machines = machines
        self._cluster = cluster
        self._left: dict[Name, float] = {}
        self._others: dict[str, Candidate] = {}
        self._abandoned: frozenset[str] = frozenset()
        self._looked_at = 0.0
        self._lease: Leadership | None = None
        self._last_error = ""

    async def round(self, tasks: asyncio.TaskGroup) -> bool:
        """One look, and what follows from it. Whether all could be written."""
        now = asyncio.get_running_loop().time()
        sight = self._machines.sight(self._cluster, self._abandoned, {})
        if not sight.machines and not sight.entries:
            return True
        if now - self._looked_at >= _LOOK_SECONDS:
            self._looked_at = now
            await self._look_at_others(sight.entries)
        if sight.machines and self._lease is None:
            # Before the first entry: what nobody has a Lease for counts as abandoned.
            self._lease = self._machines.lease(self._client, self._machines.me)
            tasks.create_task(self._lease.run(_nothing_else), name=f"lease for machines of {self._cluster}")
        if sight.machines and self._lease is not None and not self._lease.held:
            return False
        left = without_machine(self._machines.sight(self._cluster, self._abandoned, {}))
        self._left = {name: self._left.get(name, now) for name in left}
        waited = {name: now - since for name, since in self._left.items()}
        sight = self._machines.sight(self._cluster, self._abandoned, waited)
        return all([await self._done(step) for step in steps(sight)])

    async def _look_at_others(self, entries: Mapping[Name, WorkloadEntry]) -> None:
        """Which of the control planes that entries name have not renewed their Leases."""
        owners = {entry.metadata.annotations.get(CONTROLLER, "") for entry in entries.values()}
        owners -= {"", self._machines.me}
        self._others = {owner: self._others.get(owner) or Candidate(self._machines.me, _TERMS) for owner in owners}
        abandoned = set()
        for owner, candidate in self._others.items():
            try:
                lease = await self._client.get(LEASES, lease_name(owner), self._machines.system_namespace)
            except NotFound:
                lease = None
            except KubernetesError as error:
                log.warning("cannot look at a lease", owner=owner, error=str(error))
                continue
            if candidate.claim(lease, asyncio.get_running_loop().time(), _stamp()) is not None:
                abandoned.add(owner)
        self._abandoned = frozenset(abandoned)

    async def _done(self, step: Step) -> bool:
        namespace, name = step.name
        try:
            match step:
                case Create(body=body):
                    await self._client.create(_ENTRIES, body, namespace)
                    log.info("machine registered", cluster=self._cluster, entry=f"{namespace}/{name}")
                case Change(body=body, subresource=subresource):
                    await self._client.patch(_ENTRIES, name, body, namespace, subresource=subresource)
                case Delete(uid=uid):
                    await self._client.delete(_ENTRIES, name, namespace, uid=uid)
                    log.info("machine forgotten", cluster=self._cluster, entry=f"{namespace}/{name}")
        except (AlreadyExists, Conflict, NotFound):
            # It is not as it was any more: we are about to hear of it.
            return False
        except KubernetesError as error:
            if str(error) != self._last_error:
                log.warning("cannot write a WorkloadEntry", entry=f"{namespace}/{name}", error=str(error))
            self._last_error = str(error)
            if isinstance(error, Forbidden):
                self._machines.report(self._cluster, [_not_allowed(self._cluster, namespace, name, str(error))])
            return False
        if self._last_error:
            self._machines.report(self._cluster, [])
        self._last_error = ""
        return True


def _not_allowed(cluster: ClusterId, namespace: str, name: str, why: str) -> Issue:
    return Issue(
        subject=Subject(cluster, "WorkloadEntry", namespace, name),
        code="ISM0211",
        severity=Severity.ERROR,
        what=f"may not be written, so its machine is connected and nobody calls it: {why}",
        fix="allow the control plane to write WorkloadEntries: isthmus install --set machines.enabled=true",
    )


def lease_name(owner: str) -> str:
    """Of the Lease by which others see that a control plane lives."""
    return _LEASE + re.sub(r"[^a-z0-9.-]+", ".", owner.lower()).strip(".-")


async def _nothing_else() -> None:
    """A Lease that only says that its holder lives."""
    await asyncio.Event().wait()


def _stamp() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
