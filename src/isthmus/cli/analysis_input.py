"""What `isthmus analyze` looks at: files, clusters by their contexts, or a whole state; and where each object was written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import click

from isthmus.api.manifests import Manifest
from isthmus.assurance.analysis.across.discovery import claimed_id
from isthmus.assurance.analysis.analyzing import GivenCluster, Question, item_of
from isthmus.cli.errors import BAD_INPUT, BAD_USAGE, Failed
from isthmus.cli.object_files import FileObject, objects_in, some_objects_in
from isthmus.model.issues import Issue
from isthmus.model.names import ClusterId

Object = dict[str, Any]
Key = tuple[str, str, str, str]
# What files without a cluster's name are taken for: Istio's own default id.
ONE_CLUSTER = "Kubernetes"
_CONTEXT = "context:"


@dataclass(slots=True, kw_only=True)
class Sources:
    """Objects by cluster, the config cluster first, and what is said about the mesh as a whole."""

    clusters: dict[str, list[FileObject]] = field(default_factory=dict)
    unread: dict[str, frozenset[str]] = field(default_factory=dict)
    config_cluster: str = ""
    mesh_config: Any = None
    mesh_networks: Any = None
    environment: Object = field(default_factory=dict)

    def question(self) -> Question:
        """With the time of this machine, at which certificates are looked at."""
        return Question(
            clusters=[
                GivenCluster(
                    id=name, objects=[each.value for each in objects], unread=self.unread.get(name, frozenset())
                )
                for name, objects in self.clusters.items()
            ],
            config_cluster=self.config_cluster,
            mesh_config=self.mesh_config,
            mesh_networks=self.mesh_networks,
            environment=self.environment,
            now=datetime.now(UTC),
        )


class References:
    """Where each object was written, by cluster, kind, namespace and name."""

    def __init__(self, clusters: Mapping[str, Sequence[FileObject]]) -> None:
        self._sources: dict[Key, FileObject] = {}
        for cluster, sources in clusters.items():
            for source in sources:
                self._sources.setdefault(_key(cluster, source.value), source)

    def __call__(self, issue: Issue) -> str:
        """`FILE:LINE`; nothing for what was read from an API server."""
        subject = issue.subject
        source = self._sources.get((subject.cluster, subject.kind, subject.namespace, subject.name))
        if source is None or not source.file:
            return ""
        return source.reference_of(issue.field) if issue.field else source.reference


def _key(cluster: str, value: Any) -> Key:
    metadata = value.get("metadata") if isinstance(value, dict) else None
    names = metadata if isinstance(metadata, dict) else {}
    kind = value.get("kind") if isinstance(value, dict) else ""
    name = names.get("name") or names.get("generateName") or ""
    return cluster, str(kind or ""), str(names.get("namespace") or ""), str(name)


def from_files(files: Sequence[str], recursive: bool) -> Sources:
    """Files as one cluster."""
    return Sources(clusters={ONE_CLUSTER: some_objects_in(files, recursive=recursive)}, config_cluster=ONE_CLUSTER)


def from_clusters(named: Sequence[str], kubeconfig: str) -> Sources:
    """`ID=FILE|DIR|context:CONTEXT` for each cluster; the first is the config cluster. Raises Failed."""
    sources = Sources()
    for entry in named:
        cluster, separator, place = entry.partition("=")
        if not separator or not cluster or not place:
            raise Failed(
                f"--cluster {entry}: write it as ID=FILE, ID=FOLDER or ID=context:CONTEXT", exit_code=BAD_USAGE
            )
        if place.startswith(_CONTEXT):
            add_context(sources, cluster, place.removeprefix(_CONTEXT), kubeconfig)
        else:
            sources.clusters.setdefault(cluster, []).extend(objects_in([place], recursive=True))
    sources.config_cluster = next(iter(sources.clusters))
    return sources


def from_contexts(contexts: Sequence[str], kubeconfig: str) -> Sources:
    """Live clusters; each one's id is what its control plane calls it, else the context's name."""
    sources = Sources()
    for context in (name for entry in contexts for name in entry.split(",") if name):
        add_context(sources, "", context, kubeconfig)
    sources.config_cluster = next(iter(sources.clusters))
    return sources


def add_context(sources: Sources, cluster: str, context: str, kubeconfig: str) -> None:
    """Reads one API server."""
    from isthmus.cli.contexts import chosen, over_the_network
    from isthmus.kubernetes.client import ApiClient
    from isthmus.kubernetes.object_reader import ReadObjects, read_objects

    address = chosen(kubeconfig, context).address

    async def read() -> ReadObjects:
        async with ApiClient(address, user_agent="isthmus-analyze") as client:
            return await read_objects(client)

    click.echo(f"reading {context} ...", err=True)
    read_ = over_the_network(read)
    name = cluster or _own_id(read_.objects) or context
    if name in sources.clusters:
        raise Failed(
            f"{context}: cluster {name} is looked at already; name it with --cluster ID=context:{context}",
            exit_code=BAD_USAGE,
        )
    sources.clusters[name] = [FileObject(value, "", Manifest(value, 0, "", 0)) for value in read_.objects]
    sources.unread[name] = frozenset(read_.unread)
    if read_.unread:
        click.echo(f"{context}: these kinds may not be read: {', '.join(read_.unread)}", err=True)


def _own_id(objects: Sequence[Object]) -> str:
    """What most of a cluster's proxies and control planes call it; "" where none says."""
    workloads = (item_of(value, ClusterId("")) for value in objects if value.get("kind") in ("Pod", "Deployment"))
    claims = Counter(said for said in map(claimed_id, workloads) if said)
    return claims.most_common(1)[0][0] if claims else ""


def from_scenario(file: str) -> Sources:
    """A whole mesh in one file, with the line of each object in it. Raises Failed."""
    found = objects_in([file], recursive=False)
    if len(found) != 1 or not isinstance(found[0].value, dict) or not isinstance(found[0].value.get("clusters"), list):
        raise Failed(f"{file}: is not one Scenario with clusters", exit_code=BAD_INPUT)
    [source] = found
    document: Object = source.value
    sources = Sources(
        config_cluster=str(document.get("configCluster") or ""),
        mesh_config=document.get("meshConfig"),
        mesh_networks=document.get("meshNetworks"),
        environment=document.get("env") or {},
    )
    for number, cluster in enumerate(document["clusters"]):
        objects = cluster.get("objects") if isinstance(cluster, dict) else None
        if not isinstance(cluster, dict) or not isinstance(cluster.get("id"), str) or not isinstance(objects, list):
            raise Failed(f"{file}: clusters[{number}]: has no id and list of objects", exit_code=BAD_INPUT)
        whole = source.manifest
        sources.clusters[cluster["id"]] = [
            FileObject(
                value, source.file,
                Manifest(
                    value, whole.line_of(f"clusters[{number}].objects[{index}]"), whole.document, whole.offset,
                    ("clusters", number, "objects", index),
                ),
            )
            for index, value in enumerate(objects)
        ]  # fmt: skip
    return sources


def add_files(sources: Sources, files: Sequence[str], recursive: bool) -> None:
    """Files on top of the config cluster's objects, as if they were applied to it."""
    given = objects_in(files, recursive=recursive)
    cluster = sources.config_cluster or next(iter(sources.clusters))
    replaced = {_identity(each.value) for each in given}
    kept = [each for each in sources.clusters[cluster] if _identity(each.value) not in replaced]
    sources.clusters[cluster] = [*kept, *given]


def _identity(value: Any) -> tuple[str, ...]:
    group = str(value.get("apiVersion") or "").rpartition("/")[0] if isinstance(value, dict) else ""
    return (group, *_key("", value))


def one_document(file: str, what: str) -> Any:
    """The only document of a file; None when no file is named. Raises Failed."""
    if not file:
        return None
    found = objects_in([file], recursive=False)
    if len(found) > 1:
        raise Failed(f"{file}: is not one {what}, but {len(found)} documents", exit_code=BAD_INPUT)
    return found[0].value if found else {}


def asked_by_files(params: Object) -> tuple[Question, Callable[[Issue], str]]:
    """For `isthmus batch`: {files, meshConfigFile, meshNetworksFile}."""
    files = params.get("files")
    if not isinstance(files, list) or not all(isinstance(file, str) for file in files):
        raise ValueError("files: is not a list of paths")
    sources = from_files(files, recursive=False)
    sources.mesh_config = one_document(str(params.get("meshConfigFile") or ""), "MeshConfig")
    sources.mesh_networks = one_document(str(params.get("meshNetworksFile") or ""), "MeshNetworks")
    return sources.question(), References(sources.clusters)
