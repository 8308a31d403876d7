"""Istio's EnvoyFilter, as far as the mesh reads it."""

from __future__ import annotations

from typing import Any

import msgspec

from isthmus.api.meta import KubernetesObject, Wire
from isthmus.api.security import TargetReference


class WorkloadSelector(Wire, frozen=True):
    labels: dict[str, str] = {}


class ProxyMatch(Wire, frozen=True):
    proxy_version: str = ""
    metadata: dict[str, str] = {}


class SubFilterMatch(Wire, frozen=True):
    name: str = ""


class FilterMatch(Wire, frozen=True):
    name: str = ""
    sub_filter: SubFilterMatch | None = None


class FilterChainMatch(Wire, frozen=True):
    name: str = ""
    sni: str = ""
    transport_protocol: str = ""
    application_protocols: str = ""
    destination_port: int = 0
    filter: FilterMatch | None = None


class ListenerMatch(Wire, frozen=True):
    port_number: int = 0
    port_name: str = ""
    name: str = ""
    listener_filter: str = ""
    filter_chain: FilterChainMatch | None = None


class RouteMatch(Wire, frozen=True):
    name: str = ""
    action: str = "ANY"


class VirtualHostMatch(Wire, frozen=True):
    name: str = ""
    domain_name: str = ""
    route: RouteMatch | None = None


class RouteConfigurationMatch(Wire, frozen=True):
    port_number: int = 0
    port_name: str = ""
    gateway: str = ""
    name: str = ""
    vhost: VirtualHostMatch | None = None


class ClusterMatch(Wire, frozen=True):
    port_number: int = 0
    service: str = ""
    subset: str = ""
    name: str = ""


class PatchMatch(Wire, frozen=True):
    context: str = "ANY"
    proxy: ProxyMatch | None = None
    listener: ListenerMatch | None = None
    route_configuration: RouteConfigurationMatch | None = None
    cluster: ClusterMatch | None = None


class Patch(Wire, frozen=True):
    operation: str = ""
    value: dict[str, Any] | None = None
    filter_class: str = "UNSPECIFIED"


class ConfigPatch(Wire, frozen=True):
    apply_to: str = ""
    match: PatchMatch = msgspec.field(default_factory=PatchMatch)
    patch: Patch = msgspec.field(default_factory=Patch)


class EnvoyFilterSpec(Wire, frozen=True):
    workload_selector: WorkloadSelector | None = None
    target_refs: list[TargetReference] = []
    config_patches: list[ConfigPatch] = []
    priority: int = 0


class EnvoyFilter(KubernetesObject, frozen=True):
    spec: EnvoyFilterSpec = msgspec.field(default_factory=EnvoyFilterSpec)
