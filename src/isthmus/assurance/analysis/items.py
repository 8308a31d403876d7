"""Objects as analyzers see them: plain values of known types, found by kind, name, labels and host."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from datetime import datetime
from functools import cached_property
from typing import Any

from isthmus.assurance.catalogue.code import Code
from isthmus.assurance.validation import known_kinds
from isthmus.model.issues import Issue, Severity, Subject
from isthmus.model.names import ClusterId
from isthmus.model.values import dataclass

Object = dict[str, Any]
Labels = Mapping[str, str]
# Where kubectl puts an object that names no namespace.
DEFAULT_NAMESPACE = "default"
CLUSTER_SCOPED = {
    "Namespace", "Node", "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration", "CustomResourceDefinition",
    "GatewayClass", "ClusterRole", "ClusterRoleBinding",
}  # fmt: skip
SYSTEM_NAMESPACES = {"kube-system", "kube-public", "kube-node-lease", "local-path-storage"}


@dataclass(frozen=True, slots=True)
class Item:
    """One object. `written_namespace` is what it says itself; `namespace` is where it ends up."""

    cluster: ClusterId
    group: str
    kind: str
    written_namespace: str
    name: str
    value: Object = field(repr=False, hash=False, compare=False)

    @property
    def namespace(self) -> str:
        if self.kind in CLUSTER_SCOPED:
            return ""
        return self.written_namespace or DEFAULT_NAMESPACE

    @property
    def metadata(self) -> Object:
        found: Object = self.value.get("metadata") or {}
        return found

    @property
    def spec(self) -> Object:
        found = self.value.get("spec")
        return found if isinstance(found, dict) else {}

    @property
    def labels(self) -> Labels:
        found: Labels = self.metadata.get("labels") or {}
        return found

    @property
    def annotations(self) -> Labels:
        found: Labels = self.metadata.get("annotations") or {}
        return found

    @property
    def full_name(self) -> str:
        return f"{self.namespace}/{self.name}"

    def finding(self, code: Code, what: str, fix: str = "", path: str = "", severity: Severity | None = None) -> Issue:
        """What is wrong with this object."""
        return Issue(
            subject=Subject(self.cluster, self.kind, self.written_namespace, self.name),
            code=code.id,
            severity=severity or code.severity,
            what=what,
            fix=fix or code.fix,
            field=path,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterItems:
    """One cluster's objects. A cluster whose control plane is in another one is `remote`: its own configuration is not read."""

    id: ClusterId
    items: tuple[Item, ...]
    is_remote: bool = False
    unread: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What holds for all: the mesh's settings, and the moment at which certificates are looked at."""

    mesh_config: Object = field(default_factory=dict)
    mesh_networks: Object = field(default_factory=dict)
    now: datetime | None = None

    @property
    def root_namespace(self) -> str:
        return str(self.mesh_config.get("rootNamespace") or "istio-system")

    @property
    def dns_domain(self) -> str:
        return "cluster.local"


class Index:
    """One cluster's objects, beside those of the other clusters of the mesh."""

    def __init__(self, own: ClusterItems, clusters: Sequence[ClusterItems], settings: Settings) -> None:
        self.cluster = own.id
        self.is_remote = own.is_remote
        self.unread = own.unread
        self.settings = settings
        self._own = _by_kind(own.items)
        self._others = _by_kind(item for other in clusters if other is not own for item in other.items)

    def each(self, kind: str, group: str = "") -> Sequence[Item]:
        """This cluster's objects of a kind. Of two kinds with one name, Istio's is meant where no group is named."""
        return _of(self._own, kind, group)

    def anywhere(self, kind: str, group: str = "") -> Sequence[Item]:
        """Every cluster's, this one's first."""
        return [*self.each(kind, group), *_of(self._others, kind, group)]

    def get(self, kind: str, namespace: str, name: str, group: str = "") -> Item | None:
        """In this cluster."""
        return self._named.get((group or _GROUP_OF[kind], kind, namespace, name))

    @cached_property
    def _named(self) -> dict[tuple[str, str, str, str], Item]:
        return {
            (item.group, item.kind, item.namespace, item.name): item for items in self._own.values() for item in items
        }

    @cached_property
    def pods_by_namespace(self) -> Mapping[str, Sequence[Item]]:
        """Of every cluster: a namespace is the same one in all of them."""
        found: dict[str, list[Item]] = defaultdict(list)
        for pod in self.anywhere("Pod"):
            if (pod.value.get("status") or {}).get("phase") not in ("Succeeded", "Failed"):
                found[pod.namespace].append(pod)
        return found

    def pods(self, namespace: str, selector: Labels) -> list[Item]:
        """The Pods of a namespace that have these labels."""
        candidates = self.pods_by_namespace.get(namespace, ())
        for key, value in selector.items():
            with_label = self._pods_by_label.get((namespace, key, value), ())
            candidates = min(candidates, with_label, key=len)
        return [pod for pod in candidates if selects(selector, pod.labels)]

    @cached_property
    def _pods_by_label(self) -> Mapping[tuple[str, str, str], Sequence[Item]]:
        found: dict[tuple[str, str, str], list[Item]] = defaultdict(list)
        for namespace, pods in self.pods_by_namespace.items():
            for pod in pods:
                for key, value in pod.labels.items():
                    found[namespace, key, value].append(pod)
        return found

    def pods_of_every_namespace(self, selector: Labels) -> Iterator[Item]:
        for namespace in self.pods_by_namespace:
            yield from self.pods(namespace, selector)

    @cached_property
    def workload_labels(self) -> Mapping[str, Sequence[Labels]]:
        """By namespace: labels of everything that policies select, Pods and workloads outside clusters."""
        found: dict[str, list[Labels]] = defaultdict(list)
        for namespace, pods in self.pods_by_namespace.items():
            found[namespace] += [pod.labels for pod in pods]
        for entry in self.anywhere("WorkloadEntry"):
            found[entry.namespace].append({**entry.labels, **(entry.spec.get("labels") or {})})
        return found

    @cached_property
    def services_named(self) -> Mapping[tuple[str, str], Sequence[Item]]:
        """Of every cluster, by namespace and name."""
        found: dict[tuple[str, str], list[Item]] = defaultdict(list)
        for service in self.anywhere("Service"):
            found[service.namespace, service.name].append(service)
        return found

    @cached_property
    def nodes(self) -> Mapping[tuple[str, str], Item]:
        """By cluster and name."""
        return {(node.cluster, node.name): node for node in self.anywhere("Node")}

    @cached_property
    def namespaces(self) -> Mapping[str, Item]:
        """Those that are given, by name: this cluster's before others'."""
        found: dict[str, Item] = {}
        for namespace in self.anywhere("Namespace"):
            found.setdefault(namespace.name, namespace)
        return found


def _by_kind(items: Iterable[Item]) -> dict[tuple[str, str], list[Item]]:
    found: dict[tuple[str, str], list[Item]] = defaultdict(list)
    for item in items:
        found[item.group, item.kind].append(item)
    return found


# Of the kind Gateway, there are two: Istio's is meant where no group is named.
_GROUP_OF = {kind: group for group, kind in sorted(known_kinds()) if kind != "Gateway"} | {
    "Gateway": "networking.istio.io"
}


def _of(items: Mapping[tuple[str, str], Sequence[Item]], kind: str, group: str) -> Sequence[Item]:
    return items.get((group or _GROUP_OF[kind], kind), ())


def selects(selector: Labels, labels: Labels) -> bool:
    """An empty selector selects everything."""
    return all(labels.get(key) == value for key, value in selector.items())


def ports_of(service: Item) -> list[Object]:
    found: list[Object] = service.spec.get("ports") or []
    return found


def is_system(namespace: str) -> bool:
    return namespace in SYSTEM_NAMESPACES


def listed(names: Sequence[str], at_most: int = 5) -> str:
    """Some names, and how many more."""
    shown = ", ".join(names[:at_most])
    return f"{shown} and {len(names) - at_most} more" if len(names) > at_most else shown
