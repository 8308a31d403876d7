"""Pods and their Nodes become Workloads: network, locality, identity, and whether a proxy is beside them."""

from __future__ import annotations

from functools import lru_cache

from isthmus.api.core import Node, Pod
from isthmus.api.meta import ObjectMeta
from isthmus.incremental.while_used import while_used
from isthmus.ingest import labels
from isthmus.model.identity import SpiffeId, TrustDomain
from isthmus.model.names import ClusterId, Namespace, NetworkId
from isthmus.model.topology import ClusterNetwork, Locality
from isthmus.model.values import dataclass
from isthmus.model.workloads import Health, Workload, owner_name

_NOWHERE = Locality()
"""One value for all: what thousands of endpoints are grouped by is the same object, and compared as fast as that."""


def workload_of(
    pod: Pod, node: Node | None, *, cluster: ClusterId, network: ClusterNetwork, trust_domain: TrustDomain
) -> Workload:
    """A label on the Pod wins over the cluster's network."""
    metadata, spec, ips = pod.metadata, pod.spec, pod.ips
    namespace = Namespace(metadata.namespace)
    said = _said_by(tuple(sorted(metadata.labels.items())))
    return Workload(
        cluster=cluster,
        namespace=namespace,
        name=metadata.name,
        owner=_owner(metadata, said.template_hash),
        network=said.network or network.of(ips[0] if ips else ""),
        ips=ips,
        labels=said.labels,
        locality=said.locality or _locality_of_node(node),
        node=spec.node_name,
        identity=_identity(trust_domain, namespace, spec.service_account_name or "default"),
        meshed=said.meshed,
    )


_identity = while_used(SpiffeId.of_service_account)
"""The Pods of one service account have one, as they have it in the mesh."""


@dataclass(frozen=True, slots=True)
class _Said:
    """What a Pod's labels say; a locality of their own only where they do."""

    labels: tuple[tuple[str, str], ...]
    network: NetworkId
    locality: Locality | None
    template_hash: str
    meshed: bool


@lru_cache(maxsize=256)
def _said_by(of_pod: tuple[tuple[str, str], ...]) -> _Said:
    """Read once for the Pods that have the same, as those of one Deployment do: they come one after the other."""
    found = dict(of_pod)
    own = found.get(labels.LOCALITY) or found.get(labels.LEGACY_LOCALITY)
    return _Said(
        labels=of_pod,
        network=NetworkId(found.get(labels.NETWORK, "")),
        locality=Locality.parse(own) if own else None,
        template_hash=found.get(labels.TEMPLATE_HASH, ""),
        meshed=found.get(labels.TLS_MODE) == "istio",
    )


def _owner(metadata: ObjectMeta, template_hash: str) -> str:
    """By its controller; a Pod that names none still has its Deployment's name before the hash of the template."""
    for each in metadata.owner_references:
        if each.controller:
            return owner_name(each.kind, each.name, template_hash)
    if not template_hash:
        return ""
    deployment, is_hashed, _ = metadata.name.rpartition(f"-{template_hash}-")
    return deployment if is_hashed else ""


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
    """A label on the Pod, else the Node's labels."""
    return _said_by(tuple(sorted(pod.metadata.labels.items()))).locality or _locality_of_node(node)


def _locality_of_node(node: Node | None) -> Locality:
    """By its labels in their current, else their beta spelling."""
    if node is None:
        return _NOWHERE
    of_node = node.metadata.labels
    return Locality(
        of_node.get(labels.REGION) or of_node.get(labels.LEGACY_REGION, ""),
        of_node.get(labels.ZONE) or of_node.get(labels.LEGACY_ZONE, ""),
        of_node.get(labels.SUBZONE, ""),
    )
