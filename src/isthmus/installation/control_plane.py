"""The control plane's Deployment and Services; for a cluster without one, the Service that leads to it elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from isthmus.injection.selection import POD_LABEL, REVISION_LABEL
from isthmus.installation.settings import InstallSettings, Profile, is_ip, service_of
from isthmus.peering.messages import PORT as PORT_FOR_PEERS
from isthmus.trust.federation import BUNDLE_PORT

Object = dict[str, Any]

CONFIG_SECRET = "istio-kubeconfig"
PROXY_PORTS = {"tls-xds": 15012, "tls-xds-mtls": 15013}
"""What proxies use; not named for a protocol that anyone could route by."""

_WEBHOOK = {"name": "https-webhook", "port": 443, "targetPort": 15017}
_BUNDLE = {"name": "https-bundle", "port": BUNDLE_PORT, "targetPort": BUNDLE_PORT}
_USER = 1337


def control_plane(settings: InstallSettings, labels: Object) -> Iterator[Object]:
    """One revision, and a Service for each name that it has."""
    own = {"app": "istiod", "istio": "pilot", REVISION_LABEL: settings["revision"]}
    for name in (settings["revision"], *settings.tags):
        yield _service(settings, service_of(name), {**labels, **own}, own)
    if settings["controlPlane.exposed"] == "loadBalancer" or settings.profile is Profile.EXTERNAL:
        exposed = _service(settings, f"{settings.service}-exposed", {**labels, **own}, own)
        ports = [
            *_proxy_ports(),
            {"name": "https-webhook", "port": 15017, "targetPort": 15017},
            _BUNDLE,
        ]
        exposed["spec"] |= {"type": "LoadBalancer", "ports": ports}
        yield exposed
    if settings.is_on("federation.enabled"):
        peers = _service(settings, f"{settings.service}-peers", {**labels, **own}, own)
        ports = [
            {"name": "tls-peers", "port": PORT_FOR_PEERS, "targetPort": PORT_FOR_PEERS},
            _BUNDLE,
        ]
        peers["spec"] |= {"type": "LoadBalancer", "ports": ports}
        yield peers
    yield _deployment(settings, {**labels, **own}, own)


def _service(settings: InstallSettings, name: str, labels: Object, selector: Object) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": settings["namespace"], "labels": labels},
        "spec": {
            "selector": selector,
            "ports": [
                *_proxy_ports(),
                _WEBHOOK,
                {"name": "http-monitoring", "port": 15014, "targetPort": 15014},
                _BUNDLE,
            ],
        },
    }


def _proxy_ports() -> list[Object]:
    return [{"name": name, "port": port, "targetPort": port} for name, port in PROXY_PORTS.items()]


def _deployment(settings: InstallSettings, labels: Object, selector: Object) -> Object:
    replicas = settings["controlPlane.replicas"]
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": settings.service, "namespace": settings["namespace"], "labels": labels},
        "spec": {
            **({"replicas": int(replicas)} if replicas else {}),
            "selector": {"matchLabels": selector},
            # A new one is ready before an old one goes.
            "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}, "type": "RollingUpdate"},
            "template": {
                # A control plane is no member of its mesh; its revision label alone would have it injected.
                "metadata": {"labels": {**labels, POD_LABEL: "false"}},
                "spec": {
                    "serviceAccountName": settings.service,
                    "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
                    "containers": [_container(settings)],
                    "volumes": [{"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}}],
                },
            },
        },
    }


def _container(settings: InstallSettings) -> Object:
    ports = {
        "xds": 15012,
        "xds-mtls": 15013,
        "peers": PORT_FOR_PEERS,
        "webhook": 15017,
        "monitoring": 15014,
        "bundle": BUNDLE_PORT,
        "readiness": 8080,
    }
    return {
        "name": "discovery",
        "image": settings.image("control-plane"),
        "args": ["control-plane"],
        "env": [
            *({"name": name, "value": value} for name, value in _environment(settings).items() if value),
            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "POD_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
        ],
        "ports": [{"name": name, "containerPort": port, "protocol": "TCP"} for name, port in ports.items()],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}, "periodSeconds": 3, "timeoutSeconds": 5},
        "resources": {"requests": {"cpu": settings["controlPlane.cpu"], "memory": settings["controlPlane.memory"]}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "runAsGroup": _USER,
            "runAsNonRoot": True,
            "runAsUser": _USER,
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }


def _environment(settings: InstallSettings) -> dict[str, str]:
    outside = settings.profile is Profile.EXTERNAL
    found = {
        "CLUSTER_ID": settings["cluster"],
        "MESH_ID": settings["mesh"],
        "TRUST_DOMAIN": settings["trustDomain"],
        "NETWORK": settings["network"],
        "REVISION": settings["revision"],
        "ISTHMUS_TAGS": settings["tags"],
        "ISTHMUS_PROXY_IMAGE": settings.image("proxy"),
        "ENABLE_NATIVE_SIDECARS": settings["injection.native"],
        # It has the rights only where this is said, whatever its other switches are.
        "ISTHMUS_CLUSTER_SET_CONTROLLER": settings["clusterSet.enabled"],
        "ISTHMUS_GLOBAL_NAMES": settings["globalNames.suffix"],
        "EXTERNAL_ISTIOD": "true" if outside else "",
        "ISTHMUS_HOME_CLUSTER": settings["controlPlane.home"],
        "ISTHMUS_CONFIG_SECRET": CONFIG_SECRET if outside else "",
    }
    if signer := settings["externalSigner"]:
        found |= {"EXTERNAL_CA": "ISTIOD_RA_KUBERNETES_API", "K8S_SIGNER": signer}
    if settings.is_on("clusterSet.enabled"):
        found |= {"ENABLE_MCS_SERVICE_DISCOVERY": "true", "ENABLE_MCS_HOST": "true"}
    return found | dict(settings.environment)


def elsewhere(settings: InstallSettings, labels: Object) -> Iterator[Object]:
    """The control plane's name, in a cluster where it does not run: proxies find it, and its certificate fits, as in its own."""
    address = settings["controlPlane.address"]
    ports = [*_proxy_ports(), _WEBHOOK]
    metadata = {"name": settings.service, "namespace": settings["namespace"], "labels": {**labels, "app": "istiod"}}
    if not is_ip(address):
        spec = {"type": "ExternalName", "externalName": address, "ports": ports}
        yield {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}
        return
    yield {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": ports}}
    yield {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": metadata | {"labels": {**labels, "kubernetes.io/service-name": settings.service}},
        "addressType": "IPv6" if ":" in address else "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
        "ports": [
            *({"name": name, "port": port, "protocol": "TCP"} for name, port in PROXY_PORTS.items()),
            {"name": _WEBHOOK["name"], "port": _WEBHOOK["targetPort"], "protocol": "TCP"},
        ],
    }
