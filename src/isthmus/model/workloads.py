"""What answers for a service: endpoints, and what is known of the workload behind each."""

from __future__ import annotations

import re
from enum import StrEnum

from isthmus.model.identity import SpiffeId
from isthmus.model.names import ClusterId, MeshId, Namespace, NetworkId, ServiceKey
from isthmus.model.topology import Locality
from isthmus.model.values import dataclass

_OF_A_CRON_JOB = re.compile(r"(.+)-\d{8,10}")


def owner_name(kind: str, name: str, template_hash: str) -> str:
    """What people made, of which `kind` and `name` are the controller of a Pod: a ReplicaSet's Deployment, a Job's CronJob; else itself.

    `template_hash` is the Pod's label `pod-template-hash`.
    """
    if kind == "ReplicaSet" and template_hash:
        return name.removesuffix(f"-{template_hash}")
    scheduled = _OF_A_CRON_JOB.fullmatch(name) if kind == "Job" else None
    return scheduled[1] if scheduled else name


class Health(StrEnum):
    """Whether it takes requests. Ordered like all text, so that endpoints can be sorted."""

    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    TERMINATING = "terminating"


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class Workload:
    """A Pod (or a host) that takes part in the mesh or is reachable from it.

    `labels` are the Pod's, sorted by key; the topology labels are derived by `discovery`.
    `meshed`: a proxy beside it takes part in mutual TLS. `identity` is absent where no service account is known.
    """

    cluster: ClusterId
    namespace: Namespace
    name: str
    network: NetworkId
    ips: tuple[str, ...]
    labels: tuple[tuple[str, str], ...]
    locality: Locality
    node: str
    identity: SpiffeId | None
    meshed: bool
    owner: str = ""
    """What it is one of, such as a Deployment, by name; empty where it stands for itself."""
    mesh: MeshId = MeshId("")
    """The other mesh that it is in; empty for this one."""

    def __hash__(self) -> int:
        """Of what tells most of them apart: hashing every field of ten thousand took a fifth of a view's time."""
        return hash((self.cluster, self.namespace, self.name))

    def label(self, key: str) -> str:
        """The label's value, empty where it is not set."""
        return dict(self.labels).get(key, "")


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class Endpoint:
    """One address that answers for one service, in one cluster.

    The address means nothing without `workload.network`. `ports` maps the service's port names to the numbers that the
    workload listens on, sorted by name. `hostname` is the per-Pod name of a headless service, or empty.
    """

    service: ServiceKey
    ip: str
    ports: tuple[tuple[str, int], ...]
    workload: Workload
    health: Health
    weight: int = 1
    hostname: str = ""
    own_cluster_only: bool = False
    """Whether callers of its own cluster alone may use it (MCS: its cluster does not export the service)."""

    def __hash__(self) -> int:
        """Of what tells those of one service apart: they are looked up by each other, and a text's hash is known already."""
        return hash(self.ip or self.workload)

    @property
    def cluster(self) -> ClusterId:
        return self.workload.cluster

    @property
    def network(self) -> NetworkId:
        return self.workload.network

    def port_named(self, name: str) -> int | None:
        """The number that the service's port of this name has here."""
        for known, number in self.ports:
            if known == name:
                return number
        return None
