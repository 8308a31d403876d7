"""Which cluster is it really? Asked once of a remote API server that has been connected.

The id in a remote secret is the word of whoever wrote the secret. The cluster itself says its id where its proxies and its control plane are
told theirs: in the environment of the Pods in its system namespace, or in a label on that namespace. A uid of kube-system tells two ids for
one cluster apart from two clusters.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from isthmus.kubernetes.client import ApiClient
from isthmus.kubernetes.errors import ApiError
from isthmus.kubernetes.resources import NAMESPACES, PODS
from isthmus.model.names import ClusterId

CLUSTER_LABEL = "topology.istio.io/cluster"
_VARIABLES = ("CLUSTER_ID", "ISTIO_META_CLUSTER_ID")
"""What a control plane is told, and what a proxy is told."""
_PODS_MAX = "50"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterIdentity:
    """`uid` is that of kube-system, `names` the ids that the cluster gives itself; empty where it does not say, or may not be asked."""

    uid: str = ""
    names: frozenset[ClusterId] = frozenset()


async def identity_of(client: ApiClient, system_namespace: str) -> ClusterIdentity:
    """Raises ApiUnavailable. A question that is refused leaves its part unknown."""
    try:
        uid = str((await client.get(NAMESPACES, "kube-system")).get("metadata", {}).get("uid", ""))
    except ApiError:
        uid = ""
    try:
        system = await client.get(NAMESPACES, system_namespace)
    except ApiError:
        system = {}
    try:
        pods = (await client.list_objects(PODS, system_namespace, limit=_PODS_MAX)).get("items") or []
    except ApiError:
        pods = []
    return ClusterIdentity(uid=uid, names=names_in(system, pods))


def names_in(system_namespace: dict[str, Any], pods: Iterable[dict[str, Any]]) -> frozenset[ClusterId]:
    """The ids that a cluster's own objects give it. The label counts alone where there is one."""
    labelled = ((system_namespace.get("metadata") or {}).get("labels") or {}).get(CLUSTER_LABEL, "")
    if labelled:
        return frozenset({ClusterId(str(labelled))})
    return frozenset(
        ClusterId(str(variable["value"]))
        for pod in pods
        for container in (pod.get("spec") or {}).get("containers") or ()
        for variable in container.get("env") or ()
        if variable.get("name") in _VARIABLES and variable.get("value")
    )
