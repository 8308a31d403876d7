"""The control plane's own objects: its settings and its remote secrets."""

from __future__ import annotations

from collections.abc import Iterator

from isthmus.assurance.analysis.items import Index, Item
from isthmus.assurance.catalogue import mesh, policies
from isthmus.model.issues import Issue, Subject

REMOTE_SECRET = ("istio/multiCluster", "true")
_BLOCKED = "BLOCKED_CIDRS_IN_JWKS_URIS"
_DEFAULT_REGISTRY = "Kubernetes"


def remote_secrets(index: Index) -> list[Item]:
    key, value = REMOTE_SECRET
    return [secret for secret in index.each("Secret") if secret.labels.get(key) == value]


def clusters_in(secret: Item) -> list[str]:
    """The ids of the clusters that a remote secret is for."""
    return sorted({**(secret.value.get("data") or {}), **(secret.value.get("stringData") or {})})


def mesh_networks(index: Index) -> Iterator[Issue]:
    networks = index.settings.mesh_networks.get("networks") or {}
    known = {_DEFAULT_REGISTRY, index.cluster} | {
        name for secret in remote_secrets(index) for name in clusters_in(secret)
    }
    for name, network in networks.items():
        for endpoint in (network or {}).get("endpoints") or []:
            registry = endpoint.get("fromRegistry")
            if registry and registry not in known:
                yield Issue(
                    subject=Subject(index.cluster, "MeshNetworks", index.settings.root_namespace, "meshnetworks"),
                    code=mesh.UNKNOWN_REGISTRY.id,
                    severity=mesh.UNKNOWN_REGISTRY.severity,
                    what=f"network {name} is said to have cluster {registry}, which is not in the mesh",
                    fix=mesh.UNKNOWN_REGISTRY.fix,
                    field=f"networks['{name}'].endpoints",
                )


def key_fetching(index: Index) -> Iterator[Issue]:
    """Who may write a RequestAuthentication makes the control plane fetch its jwksUri."""
    if not any(
        rule.get("jwksUri")
        for policy in index.each("RequestAuthentication")
        for rule in policy.spec.get("jwtRules") or []
    ):
        return
    for deployment in index.each("Deployment"):
        if deployment.namespace != index.settings.root_namespace or deployment.labels.get("app") != "istiod":
            continue
        template = (deployment.spec.get("template") or {}).get("spec") or {}
        names = {
            variable.get("name"): variable.get("value")
            for container in template.get("containers") or []
            for variable in container.get("env") or []
        }
        if not names.get(_BLOCKED):
            yield deployment.finding(policies.UNRESTRICTED_KEYS, f"{_BLOCKED} is not set")
