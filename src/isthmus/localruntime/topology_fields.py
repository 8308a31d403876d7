"""The fields of a topology file: what `isthmus explain topology` prints, and what a file is checked against."""

from __future__ import annotations

from dataclasses import dataclass

from isthmus.localruntime.sample_manifests import NAMES as SAMPLES

API_VERSION, KIND = "isthmus.io/v1alpha1", "Topology"
DEFAULT_NETWORK, DEFAULT_POD_CIDR = "n1", "10.10.0.0/16"


@dataclass(frozen=True, slots=True)
class Field:
    """One field of the file. `*` in a path stands for any name, `[]` for a list's entry."""

    path: str
    type: str
    default: str
    meaning: str


FIELDS = (
    Field("apiVersion", "string", "required", f"{API_VERSION}"),
    Field("kind", "string", "required", f"{KIND}"),
    Field("metadata", "object", "required", "what the mesh is called"),
    Field("metadata.name", "name", "required", "the mesh's name on this machine: its state folder, `--name` of other commands"),
    Field("spec", "object", "required", "what is booted"),
    Field("spec.mesh", "name", "mesh1", "the mesh id"),
    Field("spec.trustDomain", "trust domain", "cluster.local", "the trust domain of every identity"),
    Field("spec.meshes", "object", "one, of spec.mesh", "several meshes, by id, in place of spec.mesh and spec.trustDomain"),
    Field("spec.meshes.*", "object", "", "one mesh; each has a root of its own"),
    Field("spec.meshes.*.trustDomain", "trust domain", "ID.example", "the trust domain of its identities, which no other mesh has"),
    Field("spec.meshes.*.trusts", "meshes", "[]", "meshes whose trust bundles its control planes are given"),
    Field("spec.networks", "object", f"{{{DEFAULT_NETWORK}: {{}}}}", "the networks, by id; Pods of one cannot reach Pods of another directly"),
    Field("spec.networks.*", "object", "", "one network"),
    Field("spec.networks.*.podCIDR", "CIDR", DEFAULT_POD_CIDR, "the addresses of its Pods; several networks may have the same"),
    Field("spec.clusters", "object", "required", "the clusters, by id"),
    Field("spec.clusters.*", "object", "", "one cluster"),
    Field("spec.clusters.*.mesh", "mesh", "the first mesh", "the mesh that it is in"),
    Field("spec.clusters.*.network", "network", "the first network", "the network of its Pods"),
    Field("spec.clusters.*.region", "name", "the cluster's id", "the region of its Nodes"),
    Field("spec.clusters.*.zones", "names", "[a]", "the zones in that region; one Node for each"),
    Field("spec.clusters.*.controlPlane", "control plane", "primary", "primary, {remoteOf: X}, {external: X} (X is outside the mesh), a list"),
    Field("spec.clusters.*.discovers", "clusters", "all others of its mesh", "the clusters whose Services and endpoints its control plane reads"),
    Field("spec.clusters.*.gateways", "replicas", "1", "how many network gateways it runs; 0 for none"),
    Field("spec.clusters.*.tunnel", "cluster", "", "the cluster to which it dials out, because nothing can reach its network: callers come in there"),
    Field("spec.clusters.*.revisions", "names", "[default]", "control planes of its own, chosen by the namespaces' label istio.io/rev"),
    Field("spec.clusters.*.tags", "variables", "{}", "other names of revisions, by which namespaces choose, too"),
    Field("spec.clusters.*.env", "variables", "spec.env", "environment of its control planes, over spec.env"),
    Field("spec.clusters.*.hostPort", "port", "any free port", "where its API server listens on 127.0.0.1 of the host"),
    Field("spec.clusters.*.workloads", "workloads", "spec.workloads", "samples that run in this cluster"),
    Field("spec.clusters.*.manifests", "files", "[]", "files with objects that are applied to this cluster, after spec.manifests"),
    Field("spec.machines", "object", "{}", "machines outside every cluster, by name: each joins as one of a WorkloadGroup"),
    Field("spec.machines.*", "object", "", "one machine"),
    Field("spec.machines.*.cluster", "cluster", "the first cluster", "the cluster that has its WorkloadGroup and its account"),
    Field("spec.machines.*.network", "network", "its cluster's network", "the network that it is on"),
    Field("spec.machines.*.namespace", "name", "sample", "the namespace of its WorkloadGroup"),
    Field("spec.machines.*.group", "name", "the machine's name", "the WorkloadGroup"),
    Field("spec.machines.*.workload", "workload", "samples/helloworld", "the sample that runs on it"),
    Field("spec.env", "variables", "{}", "environment of all control planes: feature switches under Istio's names"),
    Field("spec.workloads", "workloads", "[]", "samples that run in each cluster; versions count up from cluster to cluster"),
    Field("spec.workloads[].sample", "sample", "required", f"one of {', '.join(f'samples/{name}' for name in SAMPLES)}"),
    Field("spec.workloads[].version", "version", "v1 in the first cluster, v2 in the second, …", "the version that it runs as"),
    Field("spec.manifests", "files", "[]", "files with objects that are applied to each cluster; paths are relative to the topology's folder"),
)  # fmt: skip


def children(path: str) -> list[Field]:
    """The fields directly below a path."""
    prefix = f"{path}." if path else ""
    return [field for field in FIELDS if field.path.startswith(prefix) and _is_leaf(field.path[len(prefix) :])]


def _is_leaf(rest: str) -> bool:
    return bool(rest) and "." not in rest and "[" not in rest
