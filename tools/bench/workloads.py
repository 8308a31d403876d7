"""What is in the mesh: services, endpoints, policies and proxies of a workload, as Kubernetes objects."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

SYSTEM = "istio-system"
Object = dict[str, Any]
_NODES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """`services`, `endpoints` (of each service) and `proxies` are of the whole mesh; each cluster has a network of its own."""

    name: str
    services: int
    endpoints: int
    proxies: int
    clusters: int
    namespaces: int
    virtual_services: int
    destination_rules: int
    authorization_policies: int

    @property
    def networks(self) -> list[str]:
        return [network_of(cluster) for cluster in range(self.clusters)]


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload(
            name="S",
            services=100,
            endpoints=5,
            proxies=100,
            clusters=1,
            namespaces=10,
            virtual_services=10,
            destination_rules=20,
            authorization_policies=5,
        ),
        Workload(
            name="M",
            services=1000,
            endpoints=10,
            proxies=1000,
            clusters=3,
            namespaces=50,
            virtual_services=100,
            destination_rules=200,
            authorization_policies=50,
        ),
        Workload(
            name="L",
            services=5000,
            endpoints=10,
            proxies=5000,
            clusters=5,
            namespaces=200,
            virtual_services=500,
            destination_rules=1000,
            authorization_policies=250,
        ),
    )
}


def tenfold(workload: Workload, what: str) -> Workload:
    """The workload with ten times the services, endpoints, proxies or clusters."""
    return replace(workload, name=f"{workload.name}, 10 times the {what}", **{what: getattr(workload, what) * 10})


def half(workload: Workload) -> Workload:
    """Half of everything but clusters and endpoints of a service."""
    halved = ("services", "proxies", "namespaces", "virtual_services", "destination_rules", "authorization_policies")
    return replace(workload, name=f"half of {workload.name}", **{what: getattr(workload, what) // 2 for what in halved})


def network_of(cluster: int) -> str:
    return f"network-{cluster}"


def cluster_of(cluster: int) -> str:
    return f"cluster-{cluster}"


def namespace_of(number: int) -> str:
    return f"isthmus-bench-{number}"


@dataclass(frozen=True, slots=True)
class ProxyPlace:
    """Where a simulated proxy is: it is one endpoint of one service, or a caller."""

    number: int
    cluster: int
    namespace: str
    service: str
    ip: str

    @property
    def name(self) -> str:
        return f"{self.service}-{self.number}"

    @property
    def labels(self) -> dict[str, str]:
        return {
            "app": self.service,
            "version": "v1",
            "security.istio.io/tlsMode": "istio",
            "service.istio.io/canonical-name": self.service,
            "service.istio.io/canonical-revision": "v1",
        }


def service_of(workload: Workload, number: int) -> tuple[str, str]:
    """Namespace and name."""
    return namespace_of(number % workload.namespaces), f"svc-{number}"


def places(workload: Workload) -> Iterator[ProxyPlace]:
    """Every endpoint of the mesh, in an order in which the first N are of as many services as possible."""
    number = 0
    for index in range(workload.endpoints):
        for service in range(workload.services):
            namespace, name = service_of(workload, service)
            cluster = (service + index) % workload.clusters
            yield ProxyPlace(number, cluster, namespace, name, _ip(number))
            number += 1


def callers(workload: Workload) -> Iterator[ProxyPlace]:
    """Proxies beyond one for each endpoint: they call, and nobody calls them."""
    for number in range(workload.services * workload.endpoints, workload.proxies):
        cluster = number % workload.clusters
        yield ProxyPlace(number, cluster, namespace_of(number % workload.namespaces), f"caller-{number}", _ip(number))


def proxied(workload: Workload) -> Iterator[ProxyPlace]:
    """Where there are proxies."""
    yield from islice(places(workload), workload.proxies)
    yield from callers(workload)


def _ip(number: int) -> str:
    return f"10.{number >> 16 & 0xFF}.{number >> 8 & 0xFF}.{number & 0xFF}"


def namespaces(workload: Workload, cluster: int) -> Iterator[Object]:
    """And the nodes. The system's namespace says the network."""
    labels = {"topology.istio.io/network": network_of(cluster)} if workload.clusters > 1 else {}
    yield _object("v1", "Namespace", SYSTEM, "", labels=labels)
    for number in range(workload.namespaces):
        yield _object("v1", "Namespace", namespace_of(number), "")
        yield _object("v1", "ServiceAccount", "default", namespace_of(number))
    for number in range(_NODES):
        yield _object("v1", "Node", f"node-{number}", "")


def objects(workload: Workload, cluster: int) -> Iterator[Object]:
    """Everything in one cluster but its namespaces; the rules are in the first."""
    by_service: dict[tuple[str, str], list[ProxyPlace]] = {}
    for place in places(workload):
        if place.cluster == cluster:
            by_service.setdefault((place.namespace, place.service), []).append(place)
    for number in range(workload.services):
        namespace, name = service_of(workload, number)
        yield service(namespace, name)
        here = by_service.get((namespace, name), [])
        yield endpoint_slice(namespace, name, here)
        yield from (pod(place) for place in here)
    yield from (pod(place) for place in callers(workload) if place.cluster == cluster)
    if workload.clusters > 1:
        yield gateway(cluster, "198.51.100.1")
    if cluster == 0:
        yield from rules(workload)


def rules(workload: Workload) -> Iterator[Object]:
    for number in range(workload.virtual_services):
        yield virtual_service(workload, number, "1")
    for number in range(workload.destination_rules):
        yield destination_rule(workload, number, "v1")
    for number in range(workload.authorization_policies):
        namespace, name = service_of(workload, number)
        spec = {
            "selector": {"matchLabels": {"app": name}},
            "rules": [{"from": [{"source": {"namespaces": [namespace, namespace_of(0)]}}]}],
        }
        yield _object("security.istio.io/v1", "AuthorizationPolicy", name, namespace, spec=spec)


def joined(workload: Workload, services: int, endpoints: int, *, with_pods: bool) -> Iterator[Object]:
    """What is in a cluster that joins: more endpoints of services that the mesh has."""
    number = 0
    for index in range(services):
        namespace, name = service_of(workload, index % workload.services)
        here = []
        for _ in range(endpoints):
            number += 1
            ip = f"10.250.{number >> 8 & 0xFF}.{number & 0xFF}"
            here.append(ProxyPlace(number, 0, namespace, f"{name}-joined", ip))
        yield service(namespace, name)
        yield endpoint_slice(namespace, name, here, of_pods=with_pods)
        if with_pods:
            yield from (pod(place) for place in here)


def service(namespace: str, name: str) -> Object:
    spec = {"selector": {"app": name}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}
    return _object("v1", "Service", name, namespace, spec=spec)


def endpoint_slice(
    namespace: str, name: str, here: list[ProxyPlace], *, of_pods: bool = True, more: str = ""
) -> Object:
    """`more` is one more address, like the first: the mark by which a change is recognized."""
    endpoints: list[Object] = []
    for place in here:
        endpoint: Object = {
            "addresses": [place.ip],
            "conditions": {"ready": True, "serving": True, "terminating": False},
            "nodeName": f"node-{place.number % _NODES}",
        }
        if of_pods:
            endpoint["targetRef"] = {"kind": "Pod", "name": place.name, "namespace": namespace}
        endpoints.append(endpoint)
    if more:
        endpoints.append({**endpoints[0], "addresses": [more]})
    return {
        **_object("discovery.k8s.io/v1", "EndpointSlice", f"{name}-1", namespace),
        "metadata": {"name": f"{name}-1", "namespace": namespace, "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    }


def pod(place: ProxyPlace) -> Object:
    container = {"name": "app", "image": "example/app", "ports": [{"containerPort": 8080}]}
    spec = {"serviceAccountName": "default", "nodeName": f"node-{place.number % _NODES}", "containers": [container]}
    status = {
        "phase": "Running",
        "podIP": place.ip,
        "podIPs": [{"ip": place.ip}],
        "conditions": [{"type": "Ready", "status": "True"}],
    }
    return {**_object("v1", "Pod", place.name, place.namespace, labels=place.labels, spec=spec), "status": status}


def virtual_service(workload: Workload, number: int, mark: str) -> Object:
    """`mark` is a header's value in the route."""
    namespace, name = service_of(workload, number)
    host = f"{name}.{namespace}.svc.cluster.local"
    routes = [{"destination": {"host": host}, "headers": {"request": {"set": {"x-mark": mark}}}}]
    spec = {"hosts": [host], "http": [{"match": [{"uri": {"prefix": "/api"}}], "route": routes}, {"route": routes}]}
    return _object("networking.istio.io/v1", "VirtualService", name, namespace, spec=spec)


def destination_rule(workload: Workload, number: int, subset: str) -> Object:
    """`subset` is a name: the mark."""
    namespace, name = service_of(workload, number)
    spec = {
        "host": f"{name}.{namespace}.svc.cluster.local",
        "trafficPolicy": {"connectionPool": {"tcp": {"maxConnections": 100}}},
        "subsets": [{"name": subset, "labels": {"version": "v1"}}],
    }
    return _object("networking.istio.io/v1", "DestinationRule", name, namespace, spec=spec)


def gateway(cluster: int, address: str) -> Object:
    """The network's gateway, at this address."""
    labels = {"istio": "eastwestgateway", "topology.istio.io/network": network_of(cluster)}
    spec = {
        "type": "LoadBalancer",
        "selector": {"istio": "eastwestgateway"},
        "ports": [{"name": "tls", "port": 15443, "targetPort": 15443}],
    }
    status = {"loadBalancer": {"ingress": [{"ip": address}]}}
    return {
        **_object("v1", "Service", "istio-eastwestgateway", SYSTEM, labels=labels, spec=spec),
        "status": status,
    }


def _object(
    version: str,
    kind: str,
    name: str,
    namespace: str,
    *,
    labels: dict[str, str] | None = None,
    spec: Object | None = None,
) -> Object:
    metadata: Object = {"name": name}
    if namespace:
        metadata["namespace"] = namespace
    if labels:
        metadata["labels"] = labels
    found: Object = {"apiVersion": version, "kind": kind, "metadata": metadata}
    if spec is not None:
        found["spec"] = spec
    return found
