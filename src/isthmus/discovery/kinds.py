"""Kinds of endpoints: most of a service's endpoints differ in their addresses alone, so where requests may go is decided once for all of a kind."""

from __future__ import annotations

from typing import NamedTuple

from isthmus.discovery.families import NONE, family_of
from isthmus.model.names import ClusterId, MeshId, Namespace, NetworkId
from isthmus.model.topology import Locality
from isthmus.model.workloads import Endpoint, Health

HOSTNAME = "kubernetes.io/hostname"


class Kind(NamedTuple):
    """All of an endpoint that anything is decided by. `ip` is there only where it is no IP address; `node` where it was asked for."""

    cluster: ClusterId
    network: NetworkId
    mesh: MeshId
    namespace: Namespace
    labels: tuple[tuple[str, str], ...]
    locality: Locality
    node: str
    meshed: bool
    ports: tuple[tuple[str, int], ...]
    health: Health
    own_cluster_only: bool
    family: int
    ip: str

    def port_named(self, name: str) -> int | None:
        """The number that the service's port of this name has here."""
        return next((number for known, number in self.ports if known == name), None)

    def all_labels(self) -> dict[str, str]:
        """The workload's own labels, and those that say where it is (Istio's label augmentation)."""
        where = {
            "topology.kubernetes.io/region": self.locality.region,
            "topology.kubernetes.io/zone": self.locality.zone,
            "topology.istio.io/subzone": self.locality.subzone,
            "topology.istio.io/cluster": self.cluster,
            "topology.istio.io/network": self.network,
            HOSTNAME: self.node,
        }
        return dict(self.labels) | {key: value for key, value in where.items() if value}


def kind_of(endpoint: Endpoint, *, by_node: bool) -> Kind:
    workload = endpoint.workload
    family = family_of(endpoint.ip)
    return Kind(
        workload.cluster,
        workload.network,
        workload.mesh,
        workload.namespace,
        workload.labels,
        workload.locality,
        workload.node if by_node else "",
        workload.meshed,
        endpoint.ports,
        endpoint.health,
        endpoint.own_cluster_only,
        family,
        endpoint.ip if family == NONE else "",
    )
