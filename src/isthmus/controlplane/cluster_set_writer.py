"""Writes the cluster set's objects in the config cluster: its ServiceImports, and what its ServiceExports are told.

One control plane writes: the holder of a Lease. It creates, changes and deletes imports that bear its label, and no others. Other clusters are
written to by their own control planes, which come to the same result from the same exports.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import msgspec
import structlog

from isthmus.api.multicluster import ServiceImport, ServiceImportSpec
from isthmus.api.registry import KINDS
from isthmus.assurance.cluster_set import MANAGED_BY, MANAGER, ClusterSetPlan, WantedImport, cluster_set_plan
from isthmus.assurance.gateway_status import WantedStatus
from isthmus.controlplane.delivery import Delivery
from isthmus.controlplane.world import World
from isthmus.ingest.discovery_selectors import discovered
from isthmus.ingest.inputs import ClusterInput
from isthmus.kubernetes.client import ApiClient
from isthmus.kubernetes.errors import AlreadyExists, Conflict, KubernetesError, NotFound
from isthmus.kubernetes.kind_paths import path_of
from isthmus.model.names import ClusterId
from isthmus.model.selectors import LabelSelector
from isthmus.model.topology import ImportState

LEASE = "isthmus-cluster-set"
_IMPORTS = path_of(KINDS["ServiceImport"])
_EXPORTS = path_of(KINDS["ServiceExport"])
_READ = ("Namespace", "ServiceExport", "ServiceImport")

Object = dict[str, Any]

log = structlog.get_logger()


class ClusterSetWriter:
    """`run` while leading. `client` reaches the config cluster. `knows_all`: whether every cluster of the set has been read; until then
    imports are only added, because what seems to be exported nowhere may be exported by one that was not heard yet.
    """

    def __init__(self, client: ApiClient, world: World, delivery: Delivery, knows_all: Callable[[], bool]) -> None:
        self._client = client
        self._world = world
        self._delivery = delivery
        self._knows_all = knows_all

    async def run(self) -> None:
        """Looks at the world after each round of delivery; what could not be written is tried again."""
        await self._delivery.after_each_round(self._write)

    async def _write(self) -> bool:
        plan = self._plan()
        if plan is None:
            return True
        may_change = self._knows_all()
        done = [await self._told(each) for each in plan.statuses]
        done += [await self._imported(each) for each in plan.imports if may_change or each.found is None]
        done += [await self._removed(each) for each in plan.gone if may_change]
        return all(done)

    def _plan(self) -> ClusterSetPlan | None:
        snapshot = self._delivery.tables.snapshot
        if snapshot is None or self._world.config_cluster not in snapshot.clusters:
            return None
        clusters = [
            self._of_the_set(name, snapshot.settings.discovery)
            for name, imported in sorted(self._world.clusters.items())
            if imported.state is not ImportState.SYNCING
        ]
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return cluster_set_plan(clusters, self._world.config_cluster, snapshot.settings.cluster_set.domain, now)

    def _of_the_set(self, name: ClusterId, selectors: Sequence[LabelSelector]) -> ClusterInput:
        """Services are looked up one by one: those of unknown namespaces need not be sorted out first."""
        imported = self._world.clusters[name]
        objects = {kind: imported.objects.get(kind, {}) for kind in _READ}
        known = discovered(ClusterInput(id=name, state=imported.state, objects=objects), selectors)
        return replace(known, objects={**known.objects, "Service": imported.objects.get("Service", {})})

    async def _told(self, wanted: WantedStatus) -> bool:
        body = {"metadata": {"resourceVersion": wanted.version}, "status": wanted.status}
        patch = self._client.patch(_EXPORTS, wanted.name, body, wanted.namespace, subresource="status")
        return await _done(patch, "tell a ServiceExport what became of it", wanted.namespace, wanted.name)

    async def _imported(self, wanted: WantedImport) -> bool:
        """One step nearer: the status follows when we have heard of the spec."""
        namespace, name = wanted.namespace, wanted.name
        if wanted.found is None:
            body = {
                "apiVersion": _IMPORTS.api_version,
                "kind": "ServiceImport",
                "metadata": {"name": name, "namespace": namespace, "labels": {MANAGED_BY: MANAGER}},
                "spec": _document(wanted.spec),
            }
            return await _done(
                self._client.create(_IMPORTS, body, namespace), "create a ServiceImport", namespace, name
            )
        version = {"metadata": {"resourceVersion": wanted.found.metadata.resource_version}}
        if not wanted.has_spec:
            cleared = {"ips": None, "sessionAffinityConfig": None}
            patch = self._client.patch(_IMPORTS, name, version | {"spec": cleared | _document(wanted.spec)}, namespace)
            return await _done(patch, "change a ServiceImport", namespace, name)
        patch = self._client.patch(_IMPORTS, name, version | {"status": wanted.status}, namespace, subresource="status")
        return await _done(patch, "write a ServiceImport's status", namespace, name)

    async def _removed(self, gone: ServiceImport) -> bool:
        """The object that we have seen, not one that somebody has made in its place."""
        namespace, name = gone.metadata.namespace, gone.metadata.name
        delete = self._client.delete(_IMPORTS, name, namespace, uid=gone.metadata.uid)
        return await _done(delete, "delete a ServiceImport", namespace, name)


def _document(spec: ServiceImportSpec) -> Object:
    """As it is sent: what is empty is left out."""
    ports = [{name: value for name, value in msgspec.to_builtins(port).items() if value != ""} for port in spec.ports]
    found: Object = {"type": spec.type, "ports": ports, "sessionAffinity": spec.session_affinity}
    if spec.ips:
        found["ips"] = spec.ips
    if spec.session_affinity_config:
        found["sessionAffinityConfig"] = spec.session_affinity_config
    return found


async def _done(request: Coroutine[None, None, Object], what: str, namespace: str, name: str) -> bool:
    """Whether there is nothing to be tried again. Where the object is not as it was any more, we are about to hear of it."""
    try:
        await request
    except (AlreadyExists, Conflict, NotFound):
        return True
    except KubernetesError as error:
        log.warning(f"cannot {what}", namespace=namespace, name=name, error=str(error))
        return False
    return True
