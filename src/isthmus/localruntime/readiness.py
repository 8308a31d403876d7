"""What a mesh that starts waits for: what was asked for runs, and meshes that trust each other have heard of each other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from isthmus.kubernetes.resources import DEPLOYMENTS, PODS, ResourcePath
from isthmus.kubernetes.watch import Name
from isthmus.localruntime.controllers.actions import Object, condition, is_ready
from isthmus.localruntime.plan import ClusterPlan, Plan

PEERS_PAGE = "debug/peerz"
"""Where a control plane shows which other meshes it knows."""


def not_ready(state: Mapping[ResourcePath, Mapping[Name, Object]]) -> Iterator[str]:
    """Deployments without their replicas, and Pods that no Deployment stands for and that are still to be run."""
    for (namespace, name), deployment in sorted(state.get(DEPLOYMENTS, {}).items()):
        if condition(deployment, "Available") != "True":
            yield f"{namespace}/{name}"
    for (namespace, name), pod in sorted(state.get(PODS, {}).items()):
        is_done = pod.get("status", {}).get("phase") in ("Succeeded", "Failed")
        if not pod["metadata"].get("ownerReferences") and not is_done and not is_ready(pod):
            yield f"{namespace}/{name}"


def may_meet(plan: Plan, cluster: ClusterPlan) -> frozenset[str]:
    """Other meshes of the plan, if each trusts the other; none where the cluster runs no control plane."""
    if not cluster.runs_control_plane:
        return frozenset()
    own = cluster.mesh
    return frozenset(other.id for other in plan.meshes if other.id in own.trusts and own.id in other.trusts)


def unheard(expected: frozenset[str], rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Of those that a MeshPeer describes, the ones that the control plane is not in touch with, as its page of peers says."""
    return sorted(str(row["mesh"]) for row in rows if row["mesh"] in expected and row["state"] != "live")
