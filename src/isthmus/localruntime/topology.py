"""Topology files: what a user writes to say which clusters, networks and workloads `isthmus up` boots.

What may be written is listed in `topology_fields`; who controls whom is checked in `topology_roles`.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from isthmus.localruntime.manifest_files import kind_of, manifest_findings
from isthmus.localruntime.marked_yaml import BadInput, Document, FieldPath, Finding, read
from isthmus.localruntime.plan import SERVICE_RANGE, TRANSIT_RANGE
from isthmus.localruntime.sample_manifests import NAMES as SAMPLES
from isthmus.localruntime.sample_manifests import NAMESPACE
from isthmus.localruntime.topology_fields import (
    API_VERSION,
    DEFAULT_NETWORK,
    DEFAULT_POD_CIDR,
    FIELDS,
    KIND,
    Field,
    children,
)
from isthmus.localruntime.topology_roles import (
    EXTERNAL,
    OWN,
    REMOTE_OF,
    Cluster,
    Machine,
    Mesh,
    Topology,
    Workload,
    mistakes,
    sources_of,
)
from isthmus.model.identity import TrustDomain

CLUSTERS_MAX, NETWORKS_MAX, GATEWAYS_MAX = 30, 100, 5
_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_VERSION = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_NAME_MAX = 40
_TAKEN_RANGES = (
    ("the transit network", TRANSIT_RANGE),
    ("Services", SERVICE_RANGE),
    ("this host alone", "0.0.0.0/8"),
    ("loopback", "127.0.0.0/8"),
    ("one link alone", "169.254.0.0/16"),
    ("groups, and of names without an address", "224.0.0.0/3"),
)
"""Whose addresses no Pod can have."""


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
            "control plane": self._control_plane,
            "replicas": self._replicas,
            "variables": self._variables,
            "port": self._port,
            "mesh": self._mesh,
            "meshes": self._list(self._mesh),
            "names": self._list(self._name),
            "cluster": self._cluster,
            "clusters": self._list(self._cluster),
            "files": self._list(self._file),
            "workload": self._workload,
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
            self._wrong(path, f"is {kind_of(value)}, not an object", "write fields below it")
            return
        known = {field.path.removeprefix(documented).lstrip("."): field for field in children(documented)}
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
        meshes = tuple(_mesh_of(str(name), body or {}) for name, body in (spec.get("meshes") or {}).items())
        if not meshes:
            only = Mesh(id=spec.get("mesh", "mesh1"), trust_domain=spec.get("trustDomain", "cluster.local"))
            meshes = (only,)
        found = Topology(
            name=value["metadata"]["name"],
            meshes=meshes,
            networks=networks,
            clusters=tuple(
                self._cluster_of(name, body or {}, spec, networks, meshes[0].id)
                for name, body in spec["clusters"].items()
            ),
        )
        by_id = {cluster.id: cluster for cluster in found.clusters}
        machines = tuple(_machine(name, body or {}, by_id) for name, body in (spec.get("machines") or {}).items())
        found = replace(found, machines=machines)
        # What is said for every cluster is said for those of the mesh.
        clusters = (
            cluster
            if cluster.id not in found.outside or "workloads" in cluster.written
            else replace(cluster, workloads=())
            for cluster in found.clusters
        )
        return replace(found, clusters=tuple(clusters))

    def check_whole(self, topology: Topology) -> None:
        """What only shows when all fields are known."""
        clusters = ("spec", "clusters")
        spec = self._document.value["spec"]
        for name in ("mesh", "trustDomain"):
            if name in spec and spec.get("meshes"):
                self._wrong(("spec", name), "is for a topology of one mesh", "say it in spec.meshes")
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
        for where, what, fix in mistakes(topology):
            self._wrong(where, what, fix)

    def _cluster_of(
        self, name: str, body: dict[str, Any], spec: dict[str, Any], networks: Mapping[str, str], mesh: str
    ) -> Cluster:
        discovers = body.get("discovers")
        base = self._path.parent
        return Cluster(
            id=name,
            mesh=body.get("mesh", mesh),
            network=body.get("network", next(iter(networks))),
            region=body.get("region", name),
            zones=tuple(body.get("zones") or ["a"]),
            sources=sources_of(body.get("controlPlane", OWN), name),
            discovers=None if discovers is None else tuple(discovers),
            gateways=body.get("gateways", 1),
            revisions=tuple(body.get("revisions") or ["default"]),
            tags=body.get("tags") or {},
            env={**(spec.get("env") or {}), **(body.get("env") or {})},
            tunnel=body.get("tunnel", ""),
            written=frozenset(body),
            host_port=body.get("hostPort", 0),
            workloads=tuple(_workload(entry) for entry in body.get("workloads", spec.get("workloads")) or ()),
            manifests=tuple(base / file for file in (*(spec.get("manifests") or ()), *(body.get("manifests") or ()))),
        )

    def _wrong(self, path: FieldPath, what: str, fix: str) -> None:
        self._findings.append(Finding(str(self._path), self._document.line(path), ".".join(path), what, fix))

    def _string(self, path: FieldPath, value: Any) -> None:
        if not isinstance(value, str):
            self._wrong(path, f"is {kind_of(value)}, not a string", "put it in quotes")

    def _name(self, path: FieldPath, value: Any) -> None:
        if path[-1] in ("True", "False"):
            self._wrong(path, "is not a name", "YAML reads yes, no, on and off as true or false: put it in quotes")
        elif not isinstance(value, str) or not _NAME.fullmatch(value) or len(value) > _NAME_MAX:
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
        for name, taken in _TAKEN_RANGES:
            if network.version == 4 and network.overlaps(ipaddress.ip_network(taken)):
                self._wrong(
                    path, f"{value} overlaps {taken}, the range of {name}", "choose another, such as 10.10.0.0/16"
                )

    def _network(self, path: FieldPath, value: Any) -> None:
        self._one_of(path, value, self._names_of("networks") or [DEFAULT_NETWORK], "network")

    def _mesh(self, path: FieldPath, value: Any) -> None:
        self._one_of(path, value, self._names_of("meshes"), "mesh")

    def _cluster(self, path: FieldPath, value: Any) -> None:
        self._one_of(path, value, self._names_of("clusters"), "cluster")

    def _sample(self, path: FieldPath, value: Any) -> None:
        self._one_of(path, value, [f"samples/{name}" for name in SAMPLES], "sample")

    def _control_plane(self, path: FieldPath, value: Any) -> None:
        if not isinstance(value, list):
            self._source(path, value)
            return
        if not value:
            self._wrong(path, "is empty", "name at least one, or leave it out: primary")
        for index, entry in enumerate(value):
            here = (*path, str(index))
            if isinstance(entry, str) and entry != OWN:
                self._cluster(here, entry)
            else:
                self._source(here, entry)
        own = path[2]
        if all(self._is_source(entry) for entry in value):
            used = [source.cluster for source in sources_of(value, own)]
            for index, cluster in enumerate(used):
                if cluster in used[:index]:
                    self._wrong((*path, str(index)), f"{cluster} is there twice", "keep one of the two")

    def _source(self, path: FieldPath, value: Any) -> None:
        if value == OWN:
            return
        if isinstance(value, dict) and len(value) == 1 and next(iter(value)) in (REMOTE_OF, EXTERNAL):
            kind, cluster = next(iter(value.items()))
            others = [name for name in self._names_of("clusters") if name != path[2]]
            if cluster != path[2]:
                self._one_of((*path, kind), cluster, others, "cluster", "add the one that runs it, or write primary")
            return
        self._wrong(path, f"{value!r} is not a control plane", "write primary, {remoteOf: X}, {external: X}, or a list")

    def _is_source(self, entry: Any) -> bool:
        known = self._names_of("clusters")
        if isinstance(entry, dict):
            return len(entry) == 1 and next(iter(entry.values())) in known
        return entry == OWN or entry in known

    def _replicas(self, path: FieldPath, value: Any) -> None:
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= GATEWAYS_MAX:
            self._wrong(path, f"{value!r} is not a number of gateways", f"write a number from 0 to {GATEWAYS_MAX}")

    def _variables(self, path: FieldPath, value: Any) -> None:
        if not isinstance(value, dict):
            self._wrong(path, f"is {kind_of(value)}, not an object", "write it as {NAME: value}")
            return
        for key, inner in value.items():
            if not isinstance(inner, str):
                self._wrong((*path, str(key)), f"is {kind_of(inner)}, not a string", "put it in quotes")

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
                self._wrong(path, f"is {kind_of(value)}, not a list", "write it as [ … ]")
                return
            for index, entry in enumerate(value):
                check((*path, str(index)), entry)
                if entry in value[:index]:
                    self._wrong((*path, str(index)), f"{entry!r} is there twice", "keep one of the two")

        return each

    def _one_of(self, path: FieldPath, value: Any, known: list[str], what: str, if_none: str = "there is none") -> None:
        if value not in known:
            # What is before a slash is in all of them: alike, it says nothing.
            last = {each.rpartition("/")[2]: each for each in known}
            near = difflib.get_close_matches(str(value).rpartition("/")[2], last, n=1)
            there_is = f"there is: {', '.join(known)}" if known else if_none
            hint = f"did you mean {last[near[0]]}?" if near else there_is
            self._wrong(path, f"{value!r} is not a {what}", hint)

    def _names_of(self, plural: str) -> list[str]:
        spec = self._document.value.get("spec")
        found = spec.get(plural) if isinstance(spec, dict) else None
        return list(map(str, found)) if isinstance(found, dict) else []


def _mesh_of(name: str, body: Mapping[str, Any]) -> Mesh:
    return Mesh(
        id=name,
        trust_domain=body.get("trustDomain", f"{name}.example"),
        trusts=tuple(body.get("trusts") or ()),
    )


def _machine(name: str, body: dict[str, Any], clusters: Mapping[str, Cluster]) -> Machine:
    cluster = body.get("cluster", next(iter(clusters), ""))
    return Machine(
        name=name,
        cluster=cluster,
        network=body.get("network") or (clusters[cluster].network if cluster else ""),
        namespace=body.get("namespace", NAMESPACE),
        group=body.get("group", name),
        workload=_workload(body.get("workload", "samples/helloworld")),
    )


def _workload(entry: Any) -> Workload:
    if isinstance(entry, str):
        return Workload(sample=entry.removeprefix("samples/"))
    return Workload(sample=entry["sample"].removeprefix("samples/"), version=entry.get("version", ""))
