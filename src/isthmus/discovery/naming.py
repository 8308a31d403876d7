"""Which addresses a name gets from this proxy's point of view: virtual addresses, and the DNS name table.

A proxy's own cluster's address wins. A name that its cluster has no address for gets one of the whole mesh, where its applications ask this
mesh for names: another cluster's address may be somebody else's here. Where they do not ask, the first declaring cluster's stands for it,
as in Istio. A headless service resolves to its endpoints on the proxy's own network, and to an address of the mesh where none are on that.
Names of Pods may say the cluster, too; in the cluster set they have to (KEP-1645). Addresses that a proxy cannot call, because it has IPv4 or
IPv6 alone, are not told.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from enum import Enum

from isthmus.discovery.families import family_of
from isthmus.discovery.headless import as_called
from isthmus.discovery.sight import Sight
from isthmus.model.names import UNDECLARED_NETWORK, ClusterId
from isthmus.model.services import Service
from isthmus.model.snapshot import Snapshot
from isthmus.model.views import NameRecord, Scope
from isthmus.model.workloads import Endpoint, Health


class Source(Enum):
    """Whose an address is."""

    OWN_CLUSTER = "own cluster"
    MESH = "mesh"
    OTHER_CLUSTER = "other cluster"


def virtual_ips(scope: Scope, service: Service) -> tuple[str, ...]:
    """What applications beside this proxy resolve the service to; empty for a headless one."""
    return addresses(scope, service)[0]


def addresses(scope: Scope, service: Service) -> tuple[tuple[str, ...], Source]:
    """The same, and whose addresses these are."""
    own = (service.ips_in(scope.cluster), Source.OWN_CLUSTER)
    of_mesh = (service.allocated if scope.captures_names else (), Source.MESH)
    for ips, source in (own, of_mesh, *((ips, Source.OTHER_CLUSTER) for _, ips in service.virtual_ips)):
        usable = tuple(ip for ip in ips if family_of(ip) in scope.ip_families)
        if usable:
            return usable, source
    return (), Source.OWN_CLUSTER


def name_table(scope: Scope, sight: Sight, snapshot: Snapshot) -> tuple[NameRecord, ...]:
    """Every name that the proxy may know and that has an address, sorted by host. A Service of type ExternalName is a name of what it leads to,
    also where only another cluster declares that.
    """
    records: list[NameRecord] = []
    for key in sight.ports:
        service = as_called(scope, snapshot.services[key])
        found = list(_records(scope, service, snapshot))
        records += found
        whole = next((each for each in found if each.host == service.hostname), None)
        if whole is not None:
            domain = snapshot.settings.dns_domain
            records += (
                replace(whole, host=f"{name}.{namespace}.svc.{domain}", short_name=name, namespace=namespace)
                for namespace, name in service.aliases
            )
    return tuple(sorted(records))


def _records(scope: Scope, service: Service, snapshot: Snapshot) -> Iterator[NameRecord]:
    if service.headless:
        is_of_set = service.hostname.endswith(f".{snapshot.settings.cluster_set.domain}")
        yield from _headless(scope, service, snapshot.endpoints.get(service.key, ()), is_of_set=is_of_set)
    elif ips := virtual_ips(scope, service):
        yield _record(service, service.hostname, service.name, ips)


def names_of_cluster(cluster: ClusterId, snapshot: Snapshot) -> tuple[NameRecord, ...]:
    """What a cluster's own DNS knows, sorted by host: its own Services under their full names, and Pods of its headless ones. It has heard of
    no other cluster, and asks nobody what a proxy may see.
    """
    domain = snapshot.settings.dns_domain
    records: list[NameRecord] = []
    for key, service in sorted(snapshot.services.items()):
        if service.is_second_name or cluster not in service.declared_in or not key.hostname.endswith(f".svc.{domain}"):
            continue
        own = service.ips_in(cluster)
        endpoints = [
            each for each in snapshot.endpoints.get(key, ()) if each.cluster == cluster and _is_named(service, each)
        ]
        ips = own or tuple(dict.fromkeys(each.ip for each in endpoints))
        hosts = [key.hostname, *(f"{name}.{namespace}.svc.{domain}" for namespace, name in service.aliases)]
        records += [_full(service, host, ips) for host in hosts if ips]
        pods = {each.hostname: each.ip for each in reversed(endpoints) if each.hostname and not own}
        records += [_full(service, f"{pod}.{key.hostname}", (ip,)) for pod, ip in pods.items()]
    return tuple(sorted(records))


def _full(service: Service, host: str, ips: tuple[str, ...]) -> NameRecord:
    """A name that has no short spelling: completing it is the asking resolver's work."""
    return NameRecord(host=host, ips=ips, registry="", short_name=service.name, namespace=service.namespace)


def _is_named(service: Service, endpoint: Endpoint) -> bool:
    return endpoint.health is Health.HEALTHY or service.publishes_not_ready


def _headless(
    scope: Scope, service: Service, endpoints: Sequence[Endpoint], *, is_of_set: bool
) -> Iterator[NameRecord]:
    """The service's own name for all, and names for each Pod that has one. An own-cluster Pod wins a name that says no cluster.

    Endpoints are told apart by network and address: another network's Pod may have the same address and is not reachable by it.
    """
    near = [
        endpoint
        for endpoint in endpoints
        if _is_named(service, endpoint)
        and not (endpoint.own_cluster_only and endpoint.cluster != scope.cluster)
        and _same_network(scope, endpoint)
        and family_of(endpoint.ip) in scope.ip_families
    ]
    near.sort(key=lambda endpoint: (endpoint.cluster != scope.cluster, endpoint.cluster, endpoint.ip))
    ips = tuple(dict.fromkeys(endpoint.ip for endpoint in near))
    if ips:
        yield _record(service, service.hostname, service.name, ips)
    by_hostname: dict[str, str] = {}
    for endpoint in near:
        if endpoint.hostname and not is_of_set:
            by_hostname.setdefault(endpoint.hostname, endpoint.ip)
        if endpoint.hostname and (is_of_set or _says_cluster(service, endpoint, near)):
            by_hostname.setdefault(f"{endpoint.hostname}.{endpoint.cluster.lower()}", endpoint.ip)
    for hostname, ip in by_hostname.items():
        yield _record(service, f"{hostname}.{service.hostname}", f"{hostname}.{service.name}", (ip,))


def _says_cluster(service: Service, pod: Endpoint, near: Sequence[Endpoint]) -> bool:
    """Over networks wherever there could be two of a name, so that names stay while Pods come and go; within one where there are."""
    if service.near_in is not None:
        return len(service.declared_in) > 1
    return any(each.hostname == pod.hostname and each.cluster != pod.cluster for each in near)


def _record(service: Service, host: str, short_name: str, ips: tuple[str, ...]) -> NameRecord:
    return NameRecord(host=host, ips=ips, registry=service.registry, short_name=short_name, namespace=service.namespace)


def _same_network(scope: Scope, endpoint: Endpoint) -> bool:
    return UNDECLARED_NETWORK in (scope.network, endpoint.network) or scope.network == endpoint.network
