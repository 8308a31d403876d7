"""What each account may do: what its process asks for, and nothing beside it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from isthmus.api.registry import KINDS
from isthmus.injection.webhook_configuration import injector_name, validator_name
from isthmus.installation.settings import InstallSettings
from isthmus.kubernetes import reader_access
from isthmus.trust import rotation

Object = dict[str, Any]

ROOTS_CONFIG_MAP = "istio-ca-root-cert"
BUNDLES = "isthmus-bundles"
READ_CONFIG_MAPS = ("istio", "isthmus-drains")
"""The mesh's settings, and which clusters are drained."""

_READ = ["get", "list", "watch"]
_GATEWAY_API = "gateway.networking.k8s.io"
_MULTICLUSTER = "multicluster.x-k8s.io"
CLUSTER_SET: list[Object] = [
    {"apiGroups": [_MULTICLUSTER], "resources": ["serviceimports"], "verbs": ["create", "patch", "delete"]},
    {"apiGroups": [_MULTICLUSTER], "resources": ["serviceexports/status", "serviceimports/status"], "verbs": ["patch"]},
]
"""What the controller of the Multi-Cluster Services API writes."""
MACHINES: list[Object] = [
    {"apiGroups": ["networking.istio.io"], "resources": ["workloadentries"], "verbs": ["create", "patch", "delete"]},
    {"apiGroups": ["networking.istio.io"], "resources": ["workloadentries/status"], "verbs": ["patch"]},
]
"""What is written about machines that register themselves."""
LEASES: Object = {
    "apiGroups": ["coordination.k8s.io"],
    "resources": ["leases"],
    "verbs": ["get", "create", "update"],
}
"""Who leads, and who lives: in the system namespace."""
_AUTHORITIES: Object = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "watch"]}
"""Gateway API's objects name authorities by ConfigMaps of any name."""
_RBAC = "rbac.authorization.k8s.io"


def control_plane_rules(settings: InstallSettings) -> list[Object]:
    """Of the whole cluster: reads what the mesh is made of, publishes roots, keeps the authority of its own webhooks."""
    return [
        *reader_access.rules(),
        *_configuration(),
        _named_config_maps([*READ_CONFIG_MAPS], _READ),
        *([_secrets(_READ)] if settings.is_on("gatewaySecrets") else []),
        *([_AUTHORITIES] if settings.is_on("gatewaySecrets") else []),
        *_gateways(),
        {"apiGroups": ["networking.istio.io"], "resources": ["serviceentries/status"], "verbs": ["patch"]},
        *(CLUSTER_SET if settings.is_on("clusterSet.enabled") else []),
        *(_signing(settings["externalSigner"]) if settings["externalSigner"] else []),
        *writer_rules(settings),
    ]


def _signing(signer: str) -> list[Object]:
    """Has certificates signed. It may approve requests for that signer alone, and sign none."""
    group = "certificates.k8s.io"
    requests = "certificatesigningrequests"
    return [
        {"apiGroups": [group], "resources": [requests], "verbs": ["create", "watch", "delete"]},
        {"apiGroups": [group], "resources": [f"{requests}/approval"], "verbs": ["update"]},
        {"apiGroups": [group], "resources": ["signers"], "resourceNames": [signer], "verbs": ["approve"]},
    ]


def _gateways() -> list[Object]:
    """Of the Gateway API: statuses of its objects, and what each Gateway needs to run, in whatever namespace it is."""
    kinds = [kind for kind in KINDS.values() if kind.group == _GATEWAY_API and kind.plural != "referencegrants"]
    written = [*_READ, "create", "patch"]
    return [
        {
            "apiGroups": [_GATEWAY_API],
            "resources": sorted(f"{kind.plural}/status" for kind in kinds),
            "verbs": ["patch"],
        },
        {"apiGroups": [_GATEWAY_API], "resources": ["gatewayclasses"], "verbs": ["create"]},
        {"apiGroups": [""], "resources": ["serviceaccounts", "services"], "verbs": written},
        {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": written},
    ]


def writer_rules(settings: InstallSettings) -> list[Object]:
    """What a control plane writes in each cluster that it serves. What is created cannot be restricted by name."""
    return [
        _named_config_maps([ROOTS_CONFIG_MAP], [*_READ, "patch"]),
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create"]},
        *(MACHINES if settings.is_on("machines.enabled") else []),
        *webhook_rules(settings),
    ]


def system_rules() -> list[Object]:
    """In the system namespace: remote secrets, and the Secrets of the authority, which it creates if there is none; what is asked about its
    roots, and the answers; what it remembers of bundles; who leads.
    """
    return [
        _secrets([*_READ, "create"]),
        _named_config_maps([rotation.CONFIG_MAP], _READ),
        _named_config_maps([BUNDLES, rotation.REPORTS], ["get", "patch"]),
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create"]},
        LEASES,
    ]


def _secrets(verbs: list[str]) -> Object:
    return {"apiGroups": [""], "resources": ["secrets"], "verbs": verbs}


def _configuration() -> Iterator[Object]:
    """Each kind that is read, by its name."""
    groups: dict[str, set[str]] = {}
    for kind in KINDS.values():
        if kind.is_custom:
            groups.setdefault(kind.group, set()).add(kind.plural)
    known = {
        (group, resource)
        for rule in reader_access.rules()
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    for group in sorted(groups):
        resources = sorted(each for each in groups[group] if (group, each) not in known)
        if resources:
            yield {"apiGroups": [group], "resources": resources, "verbs": _READ}


def _named_config_maps(names: list[str], verbs: list[str]) -> Object:
    """Lists and watches, too: they ask for one name only, and are allowed by it."""
    return {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": names, "verbs": verbs}


def webhook_rules(settings: InstallSettings) -> Iterator[Object]:
    """A control plane keeps its authority in the webhooks of its revision, and of its tags."""
    group = "admissionregistration.k8s.io"
    resources = ["mutatingwebhookconfigurations", "validatingwebhookconfigurations"]
    names = [
        injector_name(settings["revision"], settings["namespace"]),
        validator_name(settings["revision"], settings["namespace"]),
        *(f"istio-revision-tag-{tag}" for tag in settings.tags),
    ]
    yield {"apiGroups": [group], "resources": resources, "verbs": _READ}
    yield {"apiGroups": [group], "resources": resources, "resourceNames": names, "verbs": ["patch"]}


def cluster_role(name: str, account: str, namespace: str, rules: list[Object], labels: Object) -> Iterator[Object]:
    """The role and its binding."""
    head = {"name": name, "labels": labels}
    yield {"apiVersion": f"{_RBAC}/v1", "kind": "ClusterRole", "metadata": head, "rules": rules}
    yield {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": head,
        "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
    }


def role(name: str, account: str, namespace: str, rules: list[Object], labels: Object) -> Iterator[Object]:
    """The same inside one namespace."""
    head = {"name": name, "namespace": namespace, "labels": labels}
    yield {"apiVersion": f"{_RBAC}/v1", "kind": "Role", "metadata": head, "rules": rules}
    yield {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "RoleBinding",
        "metadata": head,
        "roleRef": {"apiGroup": _RBAC, "kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
    }


def account(name: str, namespace: str, labels: Object) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
    }
