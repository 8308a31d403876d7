"""Pods, as far as a control plane knows them: whose certificates node agents may ask for, and whose tokens are worth something."""

from __future__ import annotations

from collections.abc import Iterator

from isthmus.api.core import Pod
from isthmus.controlplane.world import World
from isthmus.model.names import ClusterId
from isthmus.trust.authentication import ServiceAccount
from isthmus.trust.impersonation import NodePod


def may_run(world: World, cluster: ClusterId, account: ServiceAccount) -> bool:
    """Whether the Pod of a token is there; where the cluster's Pods are not known, it may be."""
    imported = world.clusters.get(cluster)
    pods = imported.objects.get("Pod", {}) if imported else {}
    name, uid = account.pod
    if not name or not pods:
        return True
    pod = pods.get((account.namespace, name))
    return isinstance(pod, Pod) and pod.metadata.uid == uid


def pods_of(world: World, cluster: ClusterId) -> Iterator[NodePod]:
    """What node agents may ask certificates for: Pods that run."""
    imported = world.clusters.get(cluster)
    for pod in (imported.objects.get("Pod", {}) if imported else {}).values():
        if isinstance(pod, Pod) and not pod.is_over:
            yield NodePod(
                namespace=pod.metadata.namespace,
                name=pod.metadata.name,
                uid=pod.metadata.uid,
                service_account=pod.spec.service_account_name or "default",
                node=pod.spec.node_name,
            )
