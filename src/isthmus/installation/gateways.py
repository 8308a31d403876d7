"""Gateways: Envoys that serve others. The network gateway passes other networks' connections through; the ingress gateway is for the world."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from isthmus.api.federation import GATEWAY_PORT
from isthmus.ingest.labels import PEER_GATEWAY_PORT
from isthmus.injection.selection import POD_LABEL
from isthmus.injection.settings import wishes_of
from isthmus.injection.sidecar import proxy_container, unprivileged_ports, volumes
from isthmus.injection.workloads import NETWORK_LABEL, Owner, mesh_labels
from isthmus.installation.control_plane import PROXY_PORTS
from isthmus.installation.rights import account
from isthmus.installation.settings import InstallSettings
from isthmus.model.federation import domain_of
from isthmus.model.names import MeshId

Object = dict[str, Any]

NETWORK_GATEWAY = "istio-eastwestgateway"
INGRESS_GATEWAY = "istio-ingressgateway"
_STATUS = {"name": "status-port", "port": 15021, "targetPort": 15021}


def network_gateway(settings: InstallSettings, labels: Object) -> Iterator[Object]:
    """For the cluster's network. Remote clusters may reach their control plane through it, too."""
    network = settings["network"]
    leads_to_control_plane = settings["controlPlane.exposed"] == "gateway"
    for_peers = settings.is_on("federation.enabled")
    own = {"app": NETWORK_GATEWAY, "istio": "eastwestgateway", NETWORK_LABEL: network}
    ports = network_gateway_ports(exposed_ports() if leads_to_control_plane else (), for_peers=for_peers)
    environment = {"ISTIO_META_REQUESTED_NETWORK_VIEW": network}
    replicas, marks = settings["networkGateway.replicas"], {PEER_GATEWAY_PORT: str(GATEWAY_PORT)} if for_peers else {}
    yield from _gateway(settings, NETWORK_GATEWAY, own, labels, ports, environment, replicas, marks)


def ingress_gateway(settings: InstallSettings, labels: Object) -> Iterator[Object]:
    """What it serves, Gateway objects say."""
    own = {"app": INGRESS_GATEWAY, "istio": "ingressgateway"}
    ports = [
        _STATUS,
        {"name": "http2", "port": 80, "targetPort": 80},
        {"name": "https", "port": 443, "targetPort": 443},
    ]
    yield from _gateway(settings, INGRESS_GATEWAY, own, labels, ports, {}, "")


def _gateway(
    settings: InstallSettings,
    name: str,
    own: Object,
    labels: Object,
    ports: list[Object],
    environment: Mapping[str, str],
    replicas: str,
    marks: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Object]:
    """`marks` are labels of the Service alone."""
    namespace, service_account = settings["namespace"], f"{name}-service-account"
    yield account(service_account, namespace, labels)
    yield {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace, "labels": {**labels, **own, **marks}},
        "spec": {"type": "LoadBalancer", "selector": own, "ports": ports},
    }
    pod_labels = {**labels, **own}
    pod_labels |= mesh_labels(pod_labels, network=settings["network"], fallback_name=name)
    yield {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace, "labels": {**labels, **own}},
        "spec": {
            **({"replicas": int(replicas)} if replicas else {}),
            "selector": {"matchLabels": own},
            "strategy": {"rollingUpdate": {"maxSurge": "100%", "maxUnavailable": "25%"}, "type": "RollingUpdate"},
            "template": {
                # It is a proxy already: nothing is to be put beside it.
                "metadata": {"labels": {**pod_labels, POD_LABEL: "false"}},
                "spec": {
                    "serviceAccountName": service_account,
                    "securityContext": {"sysctls": unprivileged_ports()},
                    "containers": [_container(settings, name, environment, service_account)],
                    "volumes": volumes(),
                },
            },
        },
    }


def _container(settings: InstallSettings, name: str, environment: Mapping[str, str], service_account: str) -> Object:
    told = settings.injection
    container = proxy_container(
        "router", told, wishes_of({}, told), Owner("apps/v1", "Deployment", name), service_account=service_account
    )
    container["env"] += [{"name": key, "value": value} for key, value in environment.items()]
    return container


def network_gateway_ports(of_control_plane: Iterable[int], *, for_peers: bool) -> list[Object]:
    """Of its Service: for the mesh, and where these are wanted, for other meshes and for those who come to the control plane."""
    named = {"tls": 15443} | ({"tls-peers": GATEWAY_PORT} if for_peers else {})
    named |= {f"tls-istiod-{port}": port for port in of_control_plane}
    return [_STATUS, *({"name": name, "port": port, "targetPort": port} for name, port in named.items())]


def exposed_ports() -> list[int]:
    """Of the control plane, through a network gateway: proxies', and the webhooks'."""
    return [*PROXY_PORTS.values(), 15017]


def cross_network(namespace: str, labels: Object) -> Object:
    """Whoever comes by mutual TLS is passed through to the workload that the SNI names."""
    return _passing_through(
        "cross-network-gateway", namespace, labels, {15443: "tls"}, mode="AUTO_PASSTHROUGH", host="*.local"
    )


def for_peers(namespace: str, mesh: str, labels: Object) -> Object:
    """Other meshes are passed through to services that are exported: no others have names that say the mesh."""
    host = f"*.{domain_of(MeshId(mesh))}"
    return _passing_through(
        "peers-gateway", namespace, labels, {GATEWAY_PORT: "tls-peers"}, mode="AUTO_PASSTHROUGH", host=host
    )


def exposed_control_plane(
    namespace: str, service: str, ports: list[int], labels: Object, *, leads_to: str = ""
) -> Iterator[Object]:
    """Nothing is decrypted at the gateway: who asks for the control plane by its name is led to it, or to another Service that has the name, too."""
    host = f"{service}.{namespace}.svc"
    name = f"{service}-gateway"
    yield _passing_through(
        name, namespace, labels, {port: f"tls-istiod-{port}" for port in ports}, mode="PASSTHROUGH", host=host
    )
    yield {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": service, "namespace": namespace, "labels": labels},
        "spec": {
            "hosts": [host],
            "gateways": [name],
            "tls": [
                {
                    "match": [{"port": port, "sniHosts": [host]}],
                    "route": [
                        {
                            "destination": {
                                "host": f"{leads_to or service}.{namespace}.svc.cluster.local",
                                # The Service has the webhooks on 443.
                                "port": {"number": 443 if port == 15017 else port},
                            }
                        }
                    ],
                }
                for port in ports
            ],
        },
    }


def _passing_through(
    name: str, namespace: str, labels: Object, ports: Mapping[int, str], *, mode: str, host: str
) -> Object:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "Gateway",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {
            "selector": {"istio": "eastwestgateway"},
            "servers": [
                {
                    "port": {"number": number, "name": port_name, "protocol": "TLS"},
                    "tls": {"mode": mode},
                    "hosts": [host],
                }
                for number, port_name in ports.items()
            ],
        },
    }
