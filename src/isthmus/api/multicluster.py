"""The Multi-Cluster Services API (multicluster.x-k8s.io), as far as the mesh reads and writes it."""

from __future__ import annotations

from typing import Any

import msgspec

from isthmus.api.meta import KubernetesObject, PortNumber, Wire


class ServiceExport(KubernetesObject, frozen=True):
    status: dict[str, Any] = {}


class ServiceImportPort(Wire, frozen=True):
    port: PortNumber
    name: str = ""
    protocol: str = "TCP"
    app_protocol: str = ""


class ServiceImportSpec(Wire, frozen=True):
    type: str = ""
    ips: list[str] = []
    ports: list[ServiceImportPort] = []
    session_affinity: str = ""
    session_affinity_config: dict[str, Any] = {}


class ServiceImport(KubernetesObject, frozen=True):
    spec: ServiceImportSpec = msgspec.field(default_factory=ServiceImportSpec)
    status: dict[str, Any] = {}
