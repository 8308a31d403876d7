"""Planning: from a topology to a plan. Every name and address is decided here, the same for the same topology."""

from __future__ import annotations

import ipaddress

from isthmus.localruntime.plan import (
    ClusterPlan,
    MachinePlan,
    MeshPlan,
    NetworkPlan,
    NodePlan,
    Plan,
    Role,
    WorkloadPlan,
)
from isthmus.localruntime.sample_manifests import is_versioned
from isthmus.localruntime.topology_roles import Cluster, Mesh, Topology
from isthmus.model.names import ClusterId, MeshId, NetworkId

API_PORT = 6443


def plan_of(topology: Topology) -> Plan:
    """Clusters and networks are numbered from 1, in the order in which they are written."""
    networks = enumerate(topology.networks.items(), start=1)
    clusters = enumerate(topology.clusters, start=1)
    return Plan(
        name=topology.name,
        meshes=tuple(_mesh(mesh) for mesh in topology.meshes),
        networks=tuple(
            _network(index, name, cidr, closed=any(each.tunnel and each.network == name for each in topology.clusters))
            for index, (name, cidr) in networks
        ),
        clusters=tuple(_cluster(index, cluster, topology) for index, cluster in clusters),
        machines=tuple(
            MachinePlan(
                name=machine.name,
                cluster=ClusterId(machine.cluster),
                network=NetworkId(machine.network),
                namespace=machine.namespace,
                group=machine.group,
                sample=machine.workload.sample,
                version=machine.workload.version or "v1",
            )
            for machine in topology.machines
        ),
    )


def _mesh(mesh: Mesh) -> MeshPlan:
    return MeshPlan(id=MeshId(mesh.id), trust_domain=mesh.trust_domain, trusts=tuple(map(MeshId, mesh.trusts)))


def _network(index: int, name: str, cidr: str, *, closed: bool) -> NetworkPlan:
    return NetworkPlan(
        id=NetworkId(name),
        namespace=f"net-{name}",
        pod_cidr=cidr,
        router_ip=str(ipaddress.ip_network(cidr)[1]),
        transit_ip=f"172.30.0.{100 + index}",
        closed=closed,
    )


def _role(cluster: Cluster, topology: Topology) -> Role:
    if cluster.id in topology.outside:
        return Role.EXTERNAL
    return Role.PRIMARY if cluster.is_primary else Role.REMOTE


def _cluster(index: int, cluster: Cluster, topology: Topology) -> ClusterPlan:
    role = _role(cluster, topology)
    uses = topology.cluster(cluster.sources[0].cluster) if role is Role.REMOTE else cluster
    return ClusterPlan(
        id=ClusterId(cluster.id),
        mesh=_mesh(topology.mesh(cluster.mesh)),
        index=index,
        network=NetworkId(cluster.network),
        api_address=f"172.30.0.{10 + index}",
        api_port=API_PORT,
        host_port=cluster.host_port,
        service_cidr=f"10.{96 + index}.0.0/16",
        load_balancer_cidr=f"172.30.{index}.0/24",
        nodes=tuple(NodePlan(name=f"{cluster.id}-{zone}", region=cluster.region, zone=zone) for zone in cluster.zones),
        control_planes=() if role is Role.EXTERNAL else tuple(ClusterId(source.cluster) for source in cluster.sources),
        discovers=tuple(map(ClusterId, topology.discovered_by(cluster))),
        role=role,
        config_cluster="" if role is Role.REMOTE else topology.config_cluster(cluster),
        serves=tuple(
            ClusterId(other.id)
            for other in topology.clusters
            if other.id != cluster.id and any(source.cluster == cluster.id for source in other.sources)
        ),
        gateways=cluster.gateways,
        revisions=uses.revisions,
        tags=dict(uses.tags),
        environment=dict(cluster.env),
        tunnel=cluster.tunnel,
        manifests=tuple(manifest.resolve() for manifest in cluster.manifests),
        workloads=tuple(
            WorkloadPlan(
                sample=workload.sample,
                version=workload.version or (f"v{index}" if is_versioned(workload.sample) else "v1"),
            )
            for workload in cluster.workloads
        ),
    )
