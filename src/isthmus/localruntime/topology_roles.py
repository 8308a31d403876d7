"""Who controls whom in a topology: what was written, as values, and what cannot be meant.

A cluster is a *primary* if its own control plane is among those that it uses, *outside* if others call it external, else a *remote*.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

OWN, REMOTE_OF, EXTERNAL, NAMED = "primary", "remoteOf", "external", ""
"""How a control plane is written. `NAMED`: a list's entry that is a cluster's id alone."""

CONTROL_PLANES_MAX = 40
"""Revisions and tags of a cluster: for so many there are addresses on the transit network."""

Mistake = tuple[tuple[str, ...], str, str]
"""Where, what is wrong, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A sample; an empty version is chosen by the cluster's place."""

    sample: str
    version: str = ""


@dataclass(frozen=True, slots=True)
class Source:
    """One control plane that a cluster's proxies use: the cluster that it runs in, and how that was written."""

    kind: str
    cluster: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """As written, with its defaults. `discovers` is None for all others; `sources` are in order of preference."""

    id: str
    mesh: str
    network: str
    region: str
    zones: tuple[str, ...]
    sources: tuple[Source, ...]
    discovers: tuple[str, ...] | None
    host_port: int
    workloads: tuple[Workload, ...]
    manifests: tuple[Path, ...]
    gateways: int = 1
    revisions: tuple[str, ...] = ("default",)
    tags: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    tunnel: str = ""
    written: frozenset[str] = frozenset()
    """The fields that the file has for it."""

    @property
    def is_primary(self) -> bool:
        return any(source.cluster == self.id for source in self.sources)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mesh:
    """`trusts` are ids of other meshes."""

    id: str
    trust_domain: str
    trusts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A machine outside every cluster, which joins as one of a WorkloadGroup of `cluster`."""

    name: str
    cluster: str
    network: str
    namespace: str
    group: str
    workload: Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """What the user wrote, checked. `networks` maps ids to Pods' ranges."""

    name: str
    meshes: tuple[Mesh, ...]
    networks: Mapping[str, str]
    clusters: tuple[Cluster, ...]
    machines: tuple[Machine, ...] = ()

    @property
    def outside(self) -> frozenset[str]:
        """The clusters that run control planes for a mesh that they are not in."""
        return frozenset(
            source.cluster for cluster in self.clusters for source in cluster.sources if source.kind == EXTERNAL
        )

    def mesh(self, id: str) -> Mesh:  # noqa: A002 - the field's own name
        """Raises KeyError for one that is not there."""
        return {mesh.id: mesh for mesh in self.meshes}[id]

    def cluster(self, id: str) -> Cluster:  # noqa: A002 - the field's own name
        """Raises KeyError for one that is not there."""
        return {cluster.id: cluster for cluster in self.clusters}[id]

    def discovered_by(self, cluster: Cluster) -> tuple[str, ...]:
        """The clusters whose endpoints its control plane reads, but its config cluster; none if it runs no control plane."""
        if not cluster.is_primary and cluster.id not in self.outside:
            return ()
        own = self.config_cluster(cluster)
        members = [other.id for other in self.clusters if other.id not in self.outside and other.mesh == cluster.mesh]
        chosen = members if cluster.discovers is None else cluster.discovers
        return tuple(other for other in chosen if other != own)

    def config_cluster(self, cluster: Cluster) -> str:
        """Whose API server its control plane takes configuration from: its own; outside, the first that calls it external."""
        if cluster.id not in self.outside:
            return cluster.id
        return next(other.id for other in self.clusters if Source(EXTERNAL, cluster.id) in other.sources)


def sources_of(value: Any, own: str) -> tuple[Source, ...]:
    """From `controlPlane` as it was written and checked."""
    if isinstance(value, list):
        return tuple(source for entry in value for source in sources_of(entry, own))
    if isinstance(value, dict):
        return tuple(Source(kind, cluster) for kind, cluster in value.items())
    return (Source(OWN, own),) if value in (OWN, own) else (Source(NAMED, value),)


def mistakes(topology: Topology) -> Iterator[Mistake]:
    """What no mesh can be. Every name in it is known already."""
    clusters = {cluster.id: cluster for cluster in topology.clusters}
    yield from _meshes(topology, clusters)
    for cluster in topology.clusters:
        where = ("spec", "clusters", cluster.id)
        if cluster.id in topology.outside:
            yield from _outside(cluster, where, topology)
            continue
        if not cluster.is_primary:
            yield from _not_a_primary(cluster, where)
        for source in cluster.sources:
            yield from _source(source, cluster, clusters, topology)
        for name in sorted(topology.outside.intersection(cluster.discovers or ())):
            yield (*where, "discovers"), f"names {name}, which is outside the mesh", "leave it out"
        yield from _tags(cluster, where)
    yield from _networks(topology, clusters)
    for cluster in topology.clusters:
        if cluster.tunnel:
            yield from _tunnel(cluster, clusters, topology)
    for machine in topology.machines:
        yield from _machine(machine, clusters, topology)


def _meshes(topology: Topology, clusters: Mapping[str, Cluster]) -> Iterator[Mistake]:
    """Each has its own trust domain, and its clusters have nothing to do with other meshes' ones but what MeshPeers say."""
    domains: dict[str, str] = {}
    for mesh in topology.meshes:
        where = ("spec", "meshes", mesh.id)
        if (other := domains.setdefault(mesh.trust_domain, mesh.id)) != mesh.id:
            yield (*where, "trustDomain"), f"{mesh.trust_domain} is mesh {other}'s, too", "give each mesh its own"
        if mesh.id in mesh.trusts:
            yield (*where, "trusts"), "names the mesh itself", "leave it out"
        if topology.clusters and not any(cluster.mesh == mesh.id for cluster in topology.clusters):
            yield where, "has no cluster", f"write `mesh: {mesh.id}` at one, or take the mesh out"
    for cluster in topology.clusters:
        for written, names in (
            ("controlPlane", [source.cluster for source in cluster.sources]),
            ("discovers", list(cluster.discovers or ())),
        ):
            for name in names:
                if clusters[name].mesh != cluster.mesh:
                    what = f"names {name}, which is in mesh {clusters[name].mesh}"
                    yield ("spec", "clusters", cluster.id, written), what, f"name a cluster of mesh {cluster.mesh}"


def _outside(cluster: Cluster, where: tuple[str, ...], topology: Topology) -> Iterator[Mistake]:
    users = [c.id for c in topology.clusters if Source(EXTERNAL, cluster.id) in c.sources]
    circle = [user for user in users for source in cluster.sources if source == Source(EXTERNAL, user)]
    if circle:
        what = f"goes in a circle: {cluster.id} → {circle[0]} → {cluster.id}"
        yield (*where, "controlPlane"), what, "leave it out at the one that is outside the mesh"
        return
    for name in ("controlPlane", "workloads", "gateways", "revisions", "tags"):
        if name in cluster.written:
            what = f"cannot be had by a cluster outside the mesh, which {cluster.id} is as the external one of {', '.join(users)}"
            yield (*where, name), what, "leave it out, or write {remoteOf: …} there"


def _not_a_primary(cluster: Cluster, where: tuple[str, ...]) -> Iterator[Mistake]:
    for name in ("discovers", "revisions", "tags", "env"):
        if name in cluster.written:
            used = cluster.sources[0].cluster
            yield (*where, name), "is for clusters that run a control plane", f"write it at {used}, whose it uses"


def _source(source: Source, cluster: Cluster, clusters: Mapping[str, Cluster], topology: Topology) -> Iterator[Mistake]:
    where = ("spec", "clusters", cluster.id, "controlPlane")
    used = clusters[source.cluster]
    if used.mesh != cluster.mesh:
        return
    if source.kind == EXTERNAL:
        if source.cluster == cluster.id:
            yield where, "calls the cluster itself external", "write primary, or name another cluster"
        return
    if source.cluster == cluster.id:
        if source.kind == REMOTE_OF:
            yield where, "makes the cluster its own remote", "write primary"
        return
    if used.id in topology.outside:
        yield where, f"names {used.id}, which is outside the mesh", f"write {{external: {used.id}}}"
        return
    if not used.is_primary:
        yield where, *_no_primary(cluster, used, clusters)
        return
    if cluster.id not in topology.discovered_by(used):
        what = f"leaves out {cluster.id}, whose proxies use this control plane: it could not tell who they are"
        yield ("spec", "clusters", used.id, "discovers"), what, f"add {cluster.id}"
    if used.network != cluster.network and used.gateways == 0:
        what = f"is 0, but proxies of {cluster.id} reach this control plane from another network"
        yield ("spec", "clusters", used.id, "gateways"), what, "write 1 or more"


def _no_primary(cluster: Cluster, used: Cluster, clusters: Mapping[str, Cluster]) -> tuple[str, str]:
    way = [cluster.id]
    while used.id not in way and not used.is_primary:
        way.append(used.id)
        used = clusters[used.sources[0].cluster]
    if used.id in way:
        return f"goes in a circle: {' → '.join([*way, used.id])}", "let one of them be primary"
    return (
        f"names {way[1]}, which runs no control plane: it is a remote",
        f"write {{remoteOf: {used.id}}}, or let {way[1]} be primary",
    )


def _tags(cluster: Cluster, where: tuple[str, ...]) -> Iterator[Mistake]:
    count = len(cluster.revisions) + len(cluster.tags)
    if count > CONTROL_PLANES_MAX:
        what = f"there are {count} revisions and tags in all"
        yield (*where, "tags" if cluster.tags else "revisions"), what, f"there are addresses for {CONTROL_PLANES_MAX}"
    for tag, revision in cluster.tags.items():
        if tag in cluster.revisions:
            yield (*where, "tags", tag), "is a revision's name, too", "give the tag another name"
        if revision not in cluster.revisions:
            yield (*where, "tags", tag), f"{revision!r} is not a revision", f"there is: {', '.join(cluster.revisions)}"


def _networks(topology: Topology, clusters: Mapping[str, Cluster]) -> Iterator[Mistake]:
    """Whoever is discovered from another network has to have a gateway there."""
    with_gateway = {c.network for c in topology.clusters if c.gateways and c.id not in topology.outside}
    seen: dict[str, list[str]] = {}
    for reader in topology.clusters:
        readers = [c.network for c in topology.clusters if reader.id in _ids(c.sources)]
        for name in topology.discovered_by(reader):
            away = [network for network in readers if network != clusters[name].network]
            if away and clusters[name].network not in with_gateway:
                seen.setdefault(clusters[name].network, []).append(reader.id)
    for network, by in sorted(seen.items()):
        what = f"has no network gateway, but its workloads are discovered from other networks, by {', '.join(sorted(set(by)))}"
        yield ("spec", "networks", network), what, "let one of its clusters have `gateways: 1`"


def _tunnel(cluster: Cluster, clusters: Mapping[str, Cluster], topology: Topology) -> Iterator[Mistake]:
    """Its inside dials the other cluster; what comes in there is led to its network gateway."""
    where = ("spec", "clusters", cluster.id)
    outside = clusters[cluster.tunnel]
    if outside is cluster:
        yield (*where, "tunnel"), "names the cluster itself", "name one that can be reached, on another network"
        return
    if outside.id in topology.outside or outside.mesh != cluster.mesh:
        yield (*where, "tunnel"), f"names {outside.id}, which is outside the mesh", "name a cluster of the mesh"
    if outside.network == cluster.network:
        yield (
            (*where, "tunnel"),
            f"names {outside.id}, which is on the same network",
            "leave it out: nothing is in between",
        )
    if outside.tunnel:
        yield (*where, "tunnel"), f"names {outside.id}, which nothing can reach either", "name one that can be reached"
    if cluster.gateways == 0:
        yield (*where, "gateways"), "is 0, but the tunnel leads to the network gateway", "write 1 or more"
    if not cluster.is_primary:
        yield (
            (*where, "controlPlane"),
            "is another cluster's, with a tunnel",
            "let it be primary: it dials out for nothing else",
        )
    for other in topology.clusters:
        if other.id != cluster.id and other.network == cluster.network:
            what = f"is {other.id}'s, too, and nothing can reach it"
            yield (*where, "network"), what, "give the cluster with the tunnel a network of its own"
        if other.id != cluster.id and any(source.cluster == cluster.id for source in other.sources):
            what = f"names {cluster.id}, whose control plane nothing can reach"
            yield ("spec", "clusters", other.id, "controlPlane"), what, "name another one"


def _machine(machine: Machine, clusters: Mapping[str, Cluster], topology: Topology) -> Iterator[Mistake]:
    """It reaches control planes as any stranger does: at gateways, or at the load balancer of one outside the mesh."""
    where = ("spec", "machines", machine.name)
    if machine.cluster in topology.outside:
        yield (*where, "cluster"), f"is {machine.cluster}, which is outside the mesh", "name a cluster of the mesh"
        return
    for source in clusters[machine.cluster].sources:
        used = clusters[source.cluster]
        if used.id not in topology.outside and used.gateways == 0:
            what = f"is 0, but the machine {machine.name} reaches this control plane at the network gateway"
            yield ("spec", "clusters", used.id, "gateways"), what, "write 1 or more"


def _ids(sources: Sequence[Source]) -> Iterable[str]:
    return [source.cluster for source in sources]
