"""What does one cluster say? Its services, those who answer, and its gateways, before other clusters are asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

from isthmus.api.core import Node, Pod, Service
from isthmus.api.networking import WorkloadEntry
from isthmus.ingest.cache import IngestCache
from isthmus.ingest.cluster_endpoints import ClusterEndpoints
from isthmus.ingest.configuration import Configuration
from isthmus.ingest.gateways import entrances_of, gateways_of, is_on_node_ports, peer_entrances_of
from isthmus.ingest.inputs import ClusterInput, network_of
from isthmus.ingest.service_entries import Candidate, Where, workload_entry_of
from isthmus.ingest.services import Declaration, declaration_of
from isthmus.model.issues import Issue
from isthmus.model.names import ClusterId
from isthmus.model.snapshot import MeshSettings
from isthmus.model.topology import Cluster, ClusterNetwork, NetworkGateway
from isthmus.model.values import dataclass


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """What one cluster says."""

    cluster: Cluster
    declarations: list[Declaration]
    endpoints: ClusterEndpoints
    gateways: list[NetworkGateway]
    peer_gateways: list[NetworkGateway]
    """Where other meshes enter."""
    pods: Mapping[tuple[str, str], Pod]
    issues: list[Issue]
    entries: tuple[Candidate, ...]
    """Its WorkloadEntries: hosts that are in no cluster, and known to this one."""


def facts_of(
    cluster: ClusterInput, config_cluster: ClusterId, configuration: Configuration, cache: IngestCache
) -> ClusterFacts:
    """Its own; entries of the config cluster are read with its rules."""
    settings = configuration.settings
    network = network_of(cluster, settings)
    services = cast("Mapping[tuple[str, str], Service]", cluster.objects.get("Service", {}))
    nodes = tuple(cast("Mapping[tuple[str, str], Node]", cluster.objects.get("Node", {})).values())
    declarations: list[Declaration] = []
    gateways: list[NetworkGateway] = []
    peer_gateways: list[NetworkGateway] = []
    issues: list[Issue] = []
    for name, service in sorted(services.items()):
        entrances = entrances_of(service, cluster.id, settings)
        for_peers = peer_entrances_of(service, network.default)
        declaration, (found, wrong), (entered, also_wrong) = cache.once(
            ("service", cluster.id, name, entrances, for_peers),
            (service, *(nodes if (entrances or for_peers) and is_on_node_ports(service) else ())),
            lambda service=service, entrances=entrances, for_peers=for_peers: (  # type: ignore[misc]
                declaration_of(service, cluster=cluster.id, dns_domain=settings.dns_domain),
                gateways_of(service, cluster.id, entrances, nodes),
                gateways_of(service, cluster.id, for_peers, nodes),
            ),
        )
        if declaration is not None:
            declarations.append(declaration)
        gateways += found
        peer_gateways += entered
        issues += (*wrong, *also_wrong)
    return ClusterFacts(
        cluster=Cluster(
            id=cluster.id,
            network=network.default,
            is_config_cluster=cluster.id == config_cluster,
            state=cluster.state,
            stale_since=cluster.stale_since,
            standing=cluster.standing,
            share=cluster.share,
        ),
        declarations=declarations,
        endpoints=_endpoints_in(cluster, network, settings, cache),
        gateways=gateways,
        peer_gateways=peer_gateways,
        pods=cast("Mapping[tuple[str, str], Pod]", cluster.objects.get("Pod", {})),
        issues=issues,
        entries=(
            configuration.workload_entries
            if cluster.id == config_cluster
            else tuple(_entries_in(cluster, network, settings, cache))
        ),
    )


def _entries_in(
    cluster: ClusterInput, network: ClusterNetwork, settings: MeshSettings, cache: IngestCache
) -> Iterator[Candidate]:
    """Of a cluster that is discovered, in the order of their names."""
    where = Where(cluster=cluster.id, network=network, trust_domain=settings.trust_domain)
    objects = cast("Mapping[tuple[str, str], WorkloadEntry]", cluster.objects.get("WorkloadEntry", {}))
    for name, obj in sorted(objects.items()):
        yield cache.once(
            ("workload entry", name, where),
            (obj,),
            lambda obj=obj: workload_entry_of(obj, where),  # type: ignore[misc]
        )


def _endpoints_in(
    cluster: ClusterInput, network: ClusterNetwork, settings: MeshSettings, cache: IngestCache
) -> ClusterEndpoints:
    """Those of the last round, brought up to date, if the cluster is as it was."""
    found = cache.once(
        ("endpoints in", cluster.id, network, settings.trust_domain, settings.dns_domain),
        (),
        lambda: ClusterEndpoints(cluster.id, network, settings.trust_domain, settings.dns_domain),
    )
    found.refresh(cluster.objects)
    return found
