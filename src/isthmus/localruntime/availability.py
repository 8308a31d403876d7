"""Availability, computed: what share of a mesh keeps control, and what share of clients keeps being answered, after each single loss.

From a plan alone: who uses which control planes, what leads to them, who discovers whom. *Control* is that new configuration and certificates
still reach a proxy; requests go on without it. A lost cluster's own proxies and clients are gone with it, and are not counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from isthmus.localruntime.plan import ClusterPlan, Plan, Role
from isthmus.model.names import ClusterId


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """What is lost, and the shares (0 to 1) that are left of control and of requests."""

    kind: str
    what: str
    control: float
    requests: float


@dataclass(frozen=True, slots=True)
class _Gone:
    clusters: frozenset[ClusterId] = frozenset()
    control_planes: frozenset[ClusterId] = frozenset()
    gateways: frozenset[ClusterId] = frozenset()
    networks: frozenset[str] = frozenset()
    """Cut off from all others."""


def losses(plan: Plan) -> Iterator[Loss]:
    """Every single loss: a control plane, a cluster, a cluster's gateways, a network's links to the others."""
    for cluster in plan.clusters:
        one = frozenset({cluster.id})
        if cluster.runs_control_plane:
            yield _loss(plan, "control plane", f"control plane of {cluster.id}", _Gone(control_planes=one))
        yield _loss(plan, "cluster", f"cluster {cluster.id}", _Gone(clusters=one, control_planes=one, gateways=one))
        if cluster.gateways and cluster.role is not Role.EXTERNAL and len(plan.networks) > 1:
            yield _loss(plan, "gateways", f"gateways of {cluster.id}", _Gone(gateways=one))
    if len(plan.networks) > 1:
        for network in plan.networks:
            yield _loss(plan, "network", f"links of network {network.id}", _Gone(networks=frozenset({network.id})))


def _loss(plan: Plan, kind: str, what: str, gone: _Gone) -> Loss:
    left = [c for c in plan.clusters if c.role is not Role.EXTERNAL and c.id not in gone.clusters]
    proxies = {cluster.id: len(cluster.workloads) + cluster.gateways for cluster in left}
    clients = [c for c in left if c.workloads]
    controlled = sum(proxies[cluster.id] for cluster in left if _has_control(cluster, plan, gone))
    answered = sum(_is_answered(cluster, plan, gone) for cluster in clients)
    whole = sum(proxies.values())
    return Loss(
        kind=kind,
        what=what,
        control=controlled / whole if whole else 0.0,
        requests=answered / len(clients) if clients else 0.0,
    )


def _has_control(cluster: ClusterPlan, plan: Plan, gone: _Gone) -> bool:
    return any(_reaches_control_plane(cluster, plan.cluster(name), gone) for name in cluster.control_planes)


def _reaches_control_plane(cluster: ClusterPlan, used: ClusterPlan, gone: _Gone) -> bool:
    if used.id in gone.control_planes:
        return False
    if used.network == cluster.network:
        return True
    if {used.network, cluster.network} & gone.networks:
        return False
    return used.role is Role.EXTERNAL or used.id not in gone.gateways


def _is_answered(cluster: ClusterPlan, plan: Plan, gone: _Gone) -> bool:
    """Whether some workload of the same name is left that the cluster's clients know and reach."""
    versioned = {workload.sample for workload in cluster.workloads}
    for other in plan.clusters:
        if other.id in gone.clusters or not versioned & {workload.sample for workload in other.workloads}:
            continue
        if other.id == cluster.id or (_knows(cluster, other, plan) and _reaches(cluster, other, gone)):
            return True
    return False


def _knows(cluster: ClusterPlan, other: ClusterPlan, plan: Plan) -> bool:
    used = (plan.cluster(name) for name in cluster.control_planes)
    return any(other.id in (*each.discovers, each.config_cluster) for each in used)


def _reaches(cluster: ClusterPlan, other: ClusterPlan, gone: _Gone) -> bool:
    if cluster.network == other.network:
        return True
    cut = {cluster.network, other.network} & gone.networks
    return not cut and bool(other.gateways) and other.id not in gone.gateways
