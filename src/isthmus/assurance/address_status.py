"""Addresses that the mesh gives to hosts of ServiceEntries, written where Istio writes them: in their status.

They follow from names, so every control plane comes to the same ones; nothing here is read back.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from isthmus.api.networking import ServiceEntry
from isthmus.assurance.gateway_status import WantedStatus
from isthmus.ingest import labels
from isthmus.ingest.inputs import Objects
from isthmus.model.names import Hostname, Namespace, ServiceKey
from isthmus.model.snapshot import Snapshot

_KIND = "ServiceEntry"


def address_statuses(snapshot: Snapshot, objects: Objects) -> Iterator[WantedStatus]:
    """Of every ServiceEntry that has such addresses, or had some: then it is told that there are none."""
    for (namespace, name), obj in sorted(objects.get(_KIND, {}).items()):
        if not isinstance(obj, ServiceEntry):
            continue
        wanted, told = list(_addresses(obj, snapshot)), obj.status.get("addresses") or []
        if wanted or told:
            yield WantedStatus(
                kind=_KIND,
                namespace=namespace,
                name=name,
                version=obj.metadata.resource_version,
                status={"addresses": wanted},
                is_there=told == wanted,
            )


def _addresses(obj: ServiceEntry, snapshot: Snapshot) -> Iterator[dict[str, Any]]:
    if obj.metadata.labels.get(labels.AUTO_ALLOCATE, "").lower() == "false":
        return
    for host in obj.spec.hosts:
        service = snapshot.services.get(ServiceKey(Namespace(obj.metadata.namespace), Hostname(host.lower())))
        if service is not None and service.registry != "Kubernetes":
            yield from ({"value": ip, "host": host} for ip in service.allocated)
