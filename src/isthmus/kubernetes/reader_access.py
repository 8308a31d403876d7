"""What a control plane may do in another cluster that it discovers: read what has addresses, ask whom a token stands for. Nothing else.

Istio's reader role reads every Secret and ConfigMap of the cluster. This one reads none: whoever gets hold of a remote secret learns where
workloads are, and no key.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from isthmus.kubernetes.resources import SERVICE_ACCOUNTS, ResourcePath

Object = dict[str, Any]

MANAGED_BY = "app.kubernetes.io/managed-by"
_RBAC = "rbac.authorization.k8s.io"
CLUSTER_ROLES = ResourcePath(group=_RBAC, version="v1", plural="clusterroles", namespaced=False)
CLUSTER_ROLE_BINDINGS = ResourcePath(group=_RBAC, version="v1", plural="clusterrolebindings", namespaced=False)
_OF_ACCOUNTS = {
    "ServiceAccount": SERVICE_ACCOUNTS,
    "ClusterRole": CLUSTER_ROLES,
    "ClusterRoleBinding": CLUSTER_ROLE_BINDINGS,
    "Role": ResourcePath(group=_RBAC, version="v1", plural="roles", namespaced=True),
    "RoleBinding": ResourcePath(group=_RBAC, version="v1", plural="rolebindings", namespaced=True),
}
_READ = ["get", "list", "watch"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """The service account whose token a remote secret holds. `manager` is who made it, and may unmake it."""

    namespace: str
    account: str
    manager: str

    @property
    def role(self) -> str:
        """Istio's name for the role and its binding; another account has its own."""
        if self.account == "istio-reader-service-account":
            return f"istio-reader-clusterrole-{self.namespace}"
        return f"{self.account}-clusterrole-{self.namespace}"


def reader_objects(reader: Reader) -> Iterator[tuple[ResourcePath, Object]]:
    """The account, its role, the binding, in the order in which they are to be made."""
    labels = {MANAGED_BY: reader.manager}
    yield (
        SERVICE_ACCOUNTS,
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": reader.account, "namespace": reader.namespace, "labels": labels},
        },
    )
    head: Object = {"name": reader.role, "labels": labels}
    yield CLUSTER_ROLES, {"apiVersion": f"{_RBAC}/v1", "kind": "ClusterRole", "metadata": head, "rules": rules()}
    yield (
        CLUSTER_ROLE_BINDINGS,
        {
            "apiVersion": f"{_RBAC}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": head,
            "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": reader.role},
            "subjects": [{"kind": "ServiceAccount", "name": reader.account, "namespace": reader.namespace}],
        },
    )


def written_by_hand(objects: Iterable[Object], account: str, namespace: str) -> Iterator[tuple[ResourcePath, Object]]:
    """Somebody's own account and rights instead of these, the account first. Raises ValueError for anything else, and if the account is missing."""
    found = list(objects)
    strange = sorted({str(each.get("kind")) for each in found if each.get("kind") not in _OF_ACCOUNTS})
    if strange:
        raise ValueError(f"{', '.join(strange)}: only {', '.join(_OF_ACCOUNTS)} belong to an account's rights")
    for each in found:
        metadata = each.setdefault("metadata", {})
        if _OF_ACCOUNTS[each["kind"]].namespaced:
            metadata.setdefault("namespace", namespace)
    names = [(each["kind"], each["metadata"].get("namespace"), each["metadata"].get("name")) for each in found]
    if ("ServiceAccount", namespace, account) not in names:
        raise ValueError(f"there is no ServiceAccount {namespace}/{account} among them")
    order = list(_OF_ACCOUNTS)
    for each in sorted(found, key=lambda each: order.index(each["kind"])):
        yield _OF_ACCOUNTS[each["kind"]], each


def rules() -> list[Object]:
    """No Secrets, no ConfigMaps, nothing written; a TokenReview is a question."""
    return [
        {"apiGroups": [""], "resources": ["namespaces", "nodes", "pods", "services"], "verbs": _READ},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": _READ},
        {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": _READ},
        {"apiGroups": ["networking.istio.io"], "resources": ["workloadentries", "workloadgroups"], "verbs": _READ},
        {"apiGroups": ["gateway.networking.k8s.io"], "resources": ["gateways"], "verbs": _READ},
        {"apiGroups": ["multicluster.x-k8s.io"], "resources": ["serviceexports", "serviceimports"], "verbs": _READ},
        {"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]},
    ]


def made_by(obj: Mapping[str, Any], manager: str) -> bool:
    """Whether the object says that `manager` made it."""
    labels = obj.get("metadata", {}).get("labels") or {}
    return bool(labels.get(MANAGED_BY) == manager)
