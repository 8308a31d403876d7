"""The kinds that the server has: built-in ones, and those that CustomResourceDefinitions add while it runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from isthmus.apiserver.builtin_schemas import metadata_schema
from isthmus.apiserver.rules import Rules, rules_of
from isthmus.apiserver.scale_paths import WORKLOADS, ScalePaths
from isthmus.apiserver.schemas import Schema, of_custom_kind

VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind in one version. `columns` are printer columns of a custom kind: (name, type, JSON path, priority)."""

    group: str
    version: str
    name: str
    plural: str
    namespaced: bool
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: tuple[str, ...] = ()
    counts_changes: bool = False
    """`metadata.generation` tells how often what is wished was changed."""
    is_custom: bool = False
    columns: tuple[tuple[str, str, str, int], ...] = ()
    scale: ScalePaths = WORKLOADS
    schema: Schema | None = None
    """Of a custom kind; those of built-in kinds are in `builtin_schemas`."""
    rules: Rules | None = None
    """What objects of a custom kind must be besides."""
    group_version: str = field(init=False)
    storage: str = field(init=False)
    """Versions of one kind share their objects."""

    def __post_init__(self) -> None:
        """Texts that each request needs several times."""
        object.__setattr__(self, "group_version", f"{self.group}/{self.version}" if self.group else self.version)
        object.__setattr__(self, "storage", f"{self.group}/{self.plural}")

    @property
    def singular(self) -> str:
        return self.name.lower()

    @property
    def qualified(self) -> str:
        """`deployments.apps`, as messages name it."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


def _kind(group: str, version: str, name: str, plural: str, *, namespaced: bool = True, short: str = "", subresources: str = "",
          counted: bool = False, categories: str = "") -> Kind:  # fmt: skip
    return Kind(
        group=group,
        version=version,
        name=name,
        plural=plural,
        namespaced=namespaced,
        short_names=tuple(short.split()),
        categories=tuple(categories.split()),
        subresources=tuple(subresources.split()),
        counts_changes=counted,
    )


_ALL = "all"
_RBAC = "rbac.authorization.k8s.io"
_ADMISSION = "admissionregistration.k8s.io"

BUILT_IN: tuple[Kind, ...] = (
    _kind("", "v1", "ConfigMap", "configmaps", short="cm"),
    _kind("", "v1", "Endpoints", "endpoints", short="ep"),
    _kind("", "v1", "Event", "events", short="ev"),
    _kind("", "v1", "Namespace", "namespaces", namespaced=False, short="ns", subresources="status finalize"),
    _kind("", "v1", "Node", "nodes", namespaced=False, short="no", subresources="status"),
    _kind("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims", short="pvc", subresources="status"),
    _kind("", "v1", "PersistentVolume", "persistentvolumes", namespaced=False, short="pv", subresources="status"),
    _kind("", "v1", "Pod", "pods", short="po", subresources="status eviction log", counted=True, categories=_ALL),
    _kind("", "v1", "ReplicationController", "replicationcontrollers", short="rc", subresources="status scale", counted=True, categories=_ALL),
    _kind("", "v1", "ResourceQuota", "resourcequotas", short="quota", subresources="status"),
    _kind("", "v1", "Secret", "secrets"),
    _kind("", "v1", "Service", "services", short="svc", subresources="status", categories=_ALL),
    _kind("", "v1", "ServiceAccount", "serviceaccounts", short="sa", subresources="token"),
    _kind(_ADMISSION, "v1", "MutatingWebhookConfiguration", "mutatingwebhookconfigurations", namespaced=False, counted=True),
    _kind(_ADMISSION, "v1", "ValidatingWebhookConfiguration", "validatingwebhookconfigurations", namespaced=False, counted=True),
    _kind("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", namespaced=False,
          short="crd crds", subresources="status", counted=True),
    _kind("apps", "v1", "Deployment", "deployments", short="deploy", subresources="status scale", counted=True, categories=_ALL),
    _kind("apps", "v1", "ReplicaSet", "replicasets", short="rs", subresources="status scale", counted=True, categories=_ALL),
    _kind("apps", "v1", "StatefulSet", "statefulsets", short="sts", subresources="status scale", counted=True, categories=_ALL),
    _kind("apps", "v1", "DaemonSet", "daemonsets", short="ds", subresources="status", counted=True, categories=_ALL),
    _kind("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers", short="hpa", subresources="status", categories=_ALL),
    _kind("batch", "v1", "Job", "jobs", subresources="status", counted=True, categories=_ALL),
    _kind("batch", "v1", "CronJob", "cronjobs", short="cj", subresources="status", counted=True, categories=_ALL),
    _kind("certificates.k8s.io", "v1", "CertificateSigningRequest", "certificatesigningrequests", namespaced=False, short="csr",
          subresources="status approval"),
    _kind("coordination.k8s.io", "v1", "Lease", "leases"),
    _kind("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", counted=True),
    _kind("networking.k8s.io", "v1", "Ingress", "ingresses", short="ing", subresources="status", counted=True),
    _kind("networking.k8s.io", "v1", "IngressClass", "ingressclasses", namespaced=False, counted=True),
    _kind("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies", short="netpol", counted=True),
    _kind("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", short="pdb", subresources="status", counted=True),
    _kind(_RBAC, "v1", "ClusterRole", "clusterroles", namespaced=False),
    _kind(_RBAC, "v1", "ClusterRoleBinding", "clusterrolebindings", namespaced=False),
    _kind(_RBAC, "v1", "Role", "roles"),
    _kind(_RBAC, "v1", "RoleBinding", "rolebindings"),
)  # fmt: skip

VIRTUAL: tuple[Kind, ...] = (
    _kind("authentication.k8s.io", "v1", "TokenReview", "tokenreviews", namespaced=False),
    _kind("authentication.k8s.io", "v1", "SelfSubjectReview", "selfsubjectreviews", namespaced=False),
    _kind("authorization.k8s.io", "v1", "SubjectAccessReview", "subjectaccessreviews", namespaced=False),
    _kind("authorization.k8s.io", "v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews", namespaced=False),
    _kind("authorization.k8s.io", "v1", "SelfSubjectRulesReview", "selfsubjectrulesreviews", namespaced=False),
    _kind("authorization.k8s.io", "v1", "LocalSubjectAccessReview", "localsubjectaccessreviews"),
)
"""Kinds that are asked, not kept: only `create` exists."""


SCALE = _kind("autoscaling", "v1", "Scale", "scales")
"""What `scale` subresources are: no path leads to one by itself."""


class Kinds:
    """Every kind that is served now. `generation` changes when the set does, for ETags."""

    def __init__(self) -> None:
        self._by_path = {(kind.group, kind.version, kind.plural): kind for kind in BUILT_IN}
        self._virtual = {(kind.group, kind.version, kind.plural): kind for kind in VIRTUAL}
        self.generation = 1

    def find(self, group: str, version: str, plural: str) -> Kind | None:
        return self._by_path.get((group, version, plural))

    def find_virtual(self, group: str, version: str, plural: str) -> Kind | None:
        return self._virtual.get((group, version, plural))

    def by_name(self, api_version: str, name: str) -> Kind | None:
        for kind in self._by_path.values():
            if kind.group_version == api_version and kind.name == name:
                return kind
        return None

    def all(self) -> Iterator[Kind]:
        yield from self._by_path.values()

    def virtual(self) -> Iterator[Kind]:
        yield from self._virtual.values()

    def define(self, crd: dict[str, Any]) -> list[Kind]:
        """Adds (or replaces) the kinds of a CustomResourceDefinition, and says which."""
        self.undefine(crd)
        kinds = list(kinds_of(crd))
        for kind in kinds:
            self._by_path[kind.group, kind.version, kind.plural] = kind
        self.generation += 1
        return kinds

    def undefine(self, crd: dict[str, Any]) -> None:
        """Removes the kinds of a CustomResourceDefinition."""
        spec = crd["spec"]
        for key in [key for key in self._by_path if key[0] == spec["group"] and key[2] == spec["names"]["plural"]]:
            del self._by_path[key]
        self.generation += 1


def kinds_of(crd: dict[str, Any]) -> Iterator[Kind]:
    """The served versions of a definition."""
    spec = crd["spec"]
    names = spec["names"]
    for version in spec.get("versions", ()):
        if not version.get("served", False):
            continue
        columns = tuple(
            (column["name"], column.get("type", "string"), column["jsonPath"], column.get("priority", 0))
            for column in version.get("additionalPrinterColumns", ())
        )
        yield Kind(
            group=spec["group"],
            version=version["name"],
            name=names["kind"],
            plural=names["plural"],
            namespaced=spec.get("scope") == "Namespaced",
            short_names=tuple(names.get("shortNames", ())),
            categories=tuple(names.get("categories", ())),
            subresources=tuple(sorted(version.get("subresources", {}))),
            counts_changes=True,
            is_custom=True,
            columns=columns,
            scale=_scale_paths((version.get("subresources") or {}).get("scale") or {}),
            schema=of_custom_kind(version, metadata_schema()),
            rules=rules_of(version),
        )


def _scale_paths(scale: dict[str, Any]) -> ScalePaths:
    known = WORKLOADS
    return ScalePaths(
        scale.get("specReplicasPath", known.spec),
        scale.get("statusReplicasPath", known.status),
        scale.get("labelSelectorPath", ".status.selector"),
    )
