"""Sidecar injection in the local runtime: who gets one is decided as everywhere; what is added is what a process on this machine needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from isthmus.injection.injecting import TEMPLATES
from isthmus.injection.selection import DEFAULT_REVISION, Entry, entries, objection, selected
from isthmus.injection.sidecar import PROXY as SIDECAR
from isthmus.injection.workloads import mesh_labels
from isthmus.localruntime.images import PROXY

Object = dict[str, Any]

REVISION, TAG = "istio.io/rev", "istio.io/tag"
READINESS_PORT = 15021


@dataclass(frozen=True, slots=True)
class InjectionSettings:
    """What a sidecar's Pod is labelled with, and the revisions and tags by which namespaces and Pods may ask for one."""

    network: str
    revisions: tuple[str, ...] = (DEFAULT_REVISION,)

    @property
    def entries(self) -> list[Entry]:
        return [entry for name in self.revisions for entry in entries(name, is_default=name == DEFAULT_REVISION)]


def inject(pod: Object, namespace_labels: Mapping[str, str], settings: InjectionSettings) -> Object:
    """The Pod with its sidecar, if it is to have one and has none. Its label `istio.io/rev` says whose control plane the sidecar uses."""
    metadata = pod["metadata"]
    labels = metadata.setdefault("labels", {})
    if (metadata.get("annotations") or {}).get(TEMPLATES) == "gateway":
        return _gateway(pod, settings)
    names = [container["name"] for container in pod["spec"].get("containers", [])]
    if SIDECAR in names or not selected(settings.entries, namespace_labels, labels):
        return pod
    if objection(pod, str(metadata.get("namespace", ""))):
        return pod
    labels.setdefault(REVISION, namespace_labels.get(REVISION, DEFAULT_REVISION))
    labels |= mesh_labels(labels, network=settings.network, fallback_name=names[0])
    # First, so that the workload starts with its proxy there already.
    pod["spec"]["containers"].insert(0, _sidecar())
    return pod


def _gateway(pod: Object, settings: InjectionSettings) -> Object:
    """A Pod that is nothing but a gateway: the place that it keeps for its proxy is filled in."""
    pod["metadata"]["labels"].setdefault("topology.istio.io/network", settings.network)
    for container in pod["spec"].get("containers", []):
        if container["name"] == SIDECAR and container.get("image", "auto") == "auto":
            container |= {"image": PROXY, "args": ["proxy", "router"]}
    return pod


def _sidecar() -> Object:
    return {
        "name": SIDECAR,
        "image": PROXY,
        "args": ["proxy", "sidecar"],
        "ports": [{"name": "http-envoy-prom", "containerPort": 15090, "protocol": "TCP"}],
        "readinessProbe": {
            "httpGet": {"path": "/healthz/ready", "port": READINESS_PORT},
            "periodSeconds": 2,
            "failureThreshold": 3,
        },
        "imagePullPolicy": "IfNotPresent",
    }
