"""Headless services in a mesh of several networks: names for callers to whom no Pod's own address means anything.

A headless service's name leads to its Pods, and a Pod's to the Pod; on another network these addresses are somebody else's, or nobody's. So
each such Pod becomes a service of its own beside the headless one, with one workload behind it, and both get addresses of the mesh. Callers
elsewhere connect to these, and network gateways pass connections through by the Pod's name as they do by any service's.

`POD.SERVICE.NAMESPACE.svc.…` is one Pod. Where several clusters have a Pod of the name, it is to each network the one that it has itself, and
elsewhere that of the first cluster by id; `POD.CLUSTER.SERVICE.NAMESPACE.svc.…` says which is meant. In the cluster set that is the only form
(KEP-1645).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from dataclasses import replace

from isthmus.ingest.allocation import addresses_of_pods
from isthmus.ingest.cache import IngestCache
from isthmus.model.issues import Issue, Severity, Subject
from isthmus.model.names import UNDECLARED_NETWORK, ClusterId, Hostname, NetworkId, ServiceKey
from isthmus.model.services import Service
from isthmus.model.snapshot import MeshSettings
from isthmus.model.values import dataclass
from isthmus.model.workloads import Endpoint


@dataclass(frozen=True, slots=True)
class Networks:
    """Those that have a name: all from which somebody may call, and the ones among them that a gateway leads to."""

    all: frozenset[NetworkId]
    entered: frozenset[NetworkId]


@dataclass(frozen=True, slots=True)
class PodName:
    """`endpoints`: one Pod's addresses. `near_in`: networks on which the name leads to a Pod itself. `others`: clusters with one of the name, too."""

    host: Hostname
    endpoints: tuple[Endpoint, ...]
    near_in: tuple[NetworkId, ...]
    others: tuple[ClusterId, ...] = ()


def apply_headless(
    services: dict[ServiceKey, Service],
    endpoints: dict[ServiceKey, tuple[Endpoint, ...]],
    networks: Networks,
    settings: MeshSettings,
    cache: IngestCache,
) -> list[Issue]:
    """Adds to both in place. What nothing leads to has no name elsewhere. What a name is to whom is told where it may surprise."""
    found: dict[ServiceKey, Service] = {}
    behind: dict[ServiceKey, tuple[Endpoint, ...]] = {}
    issues: list[Issue] = []
    for key in sorted(key for key, each in services.items() if each.headless):
        service, everybody = services[key], endpoints.get(key, ())
        near = networks_of(everybody)
        if not networks.entered.intersection(near) or not _is_called_from_elsewhere(service, near, networks.all):
            continue
        found[key] = cache.once(
            ("near", key, near),
            (service,),
            lambda service=service, near=near: replace(service, near_in=near),  # type: ignore[misc]
        )
        for pod in pod_names(service, everybody, settings.cluster_set.domain):
            pod_key = ServiceKey(key.namespace, pod.host)
            reached = networks.entered.intersection(networks_of(pod.endpoints))
            if pod_key not in services and reached and networks.all - set(pod.near_in):
                found[pod_key] = cache.once(
                    ("pod", pod_key, pod.near_in),
                    (service,),
                    lambda service=service, pod=pod: _as_service(service, pod),  # type: ignore[misc]
                )
                behind[pod_key] = of_pod(pod_key, pod)
                issues += _ambiguous(service, pod)
    given = cache.once(("addresses of Pods", tuple(found)), (), lambda: addresses_of_pods(found))
    for key, addresses in given.items():
        service = found[key]
        services[key] = cache.once(
            ("headless", key, addresses),
            (service,),
            lambda service=service, addresses=addresses: replace(service, allocated=addresses),  # type: ignore[misc]
        )
    endpoints |= behind
    return issues


def _is_called_from_elsewhere(service: Service, near: tuple[NetworkId, ...], networks: Set[NetworkId]) -> bool:
    """Whether there are callers to whom an address of some Pod of it means nothing."""
    return (
        not service.cluster_local
        and service.registry == "Kubernetes"
        and bool(near)
        and UNDECLARED_NETWORK not in near
        and len(networks | set(near)) > 1
    )


def networks_of(endpoints: Iterable[Endpoint]) -> tuple[NetworkId, ...]:
    return tuple(sorted({endpoint.network for endpoint in endpoints}))


def pod_names(service: Service, endpoints: Iterable[Endpoint], set_domain: str) -> Iterator[PodName]:
    """Sorted. Pods that stay in their cluster have none: their own cluster's DNS knows them."""
    by_pod: dict[str, dict[ClusterId, list[Endpoint]]] = {}
    for endpoint in endpoints:
        if endpoint.hostname and not endpoint.own_cluster_only:
            by_pod.setdefault(endpoint.hostname, {}).setdefault(endpoint.cluster, []).append(endpoint)
    is_of_set = service.hostname.endswith(f".{set_domain}")
    for pod, by_cluster in sorted(by_pod.items()):
        everybody = [each for found in by_cluster.values() for each in found]
        if not is_of_set:
            first, *others = sorted(by_cluster)
            host = Hostname(f"{pod}.{service.hostname}")
            yield PodName(host, tuple(by_cluster[first]), networks_of(everybody), tuple(others))
        if is_of_set or len(service.declared_in) > 1:
            for cluster, found in sorted(by_cluster.items()):
                host = Hostname(f"{pod}.{cluster.lower()}.{service.hostname}")
                yield PodName(host, tuple(found), networks_of(found))


def of_pod(key: ServiceKey, pod: PodName) -> tuple[Endpoint, ...]:
    """The endpoints of the service that the Pod is."""
    return tuple(replace(each, service=key) for each in pod.endpoints)


def shape_of(service: Service, endpoints: tuple[Endpoint, ...], set_domain: str) -> object:
    """All that there being services for Pods depends on: as long as it stays, only what is behind them changes."""
    names = pod_names(service, endpoints, set_domain)
    return networks_of(endpoints), [(pod.host, pod.near_in, pod.endpoints[0].cluster, pod.others) for pod in names]


def _as_service(service: Service, pod: PodName) -> Service:
    name = pod.host.removesuffix(service.hostname) + service.name
    return replace(
        service, hostname=pod.host, name=name, headless=False, near_in=pod.near_in, pod_of=service.key, aliases=()
    )


def _ambiguous(service: Service, pod: PodName) -> Iterator[Issue]:
    if pod.others:
        here, name = pod.endpoints[0].cluster, pod.host.partition(".")[0]
        yield Issue(
            subject=Subject(here, "Service", service.namespace, service.name),
            code="ISM0111",
            severity=Severity.INFO,
            what=f"Pods named {name} are in {', '.join((here, *pod.others))}: from networks that have none, {pod.host} is that of {here}",
            fix=f"call {name}.CLUSTER.{service.hostname} to say which one is meant",
        )
