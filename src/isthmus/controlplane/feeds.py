"""Feeds: keep one cluster's objects current in the world.

A cluster becomes visible when every kind has been listed once. When its API server is lost, what was last known stays, labelled with the
time since which it is stale, and counts as much as the mesh's policy for ageing says. A server that has been silent is asked whether it is
there: a watch on a dead connection, or with credentials that have ended, can look healthy for minutes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from functools import partial

import msgspec

from isthmus.api.meta import KubernetesObject
from isthmus.api.registry import KINDS, Kind, decode
from isthmus.controlplane.staleness import HOLD, StalePolicy
from isthmus.controlplane.world import ImportedCluster, World
from isthmus.kubernetes.client import ApiClient
from isthmus.kubernetes.errors import ApiError, KubernetesError, Unauthorized
from isthmus.kubernetes.kind_paths import paths_of
from isthmus.kubernetes.reflector import Reflector
from isthmus.kubernetes.watch import Change, Name
from isthmus.model.issues import Issue, Severity, Subject
from isthmus.model.names import ClusterId
from isthmus.model.snapshot import MeshSettings
from isthmus.model.topology import ImportState, Standing

_CHECK_SECONDS = 1.0
_PROBE_AFTER_SECONDS = 10.0
_PROBE_SECONDS = 5.0


def kinds_of(settings: MeshSettings, *, is_config_cluster: bool) -> list[Kind]:
    """What is read from a cluster: configuration comes from the config cluster alone, and nothing is read that the mesh does not ask for."""
    wanted = [kind for kind in KINDS.values() if settings.global_names.suffix or not kind.for_global_names]
    return [kind for kind in wanted if is_config_cluster or kind.from_every_cluster]


class ClusterFeed:
    """One cluster, read through one client, into an `ImportedCluster` of its own."""

    def __init__(
        self, cluster: ClusterId, client: ApiClient, world: World, kinds: Iterable[Kind], policy: StalePolicy = HOLD
    ) -> None:
        self.cluster = cluster
        self.client = client
        self.imported = ImportedCluster()
        self._world = world
        self._policy = policy
        self._probed: float | None = None
        self._probe_error = ""
        self._lost_at = 0.0
        self._kinds = {kind.key: kind for kind in kinds}
        self._reflectors: dict[str, Reflector[KubernetesObject]] = {}
        for kind in self._kinds.values():
            self._reflectors[kind.key] = self._reflector(kind)

    async def run(self, visible: Callable[[], None]) -> None:
        """Until cancelled. `visible` is called once, when the cluster has taken its place in the world."""
        async with asyncio.TaskGroup() as tasks:
            for name, reflector in self._reflectors.items():
                tasks.create_task(reflector.run(), name=f"watch {name} of {self.cluster}")
            for reflector in self._reflectors.values():
                await reflector.synced.wait()
            self.imported.state = ImportState.LIVE
            self._judge()
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

    @property
    def missing_rights(self) -> list[Issue]:
        """Kinds that keep the cluster from becoming visible because they may not be read."""
        return [
            self._not_readable(self._kinds[key], reflector.refusal)
            for key, reflector in self._reflectors.items()
            if reflector.refusal and not reflector.synced.is_set()
        ]

    @property
    def error(self) -> str:
        """Why the cluster is stale, or not visible yet; empty while all is well."""
        lost = (f"{name}: {found.last_error}" for name, found in self._reflectors.items() if found.last_error)
        return self._probe_error or next(lost, "")

    @property
    def last_contact(self) -> float | None:
        """When the API server was heard of last, by the loop's clock; None if never."""
        heard = [found.last_contact for found in self._reflectors.values() if found.last_contact is not None]
        return max([*heard, *([self._probed] if self._probed is not None else [])], default=None)

    def ended(self, error: str) -> None:
        """Nobody reads the cluster any longer: what is known of it is as old as it is."""
        self._probe_error = error or "it is not read any longer"
        if self.imported.state is not ImportState.SYNCING:
            self._judge()

    async def _watch_over(self) -> None:
        while True:
            await asyncio.sleep(_CHECK_SECONDS)
            if self._probe_error or self._silent_for() >= _PROBE_AFTER_SECONDS:
                await self._probe()
            self._judge()

    def _silent_for(self) -> float:
        last = self.last_contact
        return float("inf") if last is None else asyncio.get_running_loop().time() - last

    async def _probe(self) -> None:
        """Whether the server is there and takes our credentials. That it does not want to be asked this is an answer, too."""
        try:
            async with asyncio.timeout(_PROBE_SECONDS):
                await self.client.read("/readyz")
        except TimeoutError:
            self._probe_error = f"{self.client.address.server} does not answer"
        except Unauthorized as error:
            self._probe_error = f"the credentials are refused: {error}"
        except ApiError:
            self._answered()
        except KubernetesError as error:
            self._probe_error = str(error)
        else:
            self._answered()

    def _answered(self) -> None:
        self._probe_error = ""
        self._probed = asyncio.get_running_loop().time()

    def _judge(self) -> None:
        """State, age and standing, by what is known now. Silent if they are as before."""
        imported = self.imported
        before = (imported.state, imported.stale_since, imported.standing)
        now = asyncio.get_running_loop().time()
        if not self.error:
            imported.state, imported.stale_since, imported.standing = ImportState.LIVE, "", Standing.FULL
        else:
            if imported.state is not ImportState.STALE:
                self._lost_at = now if self.last_contact is None else self.last_contact
                since = datetime.now(UTC) - timedelta(seconds=now - self._lost_at)
                imported.state, imported.stale_since = ImportState.STALE, since.isoformat(timespec="seconds")
            imported.standing = self._policy.standing(now - self._lost_at)
        if before != (imported.state, imported.stale_since, imported.standing):
            self._world.touched(imported)

    def _reflector(self, kind: Kind) -> Reflector[KubernetesObject]:
        objects: dict[Name, object] = {}
        self.imported.objects[kind.key] = objects
        taken = partial(self._taken, kind, objects)
        fields = f"metadata.name={kind.only_named}" if kind.only_named else kind.field_selector
        selector = {"fieldSelector": fields} if fields else None
        # Without the kinds by which policy is made, nothing must be believed; without those that only add to it, the rest holds.
        optional = kind.only_adds or (kind.is_custom and kind.from_every_cluster)
        read = partial(decode, kind)
        newest, *older = paths_of(kind)
        return Reflector(self.client, newest, read, taken, selector=selector, optional=optional, older=older)

    def _taken(self, kind: Kind, objects: dict[Name, object], changes: list[Change[KubernetesObject]]) -> None:
        touched = [change.name for change in changes if not _says_the_same(objects.get(change.name), change.new)]
        for change in changes:
            if change.new is None:
                objects.pop(change.name, None)
            else:
                objects[change.name] = change.new
        reflector = self._reflectors[kind.key]
        found = [self._issue(kind, name, why) for name, why in sorted(reflector.malformed.items())]
        if reflector.refusal:
            found.append(self._not_allowed(kind, reflector.refusal))
        self._world.report(f"{self.cluster}/{kind.key}", found)
        if touched:
            self._world.touched(self.imported, kind.key, touched)

    def _not_allowed(self, kind: Kind, why: str) -> Issue:
        return Issue(
            subject=Subject(self.cluster, kind.name, "", "*"),
            code="ISM0204",
            severity=Severity.WARNING,
            what=f"objects of this kind may not be read, and count as absent: {why}",
            fix=_right_to(kind),
        )

    def _not_readable(self, kind: Kind, why: str) -> Issue:
        return Issue(
            subject=Subject(self.cluster, kind.name, "", "*"),
            code="ISM0208",
            severity=Severity.ERROR,
            what=f"objects of this kind may not be read, and without them the cluster is not believed: {why}",
            fix=_right_to(kind),
        )

    def _issue(self, kind: Kind, name: Name, why: str) -> Issue:
        return Issue(
            subject=Subject(self.cluster, kind.name, name[0], name[1]),
            code="ISM0106",
            severity=Severity.ERROR,
            what=f"cannot be read, and is left out: {why}",
            fix="correct the field that is named; other objects are not affected",
        )


def _right_to(kind: Kind) -> str:
    resource = f"{kind.plural}.{kind.group}" if kind.group else kind.plural
    return f"allow get, list and watch of {resource} to the account whose credentials are used"


def _says_the_same(old: object, new: KubernetesObject | None) -> bool:
    """Whether nothing that the mesh reads has changed: most writes are of a status, or of nothing at all."""
    if not isinstance(old, KubernetesObject) or new is None:
        return old is new
    version = new.metadata.resource_version
    return msgspec.structs.replace(old, metadata=msgspec.structs.replace(old.metadata, resource_version=version)) == new
