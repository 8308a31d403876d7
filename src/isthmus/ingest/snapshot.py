"""Snapshot: from every cluster's objects to one consistent picture of the mesh.

Clusters go in, in any order; what comes out does not depend on it. A mistake in one object is an Issue and leaves all others alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from isthmus.ingest.aliases import apply_aliases
from isthmus.ingest.allocation import apply_allocation, without_an_address
from isthmus.ingest.cache import IngestCache
from isthmus.ingest.carried_over import STRUCTURE, carried_over, told
from isthmus.ingest.cluster_endpoints import ClusterEndpoints
from isthmus.ingest.cluster_facts import ClusterFacts, facts_of
from isthmus.ingest.cluster_set import apply_cluster_set
from isthmus.ingest.configuration import Configuration, configuration_of
from isthmus.ingest.discovery_selectors import discovered, left_out
from isthmus.ingest.federation import federate
from isthmus.ingest.gateways import networks_without_gateway
from isthmus.ingest.global_names import Derived, GlobalName, derived, members_of
from isthmus.ingest.headless import Networks, apply_headless
from isthmus.ingest.host_names import resolved
from isthmus.ingest.inputs import NOTHING_BESIDES, Besides, ClusterInput
from isthmus.ingest.merging import add_entries, merge_endpoints, merge_services
from isthmus.ingest.quotas import services_within
from isthmus.model.issues import Issue
from isthmus.model.names import UNDECLARED_NETWORK, ClusterId, NetworkId, ServiceKey
from isthmus.model.quotas import QuotaUse
from isthmus.model.services import Service
from isthmus.model.snapshot import MeshSettings, Snapshot
from isthmus.model.topology import NetworkGateway
from isthmus.model.traffic import DestinationRule
from isthmus.model.values import dataclass
from isthmus.model.workloads import Endpoint


@dataclass(frozen=True, slots=True)
class Patch:
    """How a snapshot differs from an older one: in the endpoints of these services alone."""

    base: Snapshot
    endpoints: frozenset[ServiceKey]


@dataclass(frozen=True, slots=True)
class Reading:
    """A snapshot, with what is kept to patch it. `stands_alone`: endpoints come from EndpointSlices and nothing else. `host_names` are those
    of network gateways, which somebody has to ask about. `patch`: how it was made from the one before, if it was not read anew.
    """

    snapshot: Snapshot
    configuration: Configuration
    found: tuple[Issue, ...]
    """What is wrong besides the configuration."""
    endpoints: Mapping[ClusterId, ClusterEndpoints]
    stands_alone: bool
    host_names: frozenset[str]
    patch: Patch | None = None
    global_names: tuple[GlobalName, ...] = ()
    global_rules: tuple[DestinationRule, ...] = ()
    """How requests to these are spread."""


def snapshot_of(
    settings: MeshSettings,
    clusters: Sequence[ClusterInput],
    config_cluster: ClusterId,
) -> Snapshot:
    """The picture of the mesh."""
    return read(settings, clusters, config_cluster, IngestCache()).snapshot


def read(
    settings: MeshSettings,
    clusters: Sequence[ClusterInput],
    config_cluster: ClusterId,
    cache: IngestCache,
    besides: Besides = NOTHING_BESIDES,
) -> Reading:
    """The picture of the mesh. `cache` is handed in again with each call to spare what did not change."""
    config = next((cluster for cluster in clusters if cluster.id == config_cluster), None)
    configuration = configuration_of(settings, config, cache.rules, besides)
    settings = configuration.settings
    unknown = [issue for cluster in clusters for issue in left_out(cluster, settings.discovery)]
    clusters = [discovered(cluster, settings.discovery) for cluster in clusters]
    facts = [
        facts_of(cluster, config_cluster, configuration, cache)
        for cluster in sorted(clusters, key=lambda cluster: cluster.id)
    ]
    called = _called(clusters, facts, configuration, config_cluster, cache)
    entered = _entered(facts, configuration, besides)
    own = dict(called.endpoints)  # Those of other meshes, which are added now, are no matter of this mesh's gateways.
    federated = federate(
        called.services,
        called.endpoints,
        configuration.mesh_peers,
        besides.heard,
        settings,
        config_cluster,
        entered.by_peers,
    )
    headless = apply_headless(called.services, called.endpoints, entered.networks, settings, cache)
    found = [
        *headless,
        *besides.issues,
        *entered.issues,
        *federated.issues,
        *unknown,
        *(issue for fact in facts for issue in fact.issues),
        *called.issues,
        *networks_without_gateway(settings, own, entered.declared),
    ]
    cache.end_round()
    cache.rules.end_round()
    snapshot = Snapshot(
        settings=settings,
        clusters=MappingProxyType({fact.cluster.id: fact.cluster for fact in facts}),
        gateways=MappingProxyType(entered.gateways),
        services=MappingProxyType(called.services),
        endpoints=MappingProxyType(called.endpoints),
        heard=MappingProxyType(dict(besides.heard)),
        foreign_gateways=MappingProxyType(federated.foreign_gateways),
        peer_gateways=entered.peer_gateways,
        guests=MappingProxyType(federated.guests),
        service_quotas=called.quotas,
        some_stay_on_node=any(service.node_local_in for service in called.services.values()),
        issues=told(found, configuration, called.services, config_cluster),
        **carried_over(configuration, called.names.rules),
    )
    return Reading(
        snapshot=snapshot,
        configuration=configuration,
        found=tuple(found),
        endpoints={fact.cluster.id: fact.endpoints for fact in facts},
        stands_alone=not federated.guests and _are_of_slices_alone(facts, configuration),
        host_names=entered.host_names,
        global_names=called.names.names,
        global_rules=called.names.rules,
    )


@dataclass(frozen=True, slots=True)
class _Called:
    """What can be called, before other meshes are asked, and what is wrong with it. Later steps write into `services` and `endpoints`."""

    services: dict[ServiceKey, Service]
    endpoints: dict[ServiceKey, tuple[Endpoint, ...]]
    quotas: tuple[QuotaUse, ...]
    names: Derived
    issues: tuple[Issue, ...]


def _called(
    clusters: Sequence[ClusterInput],
    facts: Sequence[ClusterFacts],
    configuration: Configuration,
    config_cluster: ClusterId,
    cache: IngestCache,
) -> _Called:
    """Services of all clusters as one, whoever answers for them, and the names that are derived from them. The order matters."""
    settings, entries = configuration.settings, configuration.service_entries
    services, service_issues = merge_services(facts, settings, cache)
    declarations = [declaration for fact in facts for declaration in fact.declarations]
    quotas, over = services_within(services, declarations, configuration.allowances, settings, cache)
    endpoints = merge_endpoints(facts, services, cache)
    add_entries(services, endpoints, configuration, facts)
    names = derived(clusters, declarations, services, configuration.global_policies, settings, config_cluster)
    for name, service in zip(names.names, names.services, strict=True):
        services[name.key] = service
        endpoints[name.key] = members_of(name, endpoints)
    unplaced = apply_allocation(services, declarations, entries, names.names, len(facts), cache)
    apply_cluster_set(services, endpoints, clusters, settings)
    apply_aliases(services, clusters, settings.dns_domain, cache)
    without = without_an_address(unplaced, entries, config_cluster)
    return _Called(services, endpoints, quotas, names, (*service_issues, *over, *names.issues, *without))


@dataclass(frozen=True, slots=True)
class _Entered:
    """Where networks are entered: `declared` are those with a gateway, `gateways` those with one that has an address; `by_peers`, where other
    meshes do."""

    declared: frozenset[NetworkId]
    gateways: dict[NetworkId, tuple[NetworkGateway, ...]]
    networks: Networks
    peer_gateways: tuple[NetworkGateway, ...]
    by_peers: frozenset[NetworkId]
    host_names: frozenset[str]
    issues: tuple[Issue, ...]


def _entered(facts: Sequence[ClusterFacts], configuration: Configuration, besides: Besides) -> _Entered:
    declared = _ways_in(facts, configuration.settings, configuration.network_gateways)
    ways_in = resolved(declared, besides.resolved)
    for_peers = resolved({each for fact in facts for each in fact.peer_gateways}, besides.resolved)
    gateways = _by_network(ways_in.gateways)
    return _Entered(
        declared=frozenset(gateway.network for gateway in declared),
        gateways=gateways,
        networks=Networks(_networks_of(facts, gateways), frozenset(gateways)),
        peer_gateways=tuple(sorted(for_peers.gateways)),
        by_peers=frozenset(each.network for each in for_peers.gateways),
        host_names=ways_in.names | for_peers.names,
        issues=(*ways_in.issues, *for_peers.issues),
    )


def _are_of_slices_alone(facts: Sequence[ClusterFacts], configuration: Configuration) -> bool:
    """Whether endpoints come from EndpointSlices and nothing else."""
    settings = configuration.settings
    return not (
        any(fact.entries for fact in facts)
        or configuration.service_entries
        or settings.discovery
        or settings.cluster_set.exports
        or settings.cluster_set.hosts
    )


def with_rules(
    reading: Reading, settings: MeshSettings, config: ClusterInput, cache: IngestCache, besides: Besides
) -> Reading | None:
    """The reading after a change of the config cluster's rules; None where they say more than what proxies do: which services there are."""
    before, configuration = reading.configuration, configuration_of(settings, config, cache.rules, besides)
    cache.rules.end_round()
    if before.settings.discovery:
        return None
    if any(getattr(before, name) != getattr(configuration, name) for name in STRUCTURE):
        return None
    issues = told(reading.found, configuration, reading.snapshot.services, config.id)
    snapshot = replace(reading.snapshot, issues=issues, **carried_over(configuration, reading.global_rules))
    return replace(reading, snapshot=snapshot, configuration=configuration, patch=None)


def _ways_in(
    facts: Sequence[ClusterFacts], settings: MeshSettings, others: Sequence[NetworkGateway]
) -> list[NetworkGateway]:
    return sorted({*settings.networks.gateways, *others, *(gateway for fact in facts for gateway in fact.gateways)})


def _networks_of(facts: Sequence[ClusterFacts], gateways: Iterable[NetworkId]) -> frozenset[NetworkId]:
    """Every network that has a name: where clusters are, and where gateways lead."""
    return frozenset({fact.cluster.network for fact in facts} | set(gateways)) - {UNDECLARED_NETWORK}


def _by_network(found: Iterable[NetworkGateway]) -> dict[NetworkId, tuple[NetworkGateway, ...]]:
    gateways = sorted(found)
    networks = sorted({gateway.network for gateway in gateways})
    return {network: tuple(gateway for gateway in gateways if gateway.network == network) for network in networks}
