"""The objects with which a cluster of the local runtime begins: what `istioctl install` and a tutorial's YAML would have put there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from isthmus.api.crds import all_crds
from isthmus.kubernetes.kubeconfig import ContextEntry, render
from isthmus.localruntime.images import CONTROL_PLANE, PROXY
from isthmus.localruntime.plan import ClusterPlan, Plan

Object = dict[str, Any]

SYSTEM = "istio-system"
READER = "istio-reader-service-account"
GATEWAY = "istio-eastwestgateway"
_READ = ["get", "list", "watch"]


def nodes(cluster: ClusterPlan) -> Iterator[Object]:
    """All Nodes are this machine."""
    for node in cluster.nodes:
        labels = {
            "kubernetes.io/hostname": node.name,
            "kubernetes.io/os": "linux",
            "topology.kubernetes.io/region": node.region,
            "topology.kubernetes.io/zone": node.zone,
        }
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "the local runtime runs"}
        yield {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": node.name, "labels": labels},
            "spec": {},
            "status": {
                "conditions": [ready],
                "addresses": [{"type": "Hostname", "address": node.name}],
                "nodeInfo": {"kubeletVersion": "isthmus-local"},
            },
        }


def system(plan: Plan, cluster: ClusterPlan, authority: Object) -> Iterator[Object]:
    """What a cluster has before the first workload: definitions, the mesh's namespace, rights, control plane, gateway."""
    yield from all_crds()
    yield from nodes(cluster)
    yield _namespace(SYSTEM, {"topology.istio.io/network": cluster.network})
    yield authority
    yield _account("istiod", SYSTEM)
    yield _account(READER, SYSTEM)
    yield from _bound("istiod-clusterrole-istio-system", "istiod", _control_plane_rules())
    yield from _bound("istio-reader-clusterrole-istio-system", READER, _reader_rules())
    yield from control_plane(plan, cluster)
    yield from network_gateway(cluster)


def control_plane(plan: Plan, cluster: ClusterPlan) -> Iterator[Object]:
    """`istiod`, in the cluster that is its own primary."""
    ports = {"https-dns": 15012, "https-mtls": 15013, "http-monitoring": 15014}
    labels = {"app": "istiod", "istio": "pilot", "istio.io/rev": "default"}
    yield {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "istiod", "namespace": SYSTEM, "labels": labels},
        "spec": {
            "clusterIP": control_plane_address(cluster),
            "selector": {"app": "istiod"},
            "ports": [{"name": name, "port": port, "targetPort": port} for name, port in ports.items()],
        },
    }
    environment = {
        "CLUSTER_ID": cluster.id,
        "MESH_ID": plan.mesh,
        "TRUST_DOMAIN": plan.trust_domain,
    }
    container = {
        "name": "discovery",
        "image": CONTROL_PLANE,
        "env": [
            *({"name": name, "value": value} for name, value in environment.items()),
            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "POD_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
        ],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}, "periodSeconds": 3},
    }
    yield _deployment("istiod", SYSTEM, labels, "istiod", [container])


def control_plane_address(cluster: ClusterPlan) -> str:
    """The fixed ClusterIP of `istiod`: agents know it before anything else runs."""
    return f"{cluster.service_cidr.rpartition('.')[0]}.15"


def network_gateway(cluster: ClusterPlan) -> Iterator[Object]:
    """The east-west gateway of the cluster's network, and the Services that it exposes to the mesh."""
    account = f"{GATEWAY}-service-account"
    labels = {"app": GATEWAY, "istio": "eastwestgateway", "topology.istio.io/network": cluster.network}
    yield _account(account, SYSTEM)
    yield {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": GATEWAY, "namespace": SYSTEM, "labels": labels},
        "spec": {
            "type": "LoadBalancer",
            "selector": {"istio": "eastwestgateway"},
            "ports": [
                {"name": "status-port", "port": 15021, "targetPort": 15021},
                {"name": "tls", "port": 15443, "targetPort": 15443},
            ],
        },
    }
    container = {
        "name": "istio-proxy",
        "image": PROXY,
        "args": ["proxy", "router"],
        "env": [{"name": "ISTIO_META_REQUESTED_NETWORK_VIEW", "value": cluster.network}],
        "readinessProbe": {"httpGet": {"path": "/healthz/ready", "port": 15021}, "periodSeconds": 2},
    }
    yield _deployment(GATEWAY, SYSTEM, labels, account, [container])
    yield {
        "apiVersion": "networking.istio.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "cross-network-gateway", "namespace": SYSTEM},
        "spec": {
            "selector": {"istio": "eastwestgateway"},
            "servers": [
                {
                    "port": {"number": 15443, "name": "tls", "protocol": "TLS"},
                    "tls": {"mode": "AUTO_PASSTHROUGH"},
                    "hosts": ["*.local"],
                }
            ],
        },
    }


def remote_secret(cluster: ClusterPlan, ca_pem: str, token: str) -> Object:
    """With it, another control plane may read `cluster`."""
    kubeconfig = render([ContextEntry(name=cluster.id, server=cluster.api_url, ca_pem=ca_pem, token=token)])
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": f"istio-remote-secret-{cluster.id}",
            "namespace": SYSTEM,
            "labels": {"istio/multiCluster": "true"},
            "annotations": {"networking.istio.io/cluster": cluster.id},
        },
        "type": "Opaque",
        "stringData": {cluster.id: kubeconfig},
    }


def _control_plane_rules() -> list[Object]:
    """What it reads of its own cluster, and the two things that it writes: roots for everybody, its own authority."""
    return [
        *_reader_rules(),
        {"apiGroups": ["networking.istio.io", "security.istio.io"], "resources": ["*"], "verbs": _READ},
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": [*_READ, "create", "patch"]},
        {"apiGroups": [""], "resources": ["secrets"], "verbs": [*_READ, "create"]},
    ]


def _reader_rules() -> list[Object]:
    return [
        {"apiGroups": [""], "resources": ["namespaces", "nodes", "pods", "services"], "verbs": _READ},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": _READ},
        {"apiGroups": ["multicluster.x-k8s.io"], "resources": ["serviceexports", "serviceimports"], "verbs": _READ},
        {"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]},
    ]


def _bound(role: str, account: str, rules: list[Object]) -> Iterator[Object]:
    group = "rbac.authorization.k8s.io"
    yield {"apiVersion": f"{group}/v1", "kind": "ClusterRole", "metadata": {"name": role}, "rules": rules}
    yield {
        "apiVersion": f"{group}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": role},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": SYSTEM}],
    }


def _namespace(name: str, labels: Object) -> Object:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def _account(name: str, namespace: str) -> Object:
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}}


def _deployment(name: str, namespace: str, labels: Object, account: str, containers: list[Object]) -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"serviceAccountName": account, "containers": containers},
            },
        },
    }
