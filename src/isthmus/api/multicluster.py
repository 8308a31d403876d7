"""The Multi-Cluster Services API (multicluster.x-k8s.io), as far as the mesh reads it."""

from __future__ import annotations

import msgspec

from isthmus.api.meta import KubernetesObject, Wire


class ServiceExport(KubernetesObject, frozen=True):
    pass


class ServiceImportSpec(Wire, frozen=True):
    type: str = ""
    ips: list[str] = []


class ServiceImport(KubernetesObject, frozen=True):
    spec: ServiceImportSpec = msgspec.field(default_factory=ServiceImportSpec)
