"""What a Pod belongs to, and the labels by which the mesh knows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from isthmus.model.values import dataclass
from isthmus.model.workloads import owner_name

Object = dict[str, Any]

NETWORK_LABEL = "topology.istio.io/network"
TLS_MODE_LABEL = "security.istio.io/tlsMode"
CANONICAL_NAME = "service.istio.io/canonical-name"
CANONICAL_REVISION = "service.istio.io/canonical-revision"


@dataclass(frozen=True, slots=True)
class Owner:
    """The workload that a Pod is one of."""

    api_version: str
    kind: str
    name: str

    def uri(self, namespace: str) -> str:
        """As ISTIO_META_OWNER has it."""
        return f"kubernetes://apis/{self.api_version}/namespaces/{namespace}/{self.kind.lower()}s/{self.name}"


def owner_of(pod: Mapping[str, Any]) -> Owner:
    """Of the Pod's controller, or what made that one, which its name tells. Without a controller, the Pod itself."""
    metadata = pod["metadata"]
    controller = next((each for each in metadata.get("ownerReferences") or () if each.get("controller")), None)
    if controller is None:
        return Owner("v1", "Pod", str(metadata.get("name") or metadata.get("generateName", "").rstrip("-")))
    name, kind, version = str(controller["name"]), str(controller["kind"]), str(controller.get("apiVersion", ""))
    owner = owner_name(kind, name, str((metadata.get("labels") or {}).get("pod-template-hash", "")))
    above = {"ReplicaSet": ("apps/v1", "Deployment"), "Job": ("batch/v1", "CronJob")}
    return Owner(*above[kind], owner) if owner != name else Owner(version, kind, name)


def mesh_labels(labels: Mapping[str, str], *, network: str, fallback_name: str) -> dict[str, str]:
    """What is added to a meshed Pod's labels. What the Pod says itself stays."""
    wanted = {
        TLS_MODE_LABEL: "istio",
        CANONICAL_NAME: labels.get("app.kubernetes.io/name") or labels.get("app") or fallback_name,
        CANONICAL_REVISION: labels.get("app.kubernetes.io/version") or labels.get("version") or "latest",
    }
    if network:
        wanted[NETWORK_LABEL] = network
    return {key: value for key, value in wanted.items() if key not in labels}
