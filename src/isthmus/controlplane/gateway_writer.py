"""Writes the statuses of Gateway API's objects and the addresses of ServiceEntries, where they differ, and the GatewayClasses that people
expect to find.

One control plane writes: the holder of a Lease. Each write is made onto the version that was read, so it never undoes what another controller
has written meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import structlog

from isthmus.api.registry import KINDS
from isthmus.assurance.address_status import address_statuses
from isthmus.assurance.gateway_status import WantedStatus, gateway_statuses
from isthmus.controlplane.delivery import Delivery
from isthmus.controlplane.world import World
from isthmus.ingest.gateway_api.gateways import BUILT_IN
from isthmus.kubernetes.client import ApiClient
from isthmus.kubernetes.errors import AlreadyExists, Conflict, KubernetesError, NotFound
from isthmus.kubernetes.kind_paths import path_of, paths_of

LEASE = "istio-gateway-status-leader"
"""Istio's name: while both are installed, one of them writes."""


log = structlog.get_logger()


class GatewayWriter:
    """`run` while leading. `client` reaches the config cluster."""

    def __init__(self, client: ApiClient, world: World, delivery: Delivery) -> None:
        self._client = client
        self._world = world
        self._delivery = delivery
        self._classes_are_due = True

    async def run(self) -> None:
        """Looks at the delivery after its rounds; what could not be written is tried again."""
        await self._delivery.after_each_round(self._write)

    async def _write(self) -> bool:
        snapshot = self._delivery.tables.snapshot
        imported = self._world.clusters.get(self._world.config_cluster)
        if snapshot is None or imported is None:
            return True
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        statuses = (
            *gateway_statuses(snapshot, imported.objects, now),
            *address_statuses(snapshot, imported.objects, now),
        )
        due = [each for each in statuses if not each.is_there]
        done = [await self._written(each) for each in due]
        return all([await self._made_classes(imported.objects), *done])

    async def _made_classes(self, objects: Mapping[str, Mapping[tuple[str, str], object]]) -> bool:
        """Where nobody has made them. A cluster without the definitions is asked again when it has a Gateway."""
        if not self._classes_are_due and (objects.get("GatewayClass") or not objects.get("KubernetesGateway")):
            return True
        self._classes_are_due = False
        resource = path_of(KINDS["GatewayClass"])
        for name, controller in BUILT_IN.items():
            body = {
                "apiVersion": resource.api_version,
                "kind": "GatewayClass",
                "metadata": {"name": name},
                "spec": {"controllerName": controller},
            }
            try:
                await self._client.create(resource, body)
            except AlreadyExists:
                continue
            except NotFound:
                return True
            except KubernetesError as error:
                log.warning("cannot create a GatewayClass", name=name, error=str(error))
                self._classes_are_due = True
                return False
        return True

    async def _written(self, wanted: WantedStatus) -> bool:
        body = {"metadata": {"resourceVersion": wanted.version}, "status": wanted.status}
        try:
            for resource in paths_of(KINDS[wanted.kind]):
                try:
                    await self._client.patch(resource, wanted.name, body, wanted.namespace, subresource="status")
                except NotFound:
                    # Not in this version, or gone, of which we are about to hear.
                    continue
                break
        except Conflict:
            # It has changed meanwhile, and we are about to hear of it.
            return True
        except KubernetesError as error:
            log.warning("cannot write a status", kind=wanted.kind, name=wanted.name, error=str(error))
            return False
        return True
