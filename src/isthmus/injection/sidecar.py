"""The containers and volumes of a proxy in a Pod of a real cluster: agent and Envoy in one container, capture in another that runs first."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from isthmus.injection.settings import Capture, InjectionSettings, PodWishes
from isthmus.injection.workloads import Owner
from isthmus.model.proxy_config_words import written

Object = dict[str, Any]

PROXY = "istio-proxy"
INIT = "istio-init"
USER = 1337
TOKEN_AUDIENCE = "istio-ca"
ROOTS_CONFIG_MAP = "istio-ca-root-cert"
_READINESS_PORT = 15021
_STATISTICS_PORT = 15090
_TOKEN_SECONDS = 43200
_MOUNTS = {
    "istiod-ca-cert": "/var/run/secrets/istio",
    "istio-token": "/var/run/secrets/tokens",
    "istio-podinfo": "/etc/istio/pod",
    "istio-envoy": "/etc/istio/proxy",
}


def proxy_container(
    role: str, settings: InjectionSettings, wishes: PodWishes, owner: Owner, *, service_account: str = ""
) -> Object:
    """`role` is `sidecar` or `router`. Everything that differs from Pod to Pod comes through the downward API."""
    return {
        "name": PROXY,
        "image": wishes.image,
        "args": ["agent", role],
        "ports": [{"name": "http-envoy-prom", "containerPort": _STATISTICS_PORT, "protocol": "TCP"}],
        "env": list(_environment(settings, wishes, owner, service_account)),
        "readinessProbe": {
            "httpGet": {"path": "/healthz/ready", "port": _READINESS_PORT},
            "periodSeconds": 15,
            "timeoutSeconds": 3,
            "failureThreshold": 4,
        },
        "startupProbe": {
            "httpGet": {"path": "/healthz/ready", "port": _READINESS_PORT},
            "periodSeconds": 1,
            "timeoutSeconds": 3,
            "failureThreshold": 600,
        },
        "resources": wishes.resources,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "privileged": False,
            "readOnlyRootFilesystem": True,
            "runAsGroup": USER,
            "runAsNonRoot": True,
            "runAsUser": USER,
        },
        "volumeMounts": [
            {"name": name, "mountPath": path, **({"readOnly": True} if name != "istio-envoy" else {})}
            for name, path in _MOUNTS.items()
        ],
    }


def _environment(settings: InjectionSettings, wishes: PodWishes, owner: Owner, service_account: str) -> list[Object]:
    config = {"discoveryAddress": settings.discovery_address, **written(wishes.proxy_config)}
    account = (
        {"name": "SERVICE_ACCOUNT", "value": service_account}
        if service_account
        else _from_field("SERVICE_ACCOUNT", "spec.serviceAccountName")
    )
    told = {
        "PROXY_CONFIG": json.dumps(config, sort_keys=True, separators=(",", ":")),
        "TRUST_DOMAIN": settings.trust_domain,
        "ISTIO_META_CLUSTER_ID": settings.cluster,
        "ISTIO_META_MESH_ID": settings.mesh,
        "ISTIO_META_NETWORK": settings.network,
        "ISTIO_META_WORKLOAD_NAME": owner.name,
        "ISTIO_META_INTERCEPTION_MODE": "REDIRECT",
        "ISTIO_META_DNS_CAPTURE": "true" if settings.dns_capture else "false",
        "ISTHMUS_ENVOY_LOG_LEVEL": wishes.log_level,
    }
    told |= dict(wishes.proxy_config.metadata)
    return [
        _from_field("POD_NAME", "metadata.name"),
        _from_field("POD_NAMESPACE", "metadata.namespace"),
        _from_field("INSTANCE_IP", "status.podIP"),
        _from_field("INSTANCE_IPS", "status.podIPs"),
        _from_field("HOST_IP", "status.hostIP"),
        _from_field("ISTIO_META_NODE_NAME", "spec.nodeName"),
        account,
        *({"name": name, "value": value} for name, value in told.items()),
    ]


def _from_field(name: str, path: str) -> Object:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def capture_container(image: str, capture: Capture, *, dns: bool) -> Object:
    """Runs once, before everything else: the rules stay for as long as the Pod's network namespace."""
    options = {
        "--inbound-ports": capture.inbound_ports,
        "--exclude-inbound-ports": capture.excluded_inbound_ports,
        "--outbound-ranges": capture.outbound_ranges,
        "--exclude-outbound-ranges": capture.excluded_outbound_ranges,
        "--outbound-ports": capture.outbound_ports,
        "--exclude-outbound-ports": capture.excluded_outbound_ports,
    }
    arguments = [f"{name}={value}" for name, value in options.items() if value or name == "--inbound-ports"]
    return {
        "name": INIT,
        "image": image,
        "args": ["capture", f"--user={USER}", *(["--dns"] if dns else []), *arguments],
        "env": [_from_field("INSTANCE_IPS", "status.podIPs")],
        "resources": {"requests": {"cpu": "10m", "memory": "40Mi"}, "limits": {"cpu": "2000m", "memory": "256Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]},
            "privileged": False,
            "readOnlyRootFilesystem": True,
            "runAsGroup": 0,
            "runAsNonRoot": False,
            "runAsUser": 0,
        },
    }


def volumes() -> list[Object]:
    """What the proxy's container mounts. The token is for the mesh's authority alone; no API server takes it."""
    token = {"audience": TOKEN_AUDIENCE, "expirationSeconds": _TOKEN_SECONDS, "path": "istio-token"}
    fields = [{"path": path, "fieldRef": {"fieldPath": f"metadata.{path}"}} for path in ("labels", "annotations")]
    return [
        {"name": "istiod-ca-cert", "configMap": {"name": ROOTS_CONFIG_MAP}},
        {"name": "istio-token", "projected": {"sources": [{"serviceAccountToken": token}]}},
        {"name": "istio-podinfo", "downwardAPI": {"items": fields}},
        {"name": "istio-envoy", "emptyDir": {"medium": "Memory"}},
    ]


def unprivileged_ports() -> list[Object]:
    """For a Pod whose proxy serves ports below 1024 without being root."""
    return [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]


def names(parts: Sequence[Object]) -> list[str]:
    return [str(part["name"]) for part in parts]
