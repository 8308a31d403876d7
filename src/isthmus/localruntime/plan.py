"""Plan: every name, address and process of a mesh on this machine, decided before anything starts.

A topology goes in (what the user wrote), a Plan comes out; executing it makes no choices. Addresses:

- transit network 172.30.0.0/16: API server of the n-th cluster 172.30.0.(10+n), router of the n-th network 172.30.0.(100+n),
  LoadBalancer addresses of the n-th cluster 172.30.(n).0/24, all counted from 1: network gateway .240, control plane .241, the same for
  other meshes .242, the n-th cluster that dials out to this one .(150+n), its n-th revision or tag behind the first .(200+n), the user's
  Services from .1 on;
- pods: the network's own range, its first address is the router's; ranges of different networks may be equal;
- ClusterIPs: 10.(96+n).0.0/16 for the n-th cluster, `kubernetes` at .0.1, DNS at .0.10, `istiod` at .0.15, a network gateway without a
  LoadBalancer address at .0.20; the API server gives out those from .0.32 on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import msgspec

from isthmus.model.names import ClusterId, MeshId, NetworkId

SERVICE_RANGE = "10.96.0.0/11"
"""All ClusterIPs of all clusters."""

TRANSIT_RANGE = "172.30.0.0/16"
"""What networks reach each other by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkPlan:
    """One network: a bridge in a router namespace. `router_ip` is the pods' default gateway."""

    id: NetworkId
    namespace: str
    pod_cidr: str
    router_ip: str
    transit_ip: str
    closed: bool = False
    """Whether nothing from elsewhere can reach it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePlan:
    """A Node object; there is no machine behind it but this one."""

    name: str
    region: str
    zone: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadPlan:
    """One of the samples, in a version such as `v1`."""

    sample: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MachinePlan:
    """A machine outside every cluster, in a network namespace of its own: one of a WorkloadGroup that `cluster` has."""

    name: str
    cluster: ClusterId
    network: NetworkId
    namespace: str
    group: str
    sample: str
    version: str


class Role(StrEnum):
    """Where a cluster's control plane is: in it, in another cluster of the mesh; or it runs one for a mesh that it is not in."""

    PRIMARY = "primary"
    REMOTE = "remote"
    EXTERNAL = "external"


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshPlan:
    """`trusts` are ids of other meshes, whose bundles its control planes are given."""

    id: MeshId
    trust_domain: str
    trusts: tuple[MeshId, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterPlan:
    """One cluster, in one mesh. `control_planes` are the clusters whose control planes its proxies use, in order; itself if primary.

    `role` is primary, remote or external; an external one is outside the mesh. `config_cluster` is where its control plane takes its
    configuration from, empty if it runs none; `serves` the clusters whose proxies use it, but itself. `manifests` are the files (each may
    hold many objects) that are applied once the API server answers, in order.
    """

    id: ClusterId
    mesh: MeshPlan
    index: int
    network: NetworkId
    api_address: str
    api_port: int
    host_port: int
    service_cidr: str
    load_balancer_cidr: str
    nodes: tuple[NodePlan, ...]
    control_planes: tuple[ClusterId, ...]
    discovers: tuple[ClusterId, ...]
    manifests: tuple[Path, ...]
    role: Role
    config_cluster: str
    serves: tuple[ClusterId, ...]
    workloads: tuple[WorkloadPlan, ...] = ()
    gateways: int = 1
    revisions: tuple[str, ...] = ("default",)
    tags: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    tunnel: str = ""
    """The cluster to which it dials out, because nothing can reach its network; empty for none."""

    @property
    def runs_control_plane(self) -> bool:
        return self.role is not Role.REMOTE

    @property
    def dns_address(self) -> str:
        """The ClusterIP of its own DNS."""
        return f"{self.service_cidr.rpartition('.')[0]}.10"

    @property
    def control_plane_names(self) -> tuple[str, ...]:
        """By which its Pods may choose a control plane: revisions and tags. A remote's are those of the first that it uses."""
        return (*self.revisions, *self.tags)

    @property
    def gateway_address(self) -> str:
        """Of its network gateways, on the transit network."""
        return self._balanced(240)

    @property
    def control_plane_balanced(self) -> str:
        """Of its control plane, on the transit network, where other clusters use it without a gateway in between."""
        return self._balanced(241)

    def revision_balanced(self, name: str) -> str:
        """Of one of its revisions, or tags; the first revision's is that of its control plane."""
        place = self.control_plane_names.index(name)
        return self._balanced(200 + place) if place else self.control_plane_balanced

    @property
    def peers_balanced(self) -> str:
        """Of its control plane, on the transit network, for other meshes."""
        return self._balanced(242)

    def tunnel_end(self, index: int) -> str:
        """Where callers of the cluster of that number come in, which dials out to this one."""
        return self._balanced(150 + index)

    @property
    def gateway_cluster_ip(self) -> str:
        """Of its network gateways, where they have no address but inside the cluster."""
        return f"{self.service_cidr.rpartition('.')[0]}.20"

    def _balanced(self, place: int) -> str:
        return f"{self.load_balancer_cidr.rpartition('.')[0]}.{place}"

    @property
    def api_url(self) -> str:
        """The API server's address for everything inside the runtime."""
        return f"https://{self.api_address}:{self.api_port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The whole mesh, or several. `host_port` 0 means any free port; the one taken is in the kubeconfig."""

    name: str
    meshes: tuple[MeshPlan, ...]
    networks: tuple[NetworkPlan, ...]
    clusters: tuple[ClusterPlan, ...]
    machines: tuple[MachinePlan, ...] = ()

    def cluster(self, id: ClusterId) -> ClusterPlan:  # noqa: A002 - the field's own name
        """Raises KeyError for a cluster that is not in the plan."""
        return {cluster.id: cluster for cluster in self.clusters}[id]

    def tunnel_address(self, cluster: ClusterPlan) -> str:
        """Where a cluster that nothing can reach is entered."""
        return self.cluster(ClusterId(cluster.tunnel)).tunnel_end(cluster.index)

    def network(self, id: NetworkId) -> NetworkPlan:  # noqa: A002
        """Raises KeyError for a network that is not in the plan."""
        return {network.id: network for network in self.networks}[id]


def encode_plan(plan: Plan) -> bytes:
    """As JSON, for the process that carries it out."""
    return msgspec.json.encode(plan, enc_hook=str)


def decode_plan(raw: bytes) -> Plan:
    """Raises msgspec.ValidationError for what is not a plan."""
    return msgspec.json.decode(raw, type=Plan, dec_hook=lambda kind, value: kind(value))
