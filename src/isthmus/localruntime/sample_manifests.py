"""The samples as objects: a namespace whose Pods get sidecars, and in it a Service, an account and a Deployment for each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from isthmus.localruntime.plan import ClusterPlan

Object = dict[str, Any]

NAMESPACE = "sample"


@dataclass(frozen=True, slots=True)
class _Sample:
    """`ports` are (name, number) of its Service; without any it has none. `ready` is the probe."""

    ports: tuple[tuple[str, int], ...]
    ready: Object | None
    versioned: bool


_SAMPLES = {
    "helloworld": _Sample((("http", 5000),), {"httpGet": {"path": "/hello", "port": 5000}}, versioned=True),
    "client": _Sample((), None, versioned=False),
    "tcp-echo": _Sample((("tcp", 9000), ("tcp-other", 9001)), {"tcpSocket": {"port": 9000}}, versioned=True),
    "grpc-echo": _Sample((("grpc", 7070),), {"tcpSocket": {"port": 7070}}, versioned=True),
}

NAMES = tuple(_SAMPLES)


def is_versioned(name: str) -> bool:
    """Whether clusters run the sample in versions of their own."""
    return _SAMPLES[name].versioned


def samples(cluster: ClusterPlan) -> Iterator[Object]:
    """All workloads that the plan has for a cluster."""
    if cluster.workloads:
        by_default = "default" in cluster.control_plane_names
        named = (*cluster.tags, *cluster.revisions)[0]
        labels = {"istio-injection": "enabled"} if by_default else {"istio.io/rev": named}
        yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}
    for name in sorted({workload.sample for workload in cluster.workloads}):
        yield {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": _metadata(name)}
        if _SAMPLES[name].ports:
            yield _service(name, _SAMPLES[name])
    for workload in cluster.workloads:
        yield _deployment(cluster, workload.sample, workload.version, _SAMPLES[workload.sample])


def _service(name: str, sample: _Sample) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(name) | {"labels": {"app": name, "service": name}},
        "spec": {
            "selector": {"app": name},
            "ports": [{"name": port, "port": number, "targetPort": number} for port, number in sample.ports],
        },
    }


def _deployment(cluster: ClusterPlan, name: str, version: str, sample: _Sample) -> Object:
    labels = {"app": name} | ({"version": version} if sample.versioned else {})
    container: Object = {
        "name": name,
        "image": f"isthmus/{name}",
        "env": [
            {"name": "SERVICE_VERSION", "value": version},
            {"name": "CLUSTER_ID", "value": cluster.id},
            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        ],
        "ports": [{"name": port, "containerPort": number} for port, number in sample.ports],
    }
    if sample.ready:
        container["readinessProbe"] = sample.ready | {"periodSeconds": 2}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(f"{name}-{version}" if sample.versioned else name) | {"labels": labels},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "serviceAccountName": name,
                    "terminationGracePeriodSeconds": 10,
                    "containers": [container],
                },
            },
        },
    }


def _metadata(name: str) -> Object:
    return {"name": name, "namespace": NAMESPACE}
