"""What `isthmus analyze` looks at: files, clusters by their contexts, or a whole state; and where each object was written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from isthmus.assurance.analysis.analyzing import GivenCluster, Question
from isthmus.cli.errors import BAD_INPUT, Failed
from isthmus.cli.object_files import FileObject, objects_in
from isthmus.model.issues import Issue

Object = dict[str, Any]
Key = tuple[str, str, str, str]
# What files without a cluster's name are taken for: Istio's own default id.
ONE_CLUSTER = "Kubernetes"


class References:
    """Where each object was written, by cluster, kind, namespace and name."""

    def __init__(self, clusters: Mapping[str, Sequence[FileObject]]) -> None:
        self._sources: dict[Key, FileObject] = {}
        for cluster, sources in clusters.items():
            for source in sources:
                self._sources.setdefault(_key(cluster, source.value), source)

    def __call__(self, issue: Issue) -> str:
        subject = issue.subject
        source = self._sources.get((subject.cluster, subject.kind, subject.namespace, subject.name))
        if source is None:
            return ""
        path = issue.field if issue.field.startswith("$") or not issue.field else f"$.{issue.field}"
        return source.reference_of(path) if path else source.reference


def _key(cluster: str, value: Any) -> Key:
    metadata = value.get("metadata") if isinstance(value, dict) else None
    names = metadata if isinstance(metadata, dict) else {}
    kind = value.get("kind") if isinstance(value, dict) else ""
    name = names.get("name") or names.get("generateName") or ""
    return cluster, str(kind or ""), str(names.get("namespace") or ""), str(name)


def question_of(
    clusters: Mapping[str, Sequence[FileObject]], config_cluster: str, mesh_config: Any, mesh_networks: Any
) -> Question:
    """With the time of the machine, at which certificates are looked at."""
    return Question(
        clusters=[
            GivenCluster(id=name, objects=[each.value for each in objects]) for name, objects in clusters.items()
        ],
        config_cluster=config_cluster,
        mesh_config=mesh_config,
        mesh_networks=mesh_networks,
        now=datetime.now(UTC),
    )


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
    objects = {ONE_CLUSTER: objects_in(files, recursive=False)}
    question = question_of(
        objects,
        ONE_CLUSTER,
        one_document(str(params.get("meshConfigFile") or ""), "MeshConfig"),
        one_document(str(params.get("meshNetworksFile") or ""), "MeshNetworks"),
    )
    return question, References(objects)
