"""World: every object that this control plane has learned, by cluster, and the snapshot of it.

Feeds write into it; whoever derives something waits for `changed`. A cluster that is still syncing is invisible, so that it appears in one
step and with all its endpoints, not service by service.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import replace

from isthmus.api.meta import KubernetesObject
from isthmus.api.registry import KINDS
from isthmus.ingest.cache import IngestCache
from isthmus.ingest.inputs import Besides, ClusterInput
from isthmus.ingest.patching import Changes, patched
from isthmus.ingest.quotas import refusal
from isthmus.ingest.snapshot import Reading, read, with_rules
from isthmus.model.federation import HeardPeer
from isthmus.model.identity import TrustDomain
from isthmus.model.issues import Issue
from isthmus.model.names import ClusterId, MeshId
from isthmus.model.security import FetchedKeys
from isthmus.model.snapshot import MeshSettings, Snapshot
from isthmus.model.topology import ImportState, ResolvedName, Standing
from isthmus.model.trust import OwnTrust

ObjectName = tuple[str, str]
"""Namespace (empty for a cluster-scoped object) and name."""


class ImportedCluster:
    """One cluster's objects as decoded structs, by kind and name."""

    def __init__(self) -> None:
        self.state = ImportState.SYNCING
        self.stale_since = ""
        self.standing = Standing.FULL
        self.objects: dict[str, dict[ObjectName, object]] = {}


class World:
    """What is known now. Between two awaits it is consistent."""

    def __init__(self, settings: MeshSettings, config_cluster: ClusterId) -> None:
        self.settings = settings
        self.config_cluster = config_cluster
        self.changed = asyncio.Event()
        self._clusters: dict[ClusterId, ImportedCluster] = {}
        self.host_names: frozenset[str] = frozenset()
        """Of network gateways, as the newest snapshot has found them."""
        self.named = asyncio.Event()
        """Set when there are other host names."""
        self._resolved: Mapping[str, ResolvedName] | None = None
        self._shares: dict[ClusterId, int] = {}
        self._keys: Mapping[str, FetchedKeys] = {}
        self._heard: Mapping[MeshId, HeardPeer] = {}
        self._bundles: Mapping[TrustDomain, tuple[bytes, ...]] = {}
        self._issues: dict[str, tuple[Issue, ...]] = {}
        self._cache = IngestCache()
        self._reading: Reading | None = None
        self._changes: dict[ClusterId, dict[str, set[ObjectName]]] = {}
        self._is_new = True
        """Whether something other than objects has changed since the last snapshot."""

    @property
    def clusters(self) -> Mapping[ClusterId, ImportedCluster]:
        return self._clusters

    def secrets(self) -> Mapping[ObjectName, object]:
        """The config cluster's, as they are now. Whoever asks hands them to nobody but their readers."""
        imported = self._clusters.get(self.config_cluster)
        return imported.objects.get("Secret", {}) if imported is not None else {}

    def put(self, cluster: ClusterId, imported: ImportedCluster) -> None:
        """The cluster's objects are these from now on; what was known of it before goes in the same step."""
        self._clusters[cluster] = imported
        self._anew()

    def set_shares(self, shares: Mapping[ClusterId, int]) -> None:
        """Percent of its traffic that each cluster keeps; one that is not named keeps all."""
        drained = {cluster: share for cluster, share in shares.items() if share < 100}
        if drained != self._shares:
            self._shares = drained
            self._anew()

    def ask_of_proxies(self, asked: OwnTrust) -> None:
        """What they are to do about the authorities of their own trust domain."""
        if asked != self.settings.own_trust:
            self.settings = replace(self.settings, own_trust=asked)
            self._anew()

    def set_keys(self, keys: Mapping[str, FetchedKeys]) -> None:
        """Keys that tokens are checked with, by the address that they were fetched from."""
        if keys != self._keys:
            self._keys = dict(keys)
            self._anew()

    def set_heard(self, heard: Mapping[MeshId, HeardPeer]) -> None:
        """What other meshes have told."""
        if heard != self._heard:
            self._heard = dict(heard)
            self._anew()

    def set_bundles(self, bundles: Mapping[TrustDomain, tuple[bytes, ...]]) -> None:
        """Authorities (DER) of other trust domains, as their endpoints gave them."""
        if bundles != self._bundles:
            self._bundles = dict(bundles)
            self._anew()

    def set_resolved(self, resolved: Mapping[str, ResolvedName]) -> None:
        """Network gateways' host names mean these addresses from now on. Until the first call nobody asks name servers."""
        if resolved != self._resolved:
            self._resolved = dict(resolved)
            self._anew()

    def remove(self, cluster: ClusterId) -> None:
        """Forgets the cluster, all its endpoints, and what was wrong with its objects."""
        for source in [source for source in self._issues if source.startswith(f"{cluster}/")]:
            self.report(source, ())
        self._changes.pop(cluster, None)
        if self._clusters.pop(cluster, None) is not None:
            self._anew()

    def touched(self, imported: ImportedCluster, kind: str = "", names: Iterable[ObjectName] = ()) -> None:
        """Says that objects of an imported cluster have changed, or the cluster itself; silent while nobody can see it."""
        if imported.state is ImportState.SYNCING:
            return
        cluster = next((name for name, each in self._clusters.items() if each is imported), None)
        if cluster is not None:
            self._changes.setdefault(cluster, {}).setdefault(kind, set()).update(names)
            self.changed.set()

    def is_too_many(self, kind: str, obj: KubernetesObject) -> str:
        """Why the object's namespace may not have one more of the kind, by the objects that are there at this moment; nothing if it may."""
        settings = self._reading.configuration.settings if self._reading is not None else self.settings
        return refusal(kind, obj, self._inputs(), self.config_cluster, settings)

    def report(self, source: str, issues: Iterable[Issue]) -> None:
        """Replaces the issues that a source (such as the remote secrets) has found."""
        found = tuple(issues)
        if self._issues.get(source, ()) != found:
            self._issues[source] = found
            self._anew()

    def _anew(self) -> None:
        self._is_new = True
        self.changed.set()

    def snapshot(self) -> Snapshot:
        """The newest snapshot. Clusters that never synced are left out."""
        return self.reading().snapshot

    def reading(self) -> Reading:
        """The newest snapshot, with how it was made."""
        changes, self._changes = self._changes, {}
        known, is_new = self._reading, self._is_new
        self._reading = None if known is None or is_new else self._patched(known, changes)
        self._is_new = False
        if self._reading is None:
            self._reading = read(self.settings, self._inputs(), self.config_cluster, self._cache, self._besides())
        if self._reading.host_names != self.host_names:
            self.host_names = self._reading.host_names
            self.named.set()
        return self._reading

    def _patched(self, reading: Reading, changes: Changes) -> Reading | None:
        """The reading after the changes, if they concern endpoints or rules alone."""
        if changes.keys() == {self.config_cluster} and all(map(_is_rule, changes[self.config_cluster])):
            config = self._input(self.config_cluster, self._clusters[self.config_cluster])
            return with_rules(reading, self.settings, config, self._cache, self._besides())
        return patched(reading, changes, {cluster: self._clusters[cluster].objects for cluster in changes})

    def _besides(self) -> Besides:
        return Besides(
            issues=self._all_issues(),
            keys=self._keys,
            resolved=self._resolved,
            heard=self._heard,
            bundles=self._bundles,
        )

    def _inputs(self) -> list[ClusterInput]:
        return [
            self._input(name, imported)
            for name, imported in sorted(self._clusters.items())
            if imported.state is not ImportState.SYNCING
        ]

    def _input(self, name: ClusterId, imported: ImportedCluster) -> ClusterInput:
        return ClusterInput(
            id=name,
            state=imported.state,
            stale_since=imported.stale_since,
            standing=imported.standing,
            share=self._shares.get(name, 100),
            objects=imported.objects,
        )

    def _all_issues(self) -> tuple[Issue, ...]:
        return tuple(issue for source in sorted(self._issues) for issue in self._issues[source])


def _is_rule(kind: str) -> bool:
    """Whether objects of the kind are read as configuration alone."""
    found = KINDS.get(kind)
    return found is not None and not found.from_every_cluster
