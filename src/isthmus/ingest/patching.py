"""Patching: the next snapshot when nothing but Pods and EndpointSlices has changed, which is nearly always.

Reading every object again costs what the mesh is large; this costs what the services are large whose endpoints changed. Where a change could
reach beyond these services, this step declines, and the whole is read again. The law, held by tests/discovery/test_pipeline_laws.py: a patched
snapshot equals the one that is read from scratch. Changes of rules have a step of their own, `snapshot.with_rules`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import replace
from types import MappingProxyType
from typing import cast

from isthmus.ingest.cluster_endpoints import POD, SLICE, Name
from isthmus.ingest.global_names import members_of
from isthmus.ingest.headless import networks_of, of_pod, pod_names, shape_of
from isthmus.ingest.merging import distinct
from isthmus.ingest.snapshot import Patch, Reading
from isthmus.model.names import ClusterId, NetworkId, ServiceKey
from isthmus.model.services import Service
from isthmus.model.workloads import Endpoint

Changes = Mapping[ClusterId, Mapping[str, Set[Name]]]
"""Names of objects that came, went or changed, by cluster and kind."""


def patched(
    reading: Reading, changes: Changes, objects: Mapping[ClusterId, Mapping[str, Mapping[Name, object]]]
) -> Reading | None:
    """The reading after the changes, when `objects` are there; None where they may concern more than the endpoints of some services."""
    if not reading.stands_alone or any(kind not in (POD, SLICE) for found in changes.values() for kind in found):
        return None
    if any(cluster not in reading.endpoints for cluster in changes):
        return None
    known, services = reading.snapshot.endpoints, reading.snapshot.services
    fresh: dict[ServiceKey, tuple[Endpoint, ...]] = {}
    for cluster, found in changes.items():
        for key in reading.endpoints[cluster].update(objects[cluster], found.get(POD, ()), found.get(SLICE, ())):
            if key in services:
                fresh[key] = distinct(
                    [part for _, each in sorted(reading.endpoints.items()) for part in each.endpoints(key)]
                )
    before = _networks(known[key] for key in fresh)
    if _networks(fresh.values()) != before:
        return None  # Whether a network is without a gateway is told, and depends on who has endpoints there.
    changed = {key: found for key, found in fresh.items() if found != known[key]}
    if not changed:
        return reading
    for key in [key for key in changed if services[key].headless]:
        pods = _pods_of(services[key], known[key], changed[key], reading)
        if pods is None:
            return None
        changed |= pods
    # Copied as it is: put together anew, every key would be hashed again.
    endpoints = cast("MappingProxyType[ServiceKey, tuple[Endpoint, ...]]", known).copy() | changed
    for name in reading.global_names:
        if any(member.service in changed for member in name.members):
            changed[name.key] = endpoints[name.key] = members_of(name, endpoints)
    snapshot = replace(reading.snapshot, endpoints=MappingProxyType(endpoints))
    return replace(reading, snapshot=snapshot, patch=Patch(reading.snapshot, frozenset(changed)))


def _pods_of(
    service: Service, before: tuple[Endpoint, ...], after: tuple[Endpoint, ...], reading: Reading
) -> dict[ServiceKey, tuple[Endpoint, ...]] | None:
    """What is behind the names of a headless service's Pods now; None where names come or go, or lead elsewhere."""
    settings, services = reading.snapshot.settings, reading.snapshot.services
    domain = settings.cluster_set.domain
    if service.near_in is None:  # Nobody calls it from elsewhere, so its Pods have no names.
        return {} if networks_of(before) == networks_of(after) else None
    if shape_of(service, before, domain) != shape_of(service, after, domain):
        return None
    named = {ServiceKey(service.namespace, pod.host): pod for pod in pod_names(service, after, domain)}
    there = {key: services[key] for key in named if key in services}
    return {key: of_pod(key, named[key]) for key, found in there.items() if found.pod_of == service.key}


def _networks(found: Iterable[tuple[Endpoint, ...]]) -> frozenset[NetworkId]:
    return frozenset(endpoint.network for endpoints in found for endpoint in endpoints)
