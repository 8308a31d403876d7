"""Sidecar injection in the local runtime: who gets one is decided as everywhere; what is added is what a process on this machine needs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from isthmus.injection.injecting import TEMPLATES
from isthmus.injection.selection import DEFAULT_REVISION, Entry, entries, objection, selected
from isthmus.injection.settings import BadRequest, own_proxy_config
from isthmus.injection.sidecar import PROXY as SIDECAR
from isthmus.injection.workloads import mesh_labels
from isthmus.localruntime.images import PROXY
from isthmus.model.proxy_config import NOTHING_SAID, ProxyConfigs
from isthmus.model.proxy_config_words import written

Object = dict[str, Any]

REVISION, TAG = "istio.io/rev", "istio.io/tag"
READINESS_PORT = 15021
PROXY_CONFIG_VARIABLE = "PROXY_CONFIG"

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class InjectionSettings:
    """What a sidecar's Pod is labelled with, the revisions and tags by which namespaces and Pods may ask for one, and how it is run:
    asked only when a Pod is to be told."""

    network: str
    revisions: tuple[str, ...] = (DEFAULT_REVISION,)
    proxies: Callable[[], ProxyConfigs] = ProxyConfigs

    @property
    def entries(self) -> list[Entry]:
        return [entry for name in self.revisions for entry in entries(name, is_default=name == DEFAULT_REVISION)]


def inject(pod: Object, namespace_labels: Mapping[str, str], settings: InjectionSettings) -> Object:
    """The Pod with its sidecar, if it is to have one and has none. Its label `istio.io/rev` says whose control plane the sidecar uses."""
    metadata = pod["metadata"]
    labels = metadata.setdefault("labels", {})
    names = [container["name"] for container in pod["spec"].get("containers", [])]
    if (metadata.get("annotations") or {}).get(TEMPLATES) == "gateway":
        _complete_gateway(pod, settings)
    elif SIDECAR not in names and selected(settings.entries, namespace_labels, labels):
        if objection(pod, str(metadata.get("namespace", ""))):
            return pod
        labels.setdefault(REVISION, namespace_labels.get(REVISION, DEFAULT_REVISION))
        labels |= mesh_labels(labels, network=settings.network, fallback_name=names[0])
        # First, so that the workload starts with its proxy there already.
        pod["spec"]["containers"].insert(0, _sidecar())
    for container in pod["spec"].get("containers", []):
        told = container.get("env") or ()
        if container.get("image") == PROXY and all(each["name"] != PROXY_CONFIG_VARIABLE for each in told):
            container["env"] = [*told, _proxy_config(metadata, settings)]
    return pod


def _proxy_config(metadata: Object, settings: InjectionSettings) -> Object:
    """As a variable, as everywhere. An annotation that cannot be used says nothing here: there is no webhook that could refuse the Pod."""
    namespace, name = str(metadata.get("namespace", "")), metadata.get("name")
    try:
        own, _ = own_proxy_config(metadata.get("annotations") or {})
    except BadRequest as error:
        log.warning("annotation not used", pod=f"{namespace}/{name}", error=str(error))
        own = NOTHING_SAID
    found = written(settings.proxies().for_workload(namespace, metadata.get("labels") or {}, own))
    return {"name": PROXY_CONFIG_VARIABLE, "value": json.dumps(found, sort_keys=True, separators=(",", ":"))}


def _complete_gateway(pod: Object, settings: InjectionSettings) -> None:
    """A Pod that is nothing but a gateway: the place that it keeps for its proxy is filled in."""
    pod["metadata"]["labels"].setdefault("topology.istio.io/network", settings.network)
    for container in pod["spec"].get("containers", []):
        if container["name"] == SIDECAR and container.get("image", "auto") == "auto":
            container |= {"image": PROXY, "args": ["proxy", "router"]}


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
