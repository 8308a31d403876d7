"""Sidecar injection, by Istio's labels: the namespace's `istio-injection=enabled`, the Pod's `sidecar.istio.io/inject`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from isthmus.localruntime.images import PROXY

Object = dict[str, Any]

SIDECAR = "istio-proxy"
READINESS_PORT = 15021


@dataclass(frozen=True, slots=True)
class InjectionSettings:
    """What a sidecar's Pod is labelled with."""

    network: str


def inject(pod: Object, namespace_labels: Mapping[str, str], settings: InjectionSettings) -> Object:
    """The Pod with its sidecar, if it is to have one and has none. The Pod's own label wins over its namespace's."""
    labels = pod["metadata"].setdefault("labels", {})
    annotations = pod["metadata"].get("annotations") or {}
    said = labels.get("sidecar.istio.io/inject") or annotations.get("sidecar.istio.io/inject")
    wanted = said == "true" if said else namespace_labels.get("istio-injection") == "enabled"
    names = [container["name"] for container in pod["spec"].get("containers", [])]
    if not wanted or SIDECAR in names or pod["spec"].get("hostNetwork"):
        return pod
    labels.setdefault("security.istio.io/tlsMode", "istio")
    labels.setdefault("topology.istio.io/network", settings.network)
    labels.setdefault(
        "service.istio.io/canonical-name", labels.get("app.kubernetes.io/name") or labels.get("app") or names[0]
    )
    labels.setdefault(
        "service.istio.io/canonical-revision",
        labels.get("app.kubernetes.io/version") or labels.get("version") or "latest",
    )
    # First, so that the workload starts with its proxy there already.
    pod["spec"]["containers"].insert(0, _sidecar())
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
