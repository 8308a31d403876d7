"""What do all clusters say together? Services of one name are one service; whoever answers for it in some cluster answers for it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from operator import attrgetter

from isthmus.ingest.cache import IngestCache
from isthmus.ingest.cluster_facts import ClusterFacts
from isthmus.ingest.configuration import Configuration
from isthmus.ingest.mesh_config import is_cluster_local
from isthmus.ingest.service_entries import Candidate, chosen_by, selected
from isthmus.ingest.services import Declaration, merged
from isthmus.ingest.workloads import health_of
from isthmus.model.issues import Issue
from isthmus.model.names import ServiceKey
from isthmus.model.services import Service
from isthmus.model.snapshot import MeshSettings
from isthmus.model.workloads import Endpoint, Health

_PREFERENCE = {Health.HEALTHY: 0, Health.UNHEALTHY: 1, Health.TERMINATING: 2}


def merge_services(
    facts: Sequence[ClusterFacts], settings: MeshSettings, cache: IngestCache
) -> tuple[dict[ServiceKey, Service], list[Issue]]:
    by_key: dict[ServiceKey, list[Declaration]] = defaultdict(list)
    for fact in facts:
        for declaration in fact.declarations:
            by_key[declaration.key].append(declaration)
    services: dict[ServiceKey, Service] = {}
    issues: list[Issue] = []
    for key, declarations in sorted(by_key.items()):
        local = is_cluster_local(key.hostname, settings.cluster_local)
        service, found = cache.once(
            ("merged", key, local),
            tuple(declarations),
            lambda declarations=declarations, local=local: merged(declarations, cluster_local=local),  # type: ignore[misc]
        )
        services[key] = service
        issues += found
    return services, issues


def merge_endpoints(
    facts: Sequence[ClusterFacts], services: Mapping[ServiceKey, object], cache: IngestCache
) -> dict[ServiceKey, tuple[Endpoint, ...]]:
    """In the order of clusters, then of addresses: the order in which proxies get them."""
    parts = {key: tuple(part for fact in facts for part in fact.endpoints.endpoints(key)) for key in services}
    return {
        key: cache.once(("endpoints", key), found, lambda found=found: distinct(found))  # type: ignore[misc]
        for key, found in parts.items()
    }


def add_entries(
    services: dict[ServiceKey, Service],
    endpoints: dict[ServiceKey, tuple[Endpoint, ...]],
    configuration: Configuration,
    facts: Sequence[ClusterFacts],
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


def _add_endpoints(
    endpoints: dict[ServiceKey, tuple[Endpoint, ...]], key: ServiceKey, more: tuple[Endpoint, ...]
) -> None:
    known = endpoints.get(key, ())
    endpoints[key] = distinct([known, more]) if more else known


def _candidates(facts: Sequence[ClusterFacts]) -> Iterator[Candidate]:
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
    if len(slices) == 1 and len({endpoint.ip for endpoint in slices[0]}) == len(slices[0]):
        # A slice is of one cluster: nothing else is left to go by.
        return tuple(sorted(slices[0], key=attrgetter("ip")))
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
