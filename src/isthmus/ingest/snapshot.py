"""Snapshot: from every cluster's objects to one consistent picture of the mesh.

Clusters go in, in any order; what comes out does not depend on it. A mistake in one object is an Issue and leaves all others alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Any, cast

from isthmus.api.core import Node, Pod, Service
from isthmus.api.networking import WorkloadEntry
from isthmus.ingest.aliases import apply_aliases
from isthmus.ingest.allocation import addresses_at, places_of
from isthmus.ingest.cache import IngestCache
from isthmus.ingest.cluster_endpoints import ClusterEndpoints
from isthmus.ingest.cluster_set import apply_cluster_set
from isthmus.ingest.configuration import Configuration, configuration_of
from isthmus.ingest.discovery_selectors import discovered, left_out
from isthmus.ingest.federation import federate
from isthmus.ingest.gateway_api.backends import backend_issues
from isthmus.ingest.gateways import (
    entrances_of,
    gateways_of,
    is_on_node_ports,
    networks_without_gateway,
    peer_entrances_of,
)
from isthmus.ingest.global_names import GlobalName, derived, members_of
from isthmus.ingest.headless import Networks, apply_headless
from isthmus.ingest.host_names import resolved
from isthmus.ingest.inputs import NOTHING_BESIDES, Besides, ClusterInput, network_of
from isthmus.ingest.mesh_config import is_cluster_local
from isthmus.ingest.quotas import services_within
from isthmus.ingest.service_entries import Candidate, ServiceEntry, Where, chosen_by, selected, workload_entry_of
from isthmus.ingest.services import Declaration, declaration_of, merged
from isthmus.ingest.workloads import health_of
from isthmus.model import services as model_services
from isthmus.model.envoy_filters import VERSION
from isthmus.model.issues import Issue
from isthmus.model.names import UNDECLARED_NETWORK, ClusterId, NetworkId, ServiceKey
from isthmus.model.snapshot import MeshSettings, Snapshot
from isthmus.model.telemetry import NAME_LABELS, REVISION_LABELS
from isthmus.model.topology import Cluster, ClusterNetwork, NetworkGateway
from isthmus.model.traffic import DestinationRule
from isthmus.model.workloads import Endpoint, Health

_PREFERENCE = {Health.HEALTHY: 0, Health.UNHEALTHY: 1, Health.TERMINATING: 2}


@dataclass(frozen=True, slots=True)
class _Context:
    """What every stage is handed."""

    settings: MeshSettings
    cache: IngestCache


@dataclass(frozen=True, slots=True)
class _ClusterFacts:
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
    context = _Context(configuration.settings, cache)
    selectors = context.settings.discovery
    unknown = [issue for cluster in clusters for issue in left_out(cluster, selectors)]
    clusters = [discovered(cluster, selectors) for cluster in clusters]
    facts = [
        _facts_of(cluster, config_cluster, context, configuration)
        for cluster in sorted(clusters, key=lambda cluster: cluster.id)
    ]
    services, service_issues = _merge_services(facts, context)
    declarations = [declaration for fact in facts for declaration in fact.declarations]
    quotas, over = services_within(services, declarations, configuration.allowances, context.settings, cache)
    endpoints = _merge_endpoints(facts, services, context)
    _add_entries(services, endpoints, configuration, facts)
    names = derived(clusters, declarations, services, configuration.global_policies, context.settings, config_cluster)
    for name, service in zip(names.names, names.services, strict=True):
        services[name.key] = service
        endpoints[name.key] = members_of(name, endpoints)
    _allocate(services, configuration, names.names, facts, context)
    apply_cluster_set(services, endpoints, clusters, context.settings)
    apply_aliases(services, clusters, context.settings.dns_domain, cache)
    for_peers = resolved({each for fact in facts for each in fact.peer_gateways}, besides.resolved)
    entered = frozenset(each.network for each in for_peers.gateways)
    federated = federate(
        services, endpoints, configuration.mesh_peers, besides.heard, context.settings, config_cluster, entered
    )
    declared = _ways_in(facts, context.settings, configuration.network_gateways)
    ways_in = resolved(declared, besides.resolved)
    gateways = _by_network(ways_in.gateways)
    networks = Networks(_networks_of(facts, gateways), frozenset(gateways))
    headless = apply_headless(services, endpoints, networks, context.settings, context.cache)
    found = [
        *headless,
        *besides.issues,
        *ways_in.issues,
        *for_peers.issues,
        *federated.issues,
        *unknown,
        *(issue for fact in facts for issue in fact.issues),
        *service_issues,
        *over,
        *names.issues,
    ]
    own = (
        {key: each for key, each in endpoints.items() if not services[key].mesh}
        if federated.foreign_gateways
        else endpoints
    )
    found += networks_without_gateway(context.settings, own, {gateway.network for gateway in declared})
    context.cache.end_round()
    context.cache.rules.end_round()
    rules = context.settings.cluster_set
    snapshot = Snapshot(
        settings=context.settings,
        clusters=MappingProxyType({fact.cluster.id: fact.cluster for fact in facts}),
        gateways=MappingProxyType(gateways),
        services=MappingProxyType(services),
        endpoints=MappingProxyType(endpoints),
        heard=MappingProxyType(dict(besides.heard)),
        foreign_gateways=MappingProxyType(federated.foreign_gateways),
        peer_gateways=tuple(sorted(for_peers.gateways)),
        guests=MappingProxyType(federated.guests),
        service_quotas=quotas,
        some_stay_on_node=any(service.node_local_in for service in services.values()),
        issues=_told(found, configuration, services, config_cluster),
        **_carried_over(configuration, names.rules),
    )
    return Reading(
        snapshot=snapshot,
        configuration=configuration,
        found=tuple(found),
        endpoints={fact.cluster.id: fact.endpoints for fact in facts},
        stands_alone=not (
            any(fact.entries for fact in facts)
            or configuration.service_entries
            or selectors
            or rules.exports
            or rules.hosts
            or federated.guests
        ),
        host_names=ways_in.names | for_peers.names,
        global_names=names.names,
        global_rules=names.rules,
    )


def with_rules(
    reading: Reading, settings: MeshSettings, config: ClusterInput, cache: IngestCache, besides: Besides
) -> Reading | None:
    """The reading after a change of the config cluster's rules; None where they say more than what proxies do: which services there are."""
    before, configuration = reading.configuration, configuration_of(settings, config, cache.rules, besides)
    cache.rules.end_round()
    if before.settings.discovery:
        return None
    if any(getattr(before, name) != getattr(configuration, name) for name in _STRUCTURE):
        return None
    issues = _told(reading.found, configuration, reading.snapshot.services, config.id)
    snapshot = replace(reading.snapshot, issues=issues, **_carried_over(configuration, reading.global_rules))
    return replace(reading, snapshot=snapshot, configuration=configuration, patch=None)


_FIELDS = {field.name for field in fields(Configuration)} - {"issues"}
_SAID = _FIELDS & {field.name for field in fields(Snapshot)} - {"settings"}
"""What the Snapshot has as the config cluster says it: each field of that name, so that a new kind of rule needs no line here."""

_STRUCTURE = (_FIELDS - _SAID) | {"mesh_peers"}
"""What decides which services, endpoints and gateways there are."""


def _carried_over(configuration: Configuration, more: tuple[DestinationRule, ...]) -> dict[str, Any]:
    """With rules beside those that are written."""
    configuration = replace(configuration, destination_rules=(*configuration.destination_rules, *more))
    said = {name: getattr(configuration, name) for name in _SAID}
    return said | {"claim_keys": _claim_keys(configuration), "selector_keys": _selector_keys(configuration)}


def _told(
    found: Iterable[Issue],
    configuration: Configuration,
    services: Mapping[ServiceKey, model_services.Service],
    config_cluster: ClusterId,
) -> tuple[Issue, ...]:
    """Everything that is wrong, once."""
    backends = backend_issues(configuration.attachments, services, config_cluster)
    return tuple(sorted({*found, *configuration.issues, *backends}))


def _selector_keys(configuration: Configuration) -> frozenset[str]:
    """Every label by which some rule tells callers apart."""
    selectors = [sidecar.selector for sidecar in configuration.sidecars]
    selectors += [rule.selector for rule in configuration.destination_rules]
    selectors += [each.selector for each in configuration.envoy_filters]
    selectors += [each.selector for each in configuration.telemetries]
    for rule in configuration.virtual_services:
        selectors += [match.source_labels for match in rule.all_matches()]
    found = frozenset(key for selector in selectors for key, _ in selector)
    # Traces call workloads by their names.
    return found | frozenset((*NAME_LABELS, *REVISION_LABELS)) if configuration.settings.telemetry.traces else found


def _claim_keys(configuration: Configuration) -> frozenset[str]:
    """What proxies say about themselves by which some EnvoyFilter chooses them."""
    patches = [patch for each in configuration.envoy_filters for patch in each.patches]
    versions = {VERSION for patch in patches if patch.proxy_version}
    return frozenset(versions | {key for patch in patches for key, _ in patch.claims})


def _facts_of(
    cluster: ClusterInput, config_cluster: ClusterId, context: _Context, configuration: Configuration
) -> _ClusterFacts:
    network = network_of(cluster, context.settings)
    services = cast("Mapping[tuple[str, str], Service]", cluster.objects.get("Service", {}))
    nodes = tuple(cast("Mapping[tuple[str, str], Node]", cluster.objects.get("Node", {})).values())
    declarations: list[Declaration] = []
    gateways: list[NetworkGateway] = []
    peer_gateways: list[NetworkGateway] = []
    issues: list[Issue] = []
    for name, service in sorted(services.items()):
        entrances = entrances_of(service, cluster.id, context.settings)
        for_peers = peer_entrances_of(service, network.default)
        declaration, (found, wrong), (entered, also_wrong) = context.cache.once(
            ("service", cluster.id, name, entrances, for_peers),
            (service, *(nodes if (entrances or for_peers) and is_on_node_ports(service) else ())),
            lambda service=service, entrances=entrances, for_peers=for_peers: (  # type: ignore[misc]
                declaration_of(service, cluster=cluster.id, dns_domain=context.settings.dns_domain),
                gateways_of(service, cluster.id, entrances, nodes),
                gateways_of(service, cluster.id, for_peers, nodes),
            ),
        )
        if declaration is not None:
            declarations.append(declaration)
        gateways += found
        peer_gateways += entered
        issues += (*wrong, *also_wrong)
    return _ClusterFacts(
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
        endpoints=_endpoints_in(cluster, network, context),
        gateways=gateways,
        peer_gateways=peer_gateways,
        pods=cast("Mapping[tuple[str, str], Pod]", cluster.objects.get("Pod", {})),
        issues=issues,
        entries=(
            configuration.workload_entries
            if cluster.id == config_cluster
            else tuple(_entries_in(cluster, network, context))
        ),
    )


def _entries_in(cluster: ClusterInput, network: ClusterNetwork, context: _Context) -> Iterator[Candidate]:
    """Of a cluster that is discovered, in the order of their names."""
    where = Where(cluster=cluster.id, network=network, trust_domain=context.settings.trust_domain)
    objects = cast("Mapping[tuple[str, str], WorkloadEntry]", cluster.objects.get("WorkloadEntry", {}))
    for name, obj in sorted(objects.items()):
        yield context.cache.once(
            ("workload entry", name, where),
            (obj,),
            lambda obj=obj: workload_entry_of(obj, where),  # type: ignore[misc]
        )


def _endpoints_in(cluster: ClusterInput, network: ClusterNetwork, context: _Context) -> ClusterEndpoints:
    """Those of the last round, brought up to date, if the cluster is as it was."""
    settings = context.settings
    found = context.cache.once(
        ("endpoints in", cluster.id, network, settings.trust_domain, settings.dns_domain),
        (),
        lambda: ClusterEndpoints(cluster.id, network, settings.trust_domain, settings.dns_domain),
    )
    found.refresh(cluster.objects)
    return found


def _merge_services(
    facts: Sequence[_ClusterFacts], context: _Context
) -> tuple[dict[ServiceKey, model_services.Service], list[Issue]]:
    by_key: dict[ServiceKey, list[Declaration]] = defaultdict(list)
    for fact in facts:
        for declaration in fact.declarations:
            by_key[declaration.key].append(declaration)
    services: dict[ServiceKey, model_services.Service] = {}
    issues: list[Issue] = []
    for key, declarations in sorted(by_key.items()):
        local = is_cluster_local(key.hostname, context.settings.cluster_local)
        service, found = context.cache.once(
            ("merged", key, local),
            tuple(declarations),
            lambda declarations=declarations, local=local: merged(declarations, cluster_local=local),  # type: ignore[misc]
        )
        services[key] = service
        issues += found
    return services, issues


def _merge_endpoints(
    facts: Sequence[_ClusterFacts], services: Mapping[ServiceKey, object], context: _Context
) -> dict[ServiceKey, tuple[Endpoint, ...]]:
    """In the order of clusters, then of addresses: the order in which proxies get them."""
    parts = {key: tuple(part for fact in facts for part in fact.endpoints.endpoints(key)) for key in services}
    return {
        key: context.cache.once(("endpoints", key), found, lambda found=found: distinct(found))  # type: ignore[misc]
        for key, found in parts.items()
    }


def _add_entries(
    services: dict[ServiceKey, model_services.Service],
    endpoints: dict[ServiceKey, tuple[Endpoint, ...]],
    configuration: Configuration,
    facts: Sequence[_ClusterFacts],
) -> None:
    """Services of ServiceEntries, the oldest first. Of several with one name, and of a cluster's Service, the first says what it is; whoever
    answers for one of them answers for it, if callers find them in the same way.
    """
    for fact in facts:
        if fact.entries:
            for declaration in fact.declarations:
                _add_endpoints(endpoints, declaration.key, tuple(chosen_by(declaration, fact.entries)))
    some_choose = any(entry.selector is not None for entry in configuration.service_entries)
    candidates = [*_candidates(facts), *(entry for fact in facts for entry in fact.entries)] if some_choose else []
    for entry in configuration.service_entries:
        chosen = [*entry.endpoints, *selected(entry, candidates)]
        for service in entry.services:
            first = services.setdefault(service.key, service)
            if first.resolution is not service.resolution:
                continue
            _add_endpoints(endpoints, service.key, tuple(each for each in chosen if each.service == service.key))


def _allocate(
    services: dict[ServiceKey, model_services.Service],
    configuration: Configuration,
    names: Sequence[GlobalName],
    facts: Sequence[_ClusterFacts],
    context: _Context,
) -> None:
    """Addresses of the mesh, for names that have none in some cluster. Every name has its place, so that this does not depend on where."""
    declarations = [declaration for fact in facts for declaration in fact.declarations if not declaration.headless]
    entries = [entry for entry in configuration.service_entries if entry.wants_addresses]
    places = context.cache.once(
        "places",
        (*declarations, *entries, *names),
        lambda: places_of([*_named(declarations, entries), *((name.created, name.key) for name in names)]),
    )
    for key, place in places.items():
        service = services[key]
        is_everywhere = service.registry == "Kubernetes" and len(service.declared_in) == len(facts)
        has_its_own = service.registry != "Kubernetes" and (service.virtual_ips or service.address_ranges)
        if not service.headless and not is_everywhere and not has_its_own:
            addresses = addresses_at(place)
            services[key] = context.cache.once(
                ("allocated", key),
                (service, addresses),
                lambda service=service, addresses=addresses: replace(service, allocated=addresses),  # type: ignore[misc]
            )


def _named(declarations: Sequence[Declaration], entries: Sequence[ServiceEntry]) -> Iterator[tuple[str, ServiceKey]]:
    """Each name once, with the oldest time. A pattern for names is none, and where applications choose addresses themselves, none is missing."""
    oldest: dict[ServiceKey, str] = {}
    for declaration in declarations:
        oldest[declaration.key] = min(declaration.created, oldest.get(declaration.key, declaration.created))
    for entry in entries:
        for service in entry.services:
            if "*" not in service.hostname and service.resolution is not model_services.Resolution.NONE:
                oldest.setdefault(service.key, entry.created)
    return ((created, key) for key, created in oldest.items())


def _add_endpoints(
    endpoints: dict[ServiceKey, tuple[Endpoint, ...]], key: ServiceKey, more: tuple[Endpoint, ...]
) -> None:
    known = endpoints.get(key, ())
    endpoints[key] = distinct([known, more]) if more else known


def _candidates(facts: Sequence[_ClusterFacts]) -> Iterator[Candidate]:
    """Every cluster's Pods that answer, or soon will, or did until now."""
    for fact in facts:
        for name, workload in fact.endpoints.workloads.items():
            health = health_of(fact.pods[name])
            if health is not None:
                yield Candidate(workload=workload, health=health)


def distinct(slices: Sequence[tuple[Endpoint, ...]]) -> tuple[Endpoint, ...]:
    """One endpoint may be in two slices for a while, in two states (EndpointSlice API reference): the better one counts, and of two alike
    the one whose workload is known.
    """
    found: dict[tuple[object, ...], Endpoint] = {}
    for endpoint in (endpoint for part in slices for endpoint in part):
        key = (endpoint.cluster, endpoint.network, endpoint.ip or endpoint, endpoint.ports)
        known = found.get(key)
        if known is None or _preference(endpoint) < _preference(known):
            found[key] = endpoint
    return tuple(sorted(found.values(), key=_order))


def _preference(endpoint: Endpoint) -> tuple[object, ...]:
    return _PREFERENCE[endpoint.health], not endpoint.workload.name, not endpoint.workload.meshed, _order(endpoint)


def _order(endpoint: Endpoint) -> tuple[object, ...]:
    """By cluster and address, then by what else there is. Some have no identity, so it is compared as text."""
    workload = endpoint.workload
    identity = workload.identity.path if workload.identity else ""
    who = (workload.network, workload.namespace, workload.name, identity, workload.labels, workload.locality)
    return endpoint.cluster, endpoint.ip, endpoint.ports, who, endpoint.hostname, endpoint.weight


def _ways_in(
    facts: Sequence[_ClusterFacts], settings: MeshSettings, others: Sequence[NetworkGateway]
) -> list[NetworkGateway]:
    return sorted({*settings.networks.gateways, *others, *(gateway for fact in facts for gateway in fact.gateways)})


def _networks_of(facts: Sequence[_ClusterFacts], gateways: Iterable[NetworkId]) -> frozenset[NetworkId]:
    """Every network that has a name: where clusters are, and where gateways lead."""
    return frozenset({fact.cluster.network for fact in facts} | set(gateways)) - {UNDECLARED_NETWORK}


def _by_network(found: Iterable[NetworkGateway]) -> dict[NetworkId, tuple[NetworkGateway, ...]]:
    gateways = sorted(found)
    networks = sorted({gateway.network for gateway in gateways})
    return {network: tuple(gateway for gateway in gateways if gateway.network == network) for network in networks}
