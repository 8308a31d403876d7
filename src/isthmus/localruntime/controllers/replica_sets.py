"""ReplicaSets: as many Pods as asked for."""

from __future__ import annotations

from collections.abc import Iterator

from isthmus.kubernetes.resources import PODS, REPLICA_SETS
from isthmus.localruntime.controllers.actions import (
    Action,
    Create,
    Delete,
    Object,
    Patch,
    State,
    is_going,
    is_ready,
    name_of,
    owned_by,
    owner_reference,
)


def replica_sets(state: State, now: str) -> Iterator[Action]:
    """Pods to create and to delete, and every ReplicaSet's status."""
    del now
    for replica_set in state[REPLICA_SETS].values():
        pods = [pod for pod in owned_by(state[PODS], replica_set) if not is_going(pod) and not _has_ended(pod)]
        if not is_going(replica_set):
            yield from _scale(replica_set, pods)
            yield from _status(replica_set, pods)


def _scale(replica_set: Object, pods: list[Object]) -> Iterator[Action]:
    desired = replica_set["spec"].get("replicas", 1)
    for _ in range(desired - len(pods)):
        yield Create(PODS, _pod(replica_set))
    for pod in sorted(pods, key=_worth)[: max(0, len(pods) - desired)]:
        yield Delete(PODS, name_of(pod))


def _pod(replica_set: Object) -> Object:
    metadata, template = replica_set["metadata"], replica_set["spec"]["template"]
    of_template = template.get("metadata") or {}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": f"{metadata['name']}-",
            "namespace": metadata["namespace"],
            "labels": dict(of_template.get("labels") or {}),
            "annotations": dict(of_template.get("annotations") or {}),
            "ownerReferences": [owner_reference(replica_set, "ReplicaSet", "apps/v1")],
        },
        "spec": template["spec"],
    }


def _status(replica_set: Object, pods: list[Object]) -> Iterator[Action]:
    ready = sum(is_ready(pod) for pod in pods)
    status = {
        "replicas": len(pods),
        "fullyLabeledReplicas": len(pods),
        "readyReplicas": ready,
        "availableReplicas": ready,
        "observedGeneration": replica_set["metadata"].get("generation", 1),
    }
    if status != replica_set.get("status"):
        yield Patch(REPLICA_SETS, name_of(replica_set), {"status": status}, "status")


def _worth(pod: Object) -> tuple[bool, bool, str, str]:
    """What is missed least comes first: not placed, not ready, then the youngest."""
    metadata = pod["metadata"]
    age = "".join(chr(0x10FFFF - ord(letter)) for letter in metadata["creationTimestamp"])
    return (bool(pod["spec"].get("nodeName")), is_ready(pod), age, metadata["name"])


def _has_ended(pod: Object) -> bool:
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed")
