"""Networks and their gateways: who is where, and who gets in."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network, ip_network
from itertools import combinations

from isthmus.assurance.analysis.across.whole_mesh import WholeMesh
from isthmus.assurance.analysis.gateways import NETWORKING, selector_of, servers_of
from isthmus.assurance.analysis.items import Index, Item, listed, selects
from isthmus.assurance.catalogue import mesh as codes
from isthmus.assurance.validation.terms import is_cidr
from isthmus.ingest.labels import NETWORK
from isthmus.model.issues import Issue

_EVERY_HOST = ("*", "*.local")


def clusters_without_network(mesh: WholeMesh) -> Iterator[Issue]:
    if mesh.snapshot is None:
        return
    clusters = mesh.snapshot.clusters
    networks = {cluster.network for cluster in clusters.values()}
    if not any(networks):
        return
    for cluster in clusters.values():
        if not cluster.network:
            others = ", ".join(sorted(f"{other.id} in {other.network}" for other in clusters.values() if other.network))
            yield mesh.finding(
                codes.CLUSTER_WITHOUT_NETWORK,
                "Cluster",
                cluster.id,
                f"does not say its network, but others do: {others}",
            )


def label_and_settings(mesh: WholeMesh) -> Iterator[Issue]:
    """The label of the system namespace against MeshNetworks."""
    declared: dict[str, str] = {}
    for name, network in (mesh.settings.mesh_networks.get("networks") or {}).items():
        for endpoint in (network or {}).get("endpoints") or []:
            if endpoint.get("fromRegistry"):
                declared[endpoint["fromRegistry"]] = name
    for index in mesh.indexes:
        namespace = index.get("Namespace", "", mesh.settings.root_namespace)
        label = namespace.labels.get(NETWORK) if namespace else None
        other = declared.get(index.cluster)
        if namespace and label and other and label != other:
            yield namespace.finding(
                codes.NETWORKS_DISAGREE, f"its label says network {label}, MeshNetworks says {other}",
                path=f"metadata.labels['{NETWORK}']",
            )  # fmt: skip


def gateway_services(index: Index) -> list[Item]:
    """Services that stand for their network's gateway."""
    return [service for service in index.each("Service") if service.labels.get(NETWORK)]


def exposures(mesh: WholeMesh) -> Iterator[Issue]:
    """Whether anything, or everything, gets through a network's gateway."""
    passing = [
        (gateway, server)
        for index in mesh.primaries
        for gateway in index.each("Gateway", NETWORKING)
        for server in servers_of(gateway)
        if (server.get("tls") or {}).get("mode") == "AUTO_PASSTHROUGH"
    ]
    for index in mesh.indexes:
        for service in gateway_services(index):
            labels = service.spec.get("selector") or {}
            if labels and not any(selects(selector_of(gateway), labels) for gateway, _ in passing):
                network = service.labels[NETWORK]
                what = f"stands for network {network}, but no Gateway with mode AUTO_PASSTHROUGH selects its Pods"
                yield service.finding(codes.GATEWAY_EXPOSES_NOTHING, what)
    for gateway, server in passing:
        everything = [host for host in server.get("hosts") or [] if host.rpartition("/")[2] in _EVERY_HOST]
        if everything:
            yield gateway.finding(
                codes.EVERYTHING_EXPOSED, f"passes {', '.join(everything)} through", path="spec.servers"
            )


def gateways_of_unknown_networks(mesh: WholeMesh) -> Iterator[Issue]:
    if mesh.snapshot is None:
        return
    known = {cluster.network for cluster in mesh.snapshot.clusters.values()}
    known |= {endpoint.network for found in mesh.snapshot.endpoints.values() for endpoint in found}
    for index in mesh.indexes:
        for service in gateway_services(index):
            network = service.labels[NETWORK]
            if network not in known:
                there = ", ".join(sorted(name for name in known if name)) or "none"
                yield service.finding(
                    codes.NETWORK_OF_GATEWAY_UNKNOWN, f"stands for network {network}, which nobody is in; there is: {there}",
                    path=f"metadata.labels['{NETWORK}']",
                )  # fmt: skip


def single_gateways(mesh: WholeMesh) -> Iterator[Issue]:
    by_network: dict[str, list[tuple[Item, list[Item]]]] = defaultdict(list)
    for index in mesh.indexes:
        for service in gateway_services(index):
            selector = service.spec.get("selector") or {}
            pods = [
                pod
                for pod in index.each("Pod")
                if selector and pod.namespace == service.namespace and selects(selector, pod.labels)
            ]
            by_network[service.labels[NETWORK]].append((service, pods))
    for network, several in by_network.items():
        pods_of_network = {pod for _, pods in several for pod in pods}
        if len(pods_of_network) == 1:
            [pod] = pods_of_network
            service = next(service for service, pods in several if pods)
            what = f"the only gateway of network {network} is Pod {pod.full_name}"
            yield service.finding(codes.UNSTABLE_GATEWAY, what)


def headless_services(mesh: WholeMesh) -> Iterator[Issue]:
    if mesh.snapshot is None:
        return
    for key, service in mesh.snapshot.services.items():
        endpoints = mesh.snapshot.endpoints.get(key, ())
        networks = sorted({endpoint.network for endpoint in endpoints})
        nameless = sorted({endpoint.network for endpoint in endpoints if not endpoint.hostname})
        if service.headless and len(networks) > 1 and nameless:
            yield mesh.finding(
                codes.HEADLESS_ACROSS_NETWORKS, "Service", f"{key.namespace}/{service.name}",
                f"is headless, and has Pods without a name on the networks {listed([name or 'unnamed' for name in nameless])}",
            )  # fmt: skip


def overlapping_ranges(mesh: WholeMesh) -> Iterator[Issue]:
    """Between networks: within one, ranges may be as they like."""
    ranges: list[tuple[str, IPv4Network | IPv6Network]] = [
        (name, ip_network(endpoint["fromCidr"], strict=False))
        for name, network in (mesh.settings.mesh_networks.get("networks") or {}).items()
        for endpoint in (network or {}).get("endpoints") or []
        if endpoint.get("fromCidr") and is_cidr(endpoint["fromCidr"])
    ]
    for (one, first), (other, second) in combinations(ranges, 2):
        if one != other and first.overlaps(second):
            what = f"{first} of network {one} and {second} of network {other} overlap"
            yield mesh.finding(codes.OVERLAPPING_RANGES, "MeshNetworks", "meshnetworks", what)
