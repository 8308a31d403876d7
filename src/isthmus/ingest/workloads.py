"""Pods and their Nodes become Workloads: network, locality, identity, and whether a proxy is beside them."""

from __future__ import annotations

from functools import lru_cache

from isthmus.api.core import Node, Pod
from isthmus.api.meta import ObjectMeta
from isthmus.ingest import labels
from isthmus.model.identity import SpiffeId, TrustDomain
from isthmus.model.names import ClusterId, Namespace, NetworkId
from isthmus.model.topology import ClusterNetwork, Locality
from isthmus.model.workloads import Health, Workload, owner_name

_NOWHERE = Locality()
"""One value for all: what thousands of endpoints are grouped by is the same object, and compared as fast as that."""


def workload_of(
    pod: Pod, node: Node | None, *, cluster: ClusterId, network: ClusterNetwork, trust_domain: TrustDomain
) -> Workload:
    """A label on the Pod wins over the cluster's network."""
    namespace = Namespace(pod.metadata.namespace)
    pod_labels, ips = pod.metadata.labels, pod.ips
    return Workload(
        cluster=cluster,
        namespace=namespace,
        name=pod.metadata.name,
        owner=_owner(pod.metadata),
        network=NetworkId(pod_labels.get(labels.NETWORK) or network.of(ips[0] if ips else "")),
        ips=ips,
        labels=tuple(sorted(pod_labels.items())),
        locality=locality_of(pod, node),
        node=pod.spec.node_name,
        identity=_identity(trust_domain, namespace, pod.spec.service_account_name or "default"),
        meshed=pod_labels.get(labels.TLS_MODE) == "istio",
    )


_identity = lru_cache(maxsize=4096)(SpiffeId.of_service_account)
"""The Pods of one service account have one, as they have it in the mesh."""


def _owner(metadata: ObjectMeta) -> str:
    """By its controller; a Pod that names none still has its Deployment's name before the hash of the template."""
    template_hash = metadata.labels.get(labels.TEMPLATE_HASH, "")
    for each in metadata.owner_references:
        if each.controller:
            return owner_name(each.kind, each.name, template_hash)
    deployment, is_hashed, _ = metadata.name.rpartition(f"-{template_hash}-")
    return deployment if template_hash and is_hashed else ""


def health_of(pod: Pod) -> Health | None:
    """As its EndpointSlices would have it; None for a Pod that none would have, without an address or at its end."""
    if pod.is_over or not pod.ips:
        return None
    if pod.metadata.deletion_timestamp:
        return Health.TERMINATING
    return Health.HEALTHY if pod.is_ready else Health.UNHEALTHY


def address_only(ip: str, *, cluster: ClusterId, network: ClusterNetwork, namespace: Namespace) -> Workload:
    """What is known of an endpoint that no Pod stands behind."""
    return Workload(
        cluster=cluster,
        namespace=namespace,
        name="",
        network=network.of(ip),
        ips=(ip,),
        labels=(),
        locality=Locality(),
        node="",
        identity=None,
        meshed=False,
    )


def locality_of(pod: Pod, node: Node | None) -> Locality:
    """A label on the Pod, else the Node's labels (in their current, else their beta spelling)."""
    own = pod.metadata.labels.get(labels.LOCALITY) or pod.metadata.labels.get(labels.LEGACY_LOCALITY)
    if own:
        return Locality.parse(own)
    if node is None:
        return _NOWHERE
    of_node = node.metadata.labels
    return Locality(
        of_node.get(labels.REGION) or of_node.get(labels.LEGACY_REGION, ""),
        of_node.get(labels.ZONE) or of_node.get(labels.LEGACY_ZONE, ""),
        of_node.get(labels.SUBZONE, ""),
    )
