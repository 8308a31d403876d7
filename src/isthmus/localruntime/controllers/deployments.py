"""Deployments: a ReplicaSet for each template, scaled from one to the next so that enough Pods are always ready."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence

import msgspec

from isthmus.kubernetes.resources import DEPLOYMENTS, PODS, REPLICA_SETS
from isthmus.localruntime.controllers.actions import (
    Action,
    Create,
    Delete,
    Object,
    Patch,
    State,
    conditions,
    is_going,
    name_of,
    owned_by,
    owner_reference,
)

HASH_LABEL = "pod-template-hash"
_REVISION = "deployment.kubernetes.io/revision"
_LETTERS = "bcdfghjklmnpqrstvwxz2456789"


def deployments(state: State, now: str) -> Iterator[Action]:
    """The next step of every Deployment."""
    for deployment in state[DEPLOYMENTS].values():
        if not is_going(deployment):
            yield from _deployment(deployment, state, now)


def template_hash(template: Object) -> str:
    """Ten letters that are the same for the same template, and without vowels, so that they spell nothing."""
    digest = hashlib.sha256(msgspec.json.encode(template, order="deterministic")).digest()
    return "".join(_LETTERS[byte % len(_LETTERS)] for byte in digest[:10])


def _deployment(deployment: Object, state: State, now: str) -> Iterator[Action]:
    owned = sorted(owned_by(state[REPLICA_SETS], deployment), key=_revision)
    wanted = template_hash(deployment["spec"]["template"])
    new = next((found for found in owned if found["metadata"]["labels"].get(HASH_LABEL) == wanted), None)
    old = [found for found in owned if found is not new]
    if new is None:
        if not deployment["spec"].get("paused"):
            yield Create(REPLICA_SETS, _replica_set(deployment, wanted, _revision(owned[-1]) + 1 if owned else 1))
    elif not deployment["spec"].get("paused"):
        yield from _scale(deployment, new, old, state)
        yield from _forget(deployment, old)
    if new is not None and (deployment["metadata"].get("annotations") or {}).get(_REVISION) != str(_revision(new)):
        yield Patch(DEPLOYMENTS, name_of(deployment), {"metadata": {"annotations": {_REVISION: str(_revision(new))}}})
    status = _status(deployment, new, owned, now)
    if {key: value for key, value in status.items() if value is not None} != deployment.get("status"):
        yield Patch(DEPLOYMENTS, name_of(deployment), {"status": status}, "status")


def _replica_set(deployment: Object, wanted: str, revision: int) -> Object:
    metadata, spec = deployment["metadata"], deployment["spec"]
    template = spec["template"]
    labels = {**(template["metadata"].get("labels") or {}), HASH_LABEL: wanted}
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": f"{metadata['name']}-{wanted}",
            "namespace": metadata["namespace"],
            "labels": labels,
            "annotations": {_REVISION: str(revision)},
            "ownerReferences": [owner_reference(deployment, "Deployment", "apps/v1")],
        },
        "spec": {
            "replicas": spec["replicas"] if revision == 1 else 0,
            "selector": {"matchLabels": {**spec["selector"].get("matchLabels", {}), HASH_LABEL: wanted}},
            "template": {**template, "metadata": {**template["metadata"], "labels": labels}},
        },
    }


def _scale(deployment: Object, new: Object, old: Sequence[Object], state: State) -> Iterator[Action]:
    desired = deployment["spec"]["replicas"]
    strategy = deployment["spec"].get("strategy") or {}
    if strategy.get("type") == "Recreate":
        yield from (_to(found, 0) for found in old if found["spec"]["replicas"])
        if not any(True for found in old for _ in owned_by(state[PODS], found)):
            yield from _changed(new, desired)
        return
    rolling = strategy.get("rollingUpdate") or {}
    surge = _share(rolling.get("maxSurge", "25%"), desired, up=True)
    unavailable = _share(rolling.get("maxUnavailable", "25%"), desired, up=False)
    if not surge and not unavailable:
        unavailable = 1
    total = new["spec"]["replicas"] + sum(found["spec"]["replicas"] for found in old)
    yield from _changed(new, min(desired, new["spec"]["replicas"] + max(0, desired + surge - total)))
    yield from _shrink(old, new, desired - unavailable)


def _shrink(old: Sequence[Object], new: Object, needed: int) -> Iterator[Action]:
    """Pods that are not ready go first; ready ones only while `needed` ready Pods are left.

    What has been asked for counts, too, not only what is: statuses lag behind.
    """
    wanted = new["spec"]["replicas"] + sum(found["spec"]["replicas"] for found in old)
    room = wanted - needed - max(0, new["spec"]["replicas"] - _ready(new))
    spare = _ready(new) + sum(_ready(found) for found in old) - needed
    for found in old:
        replicas = found["spec"]["replicas"]
        broken = min(max(0, room), max(0, replicas - _ready(found)))
        working = min(max(0, room - broken), max(0, spare), replicas - broken)
        room, spare = room - broken - working, spare - working
        yield from _changed(found, replicas - broken - working)


def _forget(deployment: Object, old: Sequence[Object]) -> Iterator[Action]:
    """ReplicaSets of long ago that nobody rolls back to any more."""
    empty = [found for found in old if not found["spec"]["replicas"] and not found.get("status", {}).get("replicas")]
    limit = deployment["spec"].get("revisionHistoryLimit", 10)
    yield from (Delete(REPLICA_SETS, name_of(found)) for found in empty[: max(0, len(empty) - limit)])


def _changed(replica_set: Object, replicas: int) -> Iterator[Action]:
    if replica_set["spec"]["replicas"] != replicas:
        yield _to(replica_set, replicas)


def _to(replica_set: Object, replicas: int) -> Patch:
    return Patch(REPLICA_SETS, name_of(replica_set), {"spec": {"replicas": replicas}})


def _status(deployment: Object, new: Object | None, owned: Sequence[Object], now: str) -> Object:
    """For a merge patch: a count of none is taken out, as Kubernetes leaves it out."""
    desired = deployment["spec"]["replicas"]
    replicas = sum(found.get("status", {}).get("replicas", 0) for found in owned)
    ready = sum(_ready(found) for found in owned)
    updated = new.get("status", {}).get("replicas", 0) if new else 0
    enough = ready >= desired
    done = updated == desired and ready == desired and replicas == desired
    counts = {
        "replicas": replicas,
        "updatedReplicas": updated,
        "readyReplicas": ready,
        "availableReplicas": ready,
        "unavailableReplicas": max(0, desired - ready),
    }
    told = {
        "Available": (
            enough,
            "MinimumReplicasAvailable" if enough else "MinimumReplicasUnavailable",
            f"{ready} of {desired} replicas are available.",
        ),
        "Progressing": (
            True,
            "NewReplicaSetAvailable" if done else "ReplicaSetUpdated",
            "The newest ReplicaSet has all replicas." if done else "Replicas are being changed.",
        ),
    }
    return {
        "observedGeneration": deployment["metadata"].get("generation", 1),
        **{key: count or None for key, count in counts.items()},
        "conditions": conditions(deployment, told, now),
    }


def _ready(replica_set: Object) -> int:
    return int(replica_set.get("status", {}).get("readyReplicas", 0))


def _revision(replica_set: Object) -> int:
    return int((replica_set["metadata"].get("annotations") or {}).get(_REVISION, "0"))


def _share(value: object, desired: int, *, up: bool) -> int:
    """A number, or a percentage of the replicas that are wanted."""
    if isinstance(value, str) and value.endswith("%"):
        exact = desired * int(value[:-1]) / 100
        return math.ceil(exact) if up else math.floor(exact)
    return int(str(value))
