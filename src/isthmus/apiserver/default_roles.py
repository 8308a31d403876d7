"""The roles with which every cluster begins: Kubernetes' own, aggregated as there, the mesh's parts of them, and two for tenants."""

from __future__ import annotations

from typing import Any

from isthmus.apiserver.access import AUTHENTICATED, MASTERS

Object = dict[str, Any]

_RBAC = "rbac.authorization.k8s.io"
_READ = ["get", "list", "watch"]
_CHANGE = ["create", "delete", "deletecollection", "patch", "update"]
_WRITE = [*_READ, *_CHANGE]
_MESH_GROUPS = [
    "gateway.networking.k8s.io",
    "multicluster.x-k8s.io",
    "networking.istio.io",
    "security.istio.io",
    "telemetry.istio.io",
]
_CORE = [
    "configmaps", "events", "persistentvolumeclaims", "pods", "pods/log", "pods/status", "replicationcontrollers",
    "replicationcontrollers/scale", "replicationcontrollers/status", "serviceaccounts", "services", "services/status",
]  # fmt: skip
_APPS = [
    "daemonsets", "daemonsets/status", "deployments", "deployments/scale", "deployments/status", "replicasets",
    "replicasets/scale", "replicasets/status", "statefulsets", "statefulsets/scale", "statefulsets/status",
]  # fmt: skip
_BATCH = ["cronjobs", "cronjobs/status", "jobs", "jobs/status"]
_AUTOSCALING = ["horizontalpodautoscalers", "horizontalpodautoscalers/status"]
_POLICY = ["poddisruptionbudgets", "poddisruptionbudgets/status"]
_NETWORKING = ["ingresses", "ingresses/status", "networkpolicies"]
_DEVELOPERS = {
    "networking.istio.io": ["destinationrules", "serviceentries", "sidecars", "virtualservices", "workloadentries", "workloadgroups"],
    "security.istio.io": ["authorizationpolicies", "peerauthentications", "requestauthentications"],
    "telemetry.istio.io": ["telemetries"],
    "gateway.networking.k8s.io": ["grpcroutes", "httproutes", "tcproutes", "tlsroutes"],
    "multicluster.x-k8s.io": ["serviceexports"],
}  # fmt: skip
"""What is a workload's own business. Gateways and raw Envoy configuration are everybody's."""


def default_roles() -> list[Object]:
    """ClusterRoles, and the bindings that hold for everybody."""
    return [
        _role("cluster-admin", [_rule(["*"], ["*"], ["*"]), {"nonResourceURLs": ["*"], "verbs": ["*"]}]),
        *_user_facing(),
        *_parts(),
        *_tenants(),
        *_systems(),
        _binding("cluster-admin", "cluster-admin", MASTERS),
        _binding("system:discovery", "system:discovery", AUTHENTICATED),
        _binding("system:basic-user", "system:basic-user", AUTHENTICATED),
        _binding("system:public-info-viewer", "system:public-info-viewer", AUTHENTICATED, "system:unauthenticated"),
        _binding("system:service-account-issuer-discovery", "system:service-account-issuer-discovery", "system:serviceaccounts"),
    ]  # fmt: skip


def _user_facing() -> list[Object]:
    """Each has what is labelled for it, and what the smaller one has."""
    return [
        _aggregated("view", "edit"),
        _aggregated("edit", "admin"),
        _aggregated("admin", ""),
    ]


def _parts() -> list[Object]:
    read = [
        _rule([""], [*_CORE, "bindings", "endpoints", "limitranges", "namespaces", "namespaces/status", "resourcequotas"], _READ),
        _rule(["apps"], _APPS, _READ),
        _rule(["autoscaling"], _AUTOSCALING, _READ),
        _rule(["batch"], _BATCH, _READ),
        _rule(["discovery.k8s.io"], ["endpointslices"], _READ),
        _rule(["networking.k8s.io"], _NETWORKING, _READ),
        _rule(["policy"], _POLICY, _READ),
    ]  # fmt: skip
    change = [
        _rule([""], [*(name for name in _CORE if "/status" not in name and name != "pods/log"), "pods/eviction"], _CHANGE),
        _rule([""], ["secrets"], _WRITE),
        _rule([""], ["serviceaccounts/token"], ["create"]),
        _rule([""], ["serviceaccounts"], ["impersonate"]),
        _rule(["apps"], [name for name in _APPS if "/status" not in name], _CHANGE),
        _rule(["autoscaling"], ["horizontalpodautoscalers"], _CHANGE),
        _rule(["batch"], ["cronjobs", "jobs"], _CHANGE),
        _rule(["networking.k8s.io"], ["ingresses", "networkpolicies"], _CHANGE),
        _rule(["policy"], ["poddisruptionbudgets"], _CHANGE),
        _rule(["coordination.k8s.io"], ["leases"], _WRITE),
    ]  # fmt: skip
    administer = [
        _rule([_RBAC], ["rolebindings", "roles"], _WRITE),
        _rule(["authorization.k8s.io"], ["localsubjectaccessreviews"], ["create"]),
    ]
    return [
        _role("system:aggregate-to-view", read, to="view"),
        _role("system:aggregate-to-edit", change, to="edit"),
        _role("system:aggregate-to-admin", administer, to="admin"),
        _role("isthmus-mesh-view", [_rule(_MESH_GROUPS, ["*"], _READ)], to="view"),
        _role("isthmus-mesh-edit", [_rule(_MESH_GROUPS, ["*"], _CHANGE)], to="edit"),
    ]


def _tenants() -> list[Object]:
    """An administrator has a whole cluster but cannot make himself more than that; a developer has workloads of the namespace that he is bound in."""
    read, change, administer, mesh_read, mesh_change = (role["rules"] for role in _parts())
    cluster = [
        _rule([""], ["namespaces", "namespaces/finalize", "nodes", "resourcequotas"], _WRITE),
        _rule(["apiextensions.k8s.io"], ["customresourcedefinitions", "customresourcedefinitions/status"], _WRITE),
        _rule(["admissionregistration.k8s.io"], ["mutatingwebhookconfigurations", "validatingwebhookconfigurations"], _WRITE),
        _rule(["certificates.k8s.io"], [f"certificatesigningrequests{part}" for part in ("", "/approval", "/status")], _WRITE),
        _rule(["certificates.k8s.io"], ["signers"], ["approve", "sign"]),
        _rule([_RBAC], ["clusterrolebindings", "clusterroles"], _WRITE),
        _rule(["authentication.k8s.io"], ["tokenreviews"], ["create"]),
        _rule(["authorization.k8s.io"], ["subjectaccessreviews"], ["create"]),
    ]  # fmt: skip
    own = [_rule([group], resources, _WRITE) for group, resources in _DEVELOPERS.items()]
    see = [_rule([_RBAC], ["rolebindings", "roles"], _READ)]
    return [
        _role("isthmus-cluster-administrator", [*read, *change, *administer, *mesh_read, *mesh_change, *cluster]),
        _role("isthmus-developer", [*read, *change, *mesh_read, *own, *see]),
    ]


def _systems() -> list[Object]:
    reviews = ["selfsubjectaccessreviews", "selfsubjectrulesreviews"]
    paths = [
        "/api",
        "/api/*",
        "/apis",
        "/apis/*",
        "/healthz",
        "/livez",
        "/openapi",
        "/openapi/*",
        "/readyz",
        "/version",
        "/version/",
    ]
    issuer = [
        "/.well-known/openid-configuration",
        "/.well-known/openid-configuration/",
        "/openid/v1/jwks",
        "/openid/v1/jwks/",
    ]
    return [
        _role("system:discovery", [_paths(paths)]),
        _role("system:public-info-viewer", [_paths(["/healthz", "/livez", "/readyz", "/version", "/version/"])]),
        _role("system:service-account-issuer-discovery", [_paths(issuer)]),
        _role(
            "system:basic-user",
            [
                _rule(["authorization.k8s.io"], reviews, ["create"]),
                _rule(["authentication.k8s.io"], ["selfsubjectreviews"], ["create"]),
            ],
        ),
        _role(
            "system:auth-delegator",
            [
                _rule(["authentication.k8s.io"], ["tokenreviews"], ["create"]),
                _rule(["authorization.k8s.io"], ["subjectaccessreviews"], ["create"]),
            ],
        ),
    ]  # fmt: skip


def _aggregated(name: str, also_to: str) -> Object:
    role = _role(name, [], to=also_to)
    selectors = [{"matchLabels": {_label(name): "true"}}]
    return role | {"aggregationRule": {"clusterRoleSelectors": selectors}}


def _role(name: str, rules: list[Object], *, to: str = "") -> Object:
    labels = {"kubernetes.io/bootstrapping": "rbac-defaults"} | ({_label(to): "true"} if to else {})
    metadata = {"name": name, "labels": labels}
    return {"apiVersion": f"{_RBAC}/v1", "kind": "ClusterRole", "metadata": metadata, "rules": rules}


def _label(name: str) -> str:
    return f"{_RBAC}/aggregate-to-{name}"


def _rule(groups: list[str], resources: list[str], verbs: list[str]) -> Object:
    return {"apiGroups": groups, "resources": resources, "verbs": verbs}


def _paths(paths: list[str]) -> Object:
    return {"nonResourceURLs": paths, "verbs": ["get"]}


def _binding(name: str, role: str, *groups: str) -> Object:
    return {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name, "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"}},
        "subjects": [{"kind": "Group", "apiGroup": _RBAC, "name": group} for group in groups],
        "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": role},
    }
