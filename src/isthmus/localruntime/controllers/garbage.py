"""Garbage collection: what belonged to an object that is gone goes, too."""

from __future__ import annotations

from collections.abc import Iterator

from isthmus.kubernetes.resources import (
    DEPLOYMENTS,
    ENDPOINT_SLICES,
    GATEWAYS,
    PODS,
    REPLICA_SETS,
    SERVICE_ACCOUNTS,
    SERVICES,
    ResourcePath,
)
from isthmus.localruntime.controllers.actions import Action, Delete, State, is_going

_OWNERS: dict[ResourcePath, tuple[str, ResourcePath]] = {
    SERVICE_ACCOUNTS: ("Gateway", GATEWAYS),
    SERVICES: ("Gateway", GATEWAYS),
    DEPLOYMENTS: ("Gateway", GATEWAYS),
    REPLICA_SETS: ("Deployment", DEPLOYMENTS),
    PODS: ("ReplicaSet", REPLICA_SETS),
    ENDPOINT_SLICES: ("Service", SERVICES),
}


def garbage(state: State, now: str) -> Iterator[Action]:
    """Only for owners of the kinds that controllers here make; others' owners are others' business."""
    del now
    for resource, (kind, owners) in _OWNERS.items():
        alive = {owner["metadata"]["uid"] for owner in state[owners].values()}
        for name, obj in state[resource].items():
            references = obj["metadata"].get("ownerReferences") or ()
            lost = [ref for ref in references if ref["kind"] == kind and ref["uid"] not in alive]
            if lost and len(lost) == len(references) and not is_going(obj):
                yield Delete(resource, name)
