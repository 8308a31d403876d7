"""The cluster set: what ServiceExports and ServiceImports (KEP-1645) make of services, where the mesh heeds them.

A ServiceImport gives a service a second name, `NAME.NAMESPACE.svc.clusterset.local`, with the address that each cluster's import has; ports
and endpoints are the service's own. A headless one has no address: its second name leads to its Pods. Endpoints of clusters that do not export
a service are for their own cluster alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from isthmus.api.multicluster import ServiceImport
from isthmus.ingest.inputs import ClusterInput
from isthmus.model.names import ClusterId, Hostname, Namespace, ServiceKey
from isthmus.model.services import Service
from isthmus.model.snapshot import MeshSettings
from isthmus.model.workloads import Endpoint

_CLUSTER_SET_IP, _HEADLESS = "ClusterSetIP", "Headless"

Services = dict[ServiceKey, Service]
Endpoints = dict[ServiceKey, tuple[Endpoint, ...]]


def apply_cluster_set(
    services: Services, endpoints: Endpoints, clusters: Sequence[ClusterInput], settings: MeshSettings
) -> None:
    """Changes both in place, as the settings say; without any of them nothing."""
    rules = settings.cluster_set
    imports = _imports(clusters, settings.dns_domain) if rules.hosts else {}
    if rules.exports:
        exporting = _exporting(clusters, settings.dns_domain)
        for key, found in endpoints.items():
            if key in services and services[key].registry == "Kubernetes":
                endpoints[key] = tuple(_restricted(each, exporting.get(key, frozenset())) for each in found)
    for key, addresses in sorted(imports.items()):
        service = services.get(key)
        if service is None or service.headless != (not addresses):
            continue
        set_key = ServiceKey(key.namespace, _set_name(key, settings))
        services[set_key] = replace(
            service,
            hostname=set_key.hostname,
            name=set_key.hostname,
            entry=service.name,
            virtual_ips=tuple(sorted(addresses.items())),
            cluster_local=False,
        )
        endpoints[set_key] = tuple(replace(each, service=set_key) for each in endpoints.get(key, ()))
        if rules.own_cluster_names:
            services[key] = replace(service, cluster_local=True)


def _restricted(endpoint: Endpoint, exporting: frozenset[ClusterId]) -> Endpoint:
    return endpoint if endpoint.cluster in exporting else replace(endpoint, own_cluster_only=True)


def _exporting(clusters: Sequence[ClusterInput], dns_domain: str) -> dict[ServiceKey, frozenset[ClusterId]]:
    found: dict[ServiceKey, set[ClusterId]] = {}
    for cluster in clusters:
        for namespace, name in cluster.objects.get("ServiceExport", {}):
            found.setdefault(_key(namespace, name, dns_domain), set()).add(cluster.id)
    return {key: frozenset(ids) for key, ids in found.items()}


def _imports(
    clusters: Sequence[ClusterInput], dns_domain: str
) -> Mapping[ServiceKey, dict[ClusterId, tuple[str, ...]]]:
    """The addresses of those that have any, none of those that are headless. One that should have one and has not is not finished yet."""
    found: dict[ServiceKey, dict[ClusterId, tuple[str, ...]]] = {}
    for cluster in clusters:
        for (namespace, name), obj in cluster.objects.get("ServiceImport", {}).items():
            if not isinstance(obj, ServiceImport):
                continue
            key = _key(namespace, name, dns_domain)
            if obj.spec.type == _HEADLESS:
                found.setdefault(key, {})
            elif obj.spec.type == _CLUSTER_SET_IP and obj.spec.ips:
                found.setdefault(key, {})[cluster.id] = tuple(obj.spec.ips)
    return found


def _key(namespace: str, name: str, dns_domain: str) -> ServiceKey:
    return ServiceKey(Namespace(namespace), Hostname(f"{name}.{namespace}.svc.{dns_domain}"))


def _set_name(key: ServiceKey, settings: MeshSettings) -> Hostname:
    return Hostname(key.hostname.removesuffix(settings.dns_domain) + settings.cluster_set.domain)
