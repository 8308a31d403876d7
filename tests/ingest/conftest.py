"""Objects in few words, and the mesh that they say."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from isthmus.api.registry import KINDS, decode, kind_of
from isthmus.ingest.cache import IngestCache
from isthmus.ingest.inputs import ClusterInput
from isthmus.ingest.snapshot import read
from isthmus.model.identity import TrustDomain
from isthmus.model.names import ClusterId, MeshId
from isthmus.model.snapshot import MeshSettings, Snapshot
from isthmus.model.topology import ImportState

SETTINGS = MeshSettings(mesh=MeshId("m"), trust_domain=TrustDomain("cluster.local"))


def obj(
    kind: str, name: str, namespace: str = "ns", labels: dict[str, str] | None = None, **fields: Any
) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace, "labels": labels or {}}
    return {"kind": kind, "metadata": metadata, **fields}


def service(
    name: str = "s", ip: str = "10.96.0.1", labels: dict[str, str] | None = None, **spec: Any
) -> dict[str, Any]:
    ports = spec.pop("ports", [{"name": "http", "port": 80}])
    status = spec.pop("status", {})
    return obj("Service", name, labels=labels, spec={"clusterIP": ip, "ports": ports, **spec}, status=status)


def pod(name: str, ip: str, labels: dict[str, str] | None = None, node: str = "", account: str = "") -> dict[str, Any]:
    labels = {"security.istio.io/tlsMode": "istio"} | (labels or {})
    return obj("Pod", name, labels=labels, spec={"nodeName": node, "serviceAccountName": account}, status={"podIP": ip})


def slice_(name: str, *addresses: str, service: str = "s", **conditions: bool) -> dict[str, Any]:
    endpoints = [{"addresses": [address], "conditions": conditions} for address in addresses]
    labels = {"kubernetes.io/service-name": service}
    ports = [{"name": "http", "port": 8080}]
    return obj("EndpointSlice", name, labels=labels, addressType="IPv4", ports=ports, endpoints=endpoints)


def network(name: str) -> dict[str, Any]:
    return obj("Namespace", "istio-system", "", {"topology.istio.io/network": name})


def cluster(name: str, *objects: dict[str, Any]) -> ClusterInput:
    decoded: dict[str, dict[tuple[str, str], object]] = {}
    for each in objects:
        kind = kind_of(each.get("apiVersion", ""), each["kind"]) or KINDS[each["kind"]]
        key = (each["metadata"]["namespace"], each["metadata"]["name"])
        decoded.setdefault(kind.key, {})[key] = decode(kind, each)
    return ClusterInput(id=ClusterId(name), state=ImportState.LIVE, objects=decoded)


def snapshot(*clusters: ClusterInput, cache: IngestCache | None = None) -> Snapshot:
    return read(SETTINGS, clusters, clusters[0].id, cache or IngestCache()).snapshot


def snapshot_with(clusters: list[ClusterInput], config: str, cache: IngestCache | None) -> Snapshot:
    return read(SETTINGS, clusters, ClusterId(config), cache or IngestCache()).snapshot


@pytest.fixture
def words() -> Any:
    return SimpleNamespace(**{name: value for name, value in globals().items() if callable(value)})
