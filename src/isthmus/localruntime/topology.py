"""Topology files: what a user writes to say which clusters, networks and workloads `isthmus up` boots.

`FIELDS` is the one list of what may be written: it is what `isthmus explain topology` prints, and what a file is checked against.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isthmus.localruntime.marked_yaml import BadInput, Document, FieldPath, Finding, read
from isthmus.localruntime.plan import SERVICE_RANGE, TRANSIT_RANGE
from isthmus.localruntime.sample_manifests import NAMES as SAMPLES
from isthmus.model.identity import TrustDomain

API_VERSION, KIND = "isthmus.io/v1alpha1", "Topology"
DEFAULT_NETWORK, DEFAULT_POD_CIDR = "n1", "10.10.0.0/16"
CLUSTERS_MAX, NETWORKS_MAX = 30, 100
_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_VERSION = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_NAME_MAX = 40


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
    Field("spec.networks", "object", f"{{{DEFAULT_NETWORK}: {{}}}}", "the networks, by id; Pods of one cannot reach Pods of another directly"),
    Field("spec.networks.*", "object", "", "one network"),
    Field("spec.networks.*.podCIDR", "CIDR", DEFAULT_POD_CIDR, "the addresses of its Pods; several networks may have the same"),
    Field("spec.clusters", "object", "required", "the clusters, by id"),
    Field("spec.clusters.*", "object", "", "one cluster"),
    Field("spec.clusters.*.network", "network", "the first network", "the network of its Pods"),
    Field("spec.clusters.*.region", "name", "the cluster's id", "the region of its Nodes"),
    Field("spec.clusters.*.zones", "names", "[a]", "the zones in that region; one Node for each"),
    Field("spec.clusters.*.controlPlane", "primary", "primary", "`primary`: it runs a control plane of its own"),
    Field("spec.clusters.*.discovers", "clusters", "all others", "the clusters whose Services and endpoints its control plane reads"),
    Field("spec.clusters.*.hostPort", "port", "any free port", "where its API server listens on 127.0.0.1 of the host"),
    Field("spec.clusters.*.workloads", "workloads", "spec.workloads", "samples that run in this cluster"),
    Field("spec.clusters.*.manifests", "files", "[]", "files with objects that are applied to this cluster, after spec.manifests"),
    Field("spec.workloads", "workloads", "[]", "samples that run in each cluster; versions count up from cluster to cluster"),
    Field("spec.workloads[].sample", "sample", "required", f"one of {', '.join(f'samples/{name}' for name in SAMPLES)}"),
    Field("spec.workloads[].version", "version", "v1 in the first cluster, v2 in the second, …", "the version that it runs as"),
    Field("spec.manifests", "files", "[]", "files with objects that are applied to each cluster; paths are relative to the topology's folder"),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A sample; an empty version is chosen by the cluster's place."""

    sample: str
    version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """As written, with its defaults. `discovers` is None for all others."""

    id: str
    network: str
    region: str
    zones: tuple[str, ...]
    discovers: tuple[str, ...] | None
    host_port: int
    workloads: tuple[Workload, ...]
    manifests: tuple[Path, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """What the user wrote, checked. `networks` maps ids to Pods' ranges."""

    name: str
    mesh: str
    trust_domain: str
    networks: Mapping[str, str]
    clusters: tuple[Cluster, ...]


def documented_fields() -> tuple[Field, ...]:
    """All fields that a topology may have, in the order in which they are explained."""
    return FIELDS


def load(path: Path) -> Topology:
    """Raises BadInput with every mistake of the file and of the manifests that it names. Nothing has been started."""
    findings: list[Finding] = []
    documents = read(path, findings)
    if len(documents) != 1:
        if not findings:
            findings.append(
                Finding(str(path), 1, "", f"has {len(documents)} documents", "keep one Topology in the file")
            )
        raise BadInput(sorted(findings))
    reader = _Reader(path, documents[0], findings)
    reader.check_head()
    reader.check((), documents[0].value, "")
    if findings:
        raise BadInput(sorted(findings))
    topology = reader.topology()
    reader.check_whole(topology)
    if findings:
        raise BadInput(sorted(set(findings)))
    return topology


class _Reader:
    """Checks one document field by field against FIELDS, then as a whole."""

    def __init__(self, path: Path, document: Document, findings: list[Finding]) -> None:
        self._path = path
        self._document = document
        self._findings = findings
        self._types: dict[str, Callable[[FieldPath, Any], None]] = {
            "string": self._string,
            "name": self._name,
            "sample": self._sample,
            "version": self._version,
            "trust domain": self._trust_domain,
            "CIDR": self._cidr,
            "network": self._network,
            "primary": self._primary,
            "port": self._port,
            "names": self._list(self._name),
            "clusters": self._list(self._cluster),
            "files": self._list(self._file),
            "workloads": self._list(self._workload),
        }

    def check_head(self) -> None:
        value = self._document.value
        if not isinstance(value, dict):
            return
        for field, wanted in (("apiVersion", API_VERSION), ("kind", KIND)):
            if value.get(field) not in (None, wanted):
                self._wrong((field,), f"is {value[field]!r}", f"write {wanted}")

    def check(self, path: FieldPath, value: Any, documented: str) -> None:
        """An object and everything in it. `documented` is its path in FIELDS."""
        if value is None and documented.endswith("*"):
            return
        if not isinstance(value, dict):
            self._wrong(path, f"is {_kind(value)}, not an object", "write fields below it")
            return
        known = {field.path.removeprefix(documented).lstrip("."): field for field in _children(documented)}
        for key, inner in value.items():
            field = known.get("*") or known.get(str(key))
            if field is None:
                near = difflib.get_close_matches(str(key), known, n=1)
                hint = f"did you mean {near[0]}?" if near else f"it may have {', '.join(known)}"
                self._wrong((*path, str(key)), "is not a field of a topology", hint)
            elif field.type == "object":
                if field.path.endswith("*"):
                    self._name((*path, str(key)), key)
                self.check((*path, str(key)), inner, field.path)
            else:
                self._types[field.type]((*path, str(key)), inner)
        for name, field in known.items():
            if field.default == "required" and name not in value:
                self._wrong((*path, name), "is missing", field.meaning)

    def topology(self) -> Topology:
        """With the defaults. Only for a document without findings."""
        value = self._document.value
        spec = value["spec"]
        networks = {
            str(name): str((body or {}).get("podCIDR", DEFAULT_POD_CIDR))
            for name, body in (spec.get("networks") or {DEFAULT_NETWORK: None}).items()
        }
        return Topology(
            name=value["metadata"]["name"],
            mesh=spec.get("mesh", "mesh1"),
            trust_domain=spec.get("trustDomain", "cluster.local"),
            networks=networks,
            clusters=tuple(
                self._cluster_of(name, body or {}, spec, networks) for name, body in spec["clusters"].items()
            ),
        )

    def check_whole(self, topology: Topology) -> None:
        """What only shows when all fields are known."""
        clusters = ("spec", "clusters")
        if not topology.clusters:
            self._wrong(clusters, "is empty", "name at least one cluster, such as `c1: {}`")
        if len(topology.clusters) > CLUSTERS_MAX:
            self._wrong(
                clusters,
                f"has {len(topology.clusters)} clusters",
                f"the local runtime has addresses for {CLUSTERS_MAX}",
            )
        if len(topology.networks) > NETWORKS_MAX:
            self._wrong(
                ("spec", "networks"),
                f"has {len(topology.networks)} networks",
                f"there are addresses for {NETWORKS_MAX}",
            )
        ports: dict[int, str] = {}
        for cluster in topology.clusters:
            if cluster.id in (cluster.discovers or ()):
                self._wrong((*clusters, cluster.id, "discovers"), "names the cluster itself", "leave it out")
            if cluster.host_port and cluster.host_port in ports:
                taken = f"{cluster.host_port} is cluster {ports[cluster.host_port]}'s, too"
                self._wrong((*clusters, cluster.id, "hostPort"), taken, "choose another port")
            ports[cluster.host_port] = cluster.id
            for manifest in cluster.manifests:
                self._findings.extend(manifest_findings(manifest))

    def _cluster_of(
        self, name: str, body: dict[str, Any], spec: dict[str, Any], networks: Mapping[str, str]
    ) -> Cluster:
        discovers = body.get("discovers")
        base = self._path.parent
        return Cluster(
            id=name,
            network=body.get("network", next(iter(networks))),
            region=body.get("region", name),
            zones=tuple(body.get("zones") or ["a"]),
            discovers=None if discovers is None else tuple(discovers),
            host_port=body.get("hostPort", 0),
            workloads=tuple(_workload(entry) for entry in body.get("workloads", spec.get("workloads")) or ()),
            manifests=tuple(base / file for file in (*(spec.get("manifests") or ()), *(body.get("manifests") or ()))),
        )

    def _wrong(self, path: FieldPath, what: str, fix: str) -> None:
        self._findings.append(Finding(str(self._path), self._document.line(path), ".".join(path), what, fix))

    def _string(self, path: FieldPath, value: Any) -> None:
        if not isinstance(value, str):
            self._wrong(path, f"is {_kind(value)}, not a string", "put it in quotes")

    def _name(self, path: FieldPath, value: Any) -> None:
        if not isinstance(value, str) or not _NAME.fullmatch(value) or len(value) > _NAME_MAX:
            self._wrong(
                path,
                f"{value!r} is not a name",
                f"begin with a letter; lower case letters, digits and '-', at most {_NAME_MAX}",
            )

    def _version(self, path: FieldPath, value: Any) -> None:
        if not isinstance(value, str) or not _VERSION.fullmatch(value) or len(value) > _NAME_MAX:
            self._wrong(path, f"{value!r} is not a version", "write one such as v1, in lower case letters and digits")

    def _trust_domain(self, path: FieldPath, value: Any) -> None:
        try:
            TrustDomain.parse(str(value))
        except ValueError as error:
            self._wrong(path, f"{value!r} is not a trust domain: {error}", "write one such as cluster.local")

    def _cidr(self, path: FieldPath, value: Any) -> None:
        try:
            network = ipaddress.ip_network(str(value))
        except ValueError as error:
            self._wrong(path, f"is not a range: {error}", "write one such as 10.10.0.0/16")
            return
        if network.version != 4 or network.prefixlen > 28:
            self._wrong(path, f"{value} cannot hold Pods", "write an IPv4 range of /28 or larger")
        for name, taken in (("the transit network", TRANSIT_RANGE), ("Services", SERVICE_RANGE)):
            if network.version == 4 and network.overlaps(ipaddress.ip_network(taken)):
                self._wrong(
                    path, f"{value} overlaps {taken}, the range of {name}", "choose another, such as 10.10.0.0/16"
                )

    def _network(self, path: FieldPath, value: Any) -> None:
        self._one_of(path, value, self._names_of("networks") or [DEFAULT_NETWORK], "network")

    def _cluster(self, path: FieldPath, value: Any) -> None:
        self._one_of(path, value, self._names_of("clusters"), "cluster")

    def _sample(self, path: FieldPath, value: Any) -> None:
        self._one_of(path, value, [f"samples/{name}" for name in SAMPLES], "sample")

    def _primary(self, path: FieldPath, value: Any) -> None:
        if value != "primary":
            self._wrong(path, f"{value!r} cannot be booted by this version", "write primary: each cluster runs its own")

    def _port(self, path: FieldPath, value: Any) -> None:
        if not isinstance(value, int) or isinstance(value, bool) or not 1024 <= value <= 65535:
            self._wrong(path, f"{value!r} is not a port for users", "write a number from 1024 to 65535")

    def _file(self, path: FieldPath, value: Any) -> None:
        if not isinstance(value, str) or not (self._path.parent / value).is_file():
            self._wrong(path, f"{value!r} is not a file", f"paths are relative to {self._path.parent}")

    def _workload(self, path: FieldPath, value: Any) -> None:
        if isinstance(value, dict):
            self.check(path, value, "spec.workloads[]")
        else:
            self._sample(path, value)

    def _list(self, check: Callable[[FieldPath, Any], None]) -> Callable[[FieldPath, Any], None]:
        def each(path: FieldPath, value: Any) -> None:
            if not isinstance(value, list):
                self._wrong(path, f"is {_kind(value)}, not a list", "write it as [ … ]")
                return
            for index, entry in enumerate(value):
                check((*path, str(index)), entry)
                if entry in value[:index]:
                    self._wrong((*path, str(index)), f"{entry!r} is there twice", "keep one of the two")

        return each

    def _one_of(self, path: FieldPath, value: Any, known: list[str], what: str) -> None:
        if value not in known:
            near = difflib.get_close_matches(str(value), known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there is: {', '.join(known) or 'none'}"
            self._wrong(path, f"{value!r} is not a {what}", hint)

    def _names_of(self, plural: str) -> list[str]:
        spec = self._document.value.get("spec")
        found = spec.get(plural) if isinstance(spec, dict) else None
        return list(map(str, found)) if isinstance(found, dict) else []


def manifest_findings(path: Path) -> Iterator[Finding]:
    """Mistakes that would make an object of the file impossible to apply."""
    findings: list[Finding] = []
    for document in read(path, findings):
        findings.extend(_object_findings(path, document))
    yield from findings


def _object_findings(path: Path, document: Document) -> Iterator[Finding]:
    def wrong(field: FieldPath, what: str, fix: str) -> Finding:
        return Finding(str(path), document.line(field), ".".join(field), what, fix)

    value = document.value
    entries: list[tuple[FieldPath, Any]] = [((), value)]
    if isinstance(value, dict) and value.get("kind") == "List":
        items = value.get("items")
        entries = [(("items", str(index)), item) for index, item in enumerate(items if isinstance(items, list) else [])]
    for where, obj in entries:
        if not isinstance(obj, dict):
            yield wrong(where, f"is {_kind(obj)}, not an object", "write apiVersion, kind and metadata")
            continue
        for field in ("apiVersion", "kind"):
            if not isinstance(obj.get(field), str) or not obj[field]:
                yield wrong((*where, field), "is missing", "every object says its apiVersion and kind")
        metadata = obj.get("metadata")
        if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
            yield wrong((*where, "metadata", "name"), "is missing", "every object has a name, as a string")


def _workload(entry: Any) -> Workload:
    if isinstance(entry, str):
        return Workload(sample=entry.removeprefix("samples/"))
    return Workload(sample=entry["sample"].removeprefix("samples/"), version=entry.get("version", ""))


def _children(path: str) -> list[Field]:
    """The fields directly below a path."""
    prefix = f"{path}." if path else ""
    return [field for field in FIELDS if field.path.startswith(prefix) and _is_leaf(field.path[len(prefix) :])]


def _is_leaf(rest: str) -> bool:
    return bool(rest) and "." not in rest and "[" not in rest


def _kind(value: Any) -> str:
    names = {
        dict: "an object",
        list: "a list",
        str: "a string",
        bool: "true or false",
        int: "a number",
        float: "a number",
    }
    return "empty" if value is None else names.get(type(value), type(value).__name__)
