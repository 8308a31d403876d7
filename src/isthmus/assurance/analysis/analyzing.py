"""The question itself: clusters with their objects in, findings out, sorted. The same objects give the same answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from datetime import datetime
from typing import Any

import yaml

from isthmus.assurance.analysis.across.whole_mesh import WholeMesh
from isthmus.assurance.analysis.items import ClusterItems, Index, Item, Object, Settings
from isthmus.assurance.analysis.registry import OF_ONE_CLUSTER, OF_THE_MESH
from isthmus.assurance.catalogue import objects as codes
from isthmus.assurance.catalogue import validation
from isthmus.assurance.scenario import BadScenario, scenario_of
from isthmus.assurance.validation import has_known_types, known_kinds, normalized, problems_of
from isthmus.assurance.validation.mesh_settings import problems_of_mesh_config, problems_of_mesh_networks
from isthmus.assurance.validation.problems import Problem
from isthmus.model.issues import Issue, Severity, Subject
from isthmus.model.names import ClusterId
from isthmus.model.snapshot import Snapshot
from isthmus.model.values import dataclass

_CONFIG_MAP, _MESH, _NETWORKS = "istio", "mesh", "meshNetworks"
# What a computation finds that validation has found before it, and said better.
_SAID_BY_VALIDATION = {"ISM0106", "ISM0107", "ISM0110"}
_OWN_FAILURE = "ISM0001"


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenCluster:
    """One cluster's objects, as they were written or read."""

    id: str
    objects: Sequence[Any]
    unread: frozenset[str] = frozenset()
    """Kinds of which nothing is known, because they could not be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is looked at. Without a config cluster it is the first one; `now` is the moment at which certificates are looked at."""

    clusters: Sequence[GivenCluster]
    config_cluster: str = ""
    mesh_config: Any = None
    mesh_networks: Any = None
    environment: Mapping[str, Any] = field(default_factory=dict)
    now: datetime | None = None


def analyze(question: Question) -> list[Issue]:
    """All findings, the worst first, then by object."""
    config = ClusterId(question.config_cluster or (question.clusters[0].id if question.clusters else ""))
    found: list[Issue] = []
    clusters = [_cluster(given, config, found) for given in question.clusters]
    settings = _settings(question, config, clusters, found)
    indexes = [Index(cluster, clusters, settings) for cluster in clusters]
    for index in indexes:
        for analyzer in OF_ONE_CLUSTER:
            found += _guarded(analyzer.__name__, index.cluster, lambda analyzer=analyzer, index=index: analyzer(index))
    snapshot = _computed(question, config, settings, found)
    mesh = WholeMesh(indexes, settings, config, snapshot)
    for mesh_analyzer in OF_THE_MESH if indexes else ():
        found += _guarded(mesh_analyzer.__name__, config, lambda analyzer=mesh_analyzer: analyzer(mesh))
    return sorted(set(found), key=_rank)


def _rank(issue: Issue) -> tuple[Any, ...]:
    return -issue.severity, issue.subject, issue.code, issue.field, issue.what, issue.fix


def _guarded(name: str, cluster: ClusterId, ask: Any) -> list[Issue]:
    """One analyzer that fails is our mistake; it is told, and the others are still asked."""
    try:
        return list(ask())
    except (AttributeError, TypeError, KeyError, ValueError, IndexError, RecursionError) as error:
        return [
            Issue(
                subject=Subject(cluster, "Analyzer", "", name),
                code=_OWN_FAILURE,
                severity=Severity.ERROR,
                what=f"failed: {type(error).__name__}: {error}",
                fix="report it, with the objects",
            )
        ]


def _cluster(given: GivenCluster, config: ClusterId, found: list[Issue]) -> ClusterItems:
    """Its objects. What is wrong with one by itself is told; an object with wrong types is not looked at any further."""
    items: dict[tuple[str, str, str, str], Item] = {}
    known = known_kinds()
    for value in given.objects:
        problems = problems_of(value)
        item = item_of(value, ClusterId(given.id))
        found += (_as_issue(problem, item) for problem in problems if problem.code is not validation.NOT_CHECKED)
        if (item.group, item.kind) in known and has_known_types(problems):
            key = (item.group, item.kind, item.namespace, item.name)
            if key in items and item.name:
                found.append(item.finding(codes.GIVEN_TWICE, "is given before with the same kind, namespace and name"))
            items[key] = item
    own_control_plane = any(
        item.kind in ("Deployment", "Pod") and item.labels.get("app") == "istiod" for item in items.values()
    )
    is_remote = ClusterId(given.id) != config and not own_control_plane
    return ClusterItems(id=ClusterId(given.id), items=tuple(items.values()), is_remote=is_remote, unread=given.unread)


def item_of(value: Any, cluster: ClusterId) -> Item:
    """An object as analyzers see it."""
    plain: Object = normalized(value) if isinstance(value, dict) else {}
    metadata = plain.get("metadata") if isinstance(plain.get("metadata"), dict) else {}
    assert isinstance(metadata, dict)
    group = str(plain.get("apiVersion") or "").rpartition("/")[0]
    return Item(
        cluster, group, str(plain.get("kind") or ""), str(metadata.get("namespace") or ""),
        str(metadata.get("name") or metadata.get("generateName") or ""), plain,
    )  # fmt: skip


def _as_issue(problem: Problem, item: Item) -> Issue:
    """Under Istio's codes for what Istio's catalogue has; with the check's own code in the message."""
    said = f"{problem} ({problem.code.id})"
    if problem.code.id.startswith("IST") or problem.code.severity is Severity.INFO:
        return item.finding(problem.code, str(problem), problem.fix, problem.path)
    if problem.code is validation.OUTDATED:
        return item.finding(codes.DEPRECATED, said, problem.fix, problem.path)
    code = codes.INVALID if problem.is_error else codes.INVALID_WARNING
    return item.finding(code, said, problem.fix, problem.path)


def _settings(question: Question, config: ClusterId, clusters: Sequence[ClusterItems], found: list[Issue]) -> Settings:
    """As given, else as the config cluster's ConfigMap has them. What cannot be read is told, and not used."""
    config_map = next(
        (
            item
            for cluster in clusters
            for item in cluster.items
            if cluster.id == config and item.kind == "ConfigMap" and item.name == _CONFIG_MAP
        ),
        None,
    )
    data = (config_map.value.get("data") or {}) if config_map else {}
    mesh = _document(question.mesh_config, data.get(_MESH), "MeshConfig", config, found)
    networks = _document(question.mesh_networks, data.get(_NETWORKS), "MeshNetworks", config, found)
    return Settings(mesh_config=mesh, mesh_networks=networks, now=question.now)


def _document(given: Any, text: Any, kind: str, cluster: ClusterId, found: list[Issue]) -> Object:
    subject = Subject(cluster, kind, "istio-system", kind.lower())

    def told(problem: Problem) -> Issue:
        code, what = codes.INVALID if problem.is_error else codes.INVALID_WARNING, f"{problem} ({problem.code.id})"
        if problem.code.severity is Severity.INFO:
            code, what = problem.code, str(problem)
        return Issue(
            subject=subject, code=code.id, severity=code.severity, what=what,
            fix=problem.fix, field=problem.path,
        )  # fmt: skip

    value = given
    if value is None and text:
        try:
            value = yaml.safe_load(str(text))
        except yaml.YAMLError as error:
            found.append(told(Problem(validation.MALFORMED, "$", f"is not YAML: {getattr(error, 'problem', error)}")))
    if value is None:
        return {}
    value = camel_case(value)
    problems = list(problems_of_mesh_config(value) if kind == "MeshConfig" else problems_of_mesh_networks(value))
    found += map(told, problems)
    plain = normalized(value)
    return plain if isinstance(plain, dict) and has_known_types(problems) else {}


def camel_case(value: Any) -> Any:
    """Protobuf's JSON takes field names in both spellings (`registry_service_name`); names of networks and hosts stay as they are."""
    if isinstance(value, dict):
        return {
            _camel(key) if isinstance(key, str) else key: inner if key == "proxyMetadata" else camel_case(inner)
            for key, inner in value.items()
        }
    return [camel_case(inner) for inner in value] if isinstance(value, list) else value


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    fields = {"registry_service_name", "from_registry", "from_cidr"}
    return head + "".join(part.title() for part in rest) if name in fields else name


def _computed(question: Question, config: ClusterId, settings: Settings, found: list[Issue]) -> Snapshot | None:
    """What the config cluster's control plane makes of the same objects, with what it finds."""
    state = {
        "configCluster": config,
        "clusters": [{"id": cluster.id, "objects": list(_readable(cluster.objects))} for cluster in question.clusters],
        "meshConfig": settings.mesh_config,
        "meshNetworks": settings.mesh_networks,
        "env": dict(question.environment),
    }
    try:
        snapshot = scenario_of(state).snapshot()
    except BadScenario as error:
        subject = Subject(config, "MeshConfig", settings.root_namespace, "meshconfig")
        found.append(
            Issue(
                subject=subject, code="ISM0107", severity=Severity.ERROR, what=f"cannot be used: {error}",
                fix="mend the field that is named",
            )
        )  # fmt: skip
        return None
    found += (issue for issue in snapshot.issues if issue.code not in _SAID_BY_VALIDATION)
    return snapshot


def _readable(objects: Iterable[Any]) -> Iterator[Any]:
    return (value for value in objects if isinstance(value, dict) and isinstance(value.get("metadata"), dict))


__all__ = ["GivenCluster", "Question", "analyze", "item_of"]
