"""What does the snapshot have as the config cluster's rules say it, and what tells it of mistakes?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from typing import Any

from isthmus.ingest.configuration import Configuration
from isthmus.ingest.gateway_api.backends import backend_issues
from isthmus.ingest.mirrors import mirrors_without_port
from isthmus.model.envoy_filters import VERSION
from isthmus.model.issues import Issue
from isthmus.model.names import ClusterId, ServiceKey
from isthmus.model.services import Service
from isthmus.model.snapshot import Snapshot
from isthmus.model.telemetry import NAME_LABELS, REVISION_LABELS
from isthmus.model.traffic import DestinationRule

_FIELDS = {field.name for field in fields(Configuration)} - {"issues"}
_SAID = _FIELDS & {field.name for field in fields(Snapshot)} - {"settings"}
"""What the Snapshot has as the config cluster says it: each field of that name, so that a new kind of rule needs no line here."""

STRUCTURE = (_FIELDS - _SAID) | {"mesh_peers"}
"""What decides which services, endpoints and gateways there are."""


def carried_over(configuration: Configuration, more: tuple[DestinationRule, ...]) -> dict[str, Any]:
    """With rules beside those that are written."""
    configuration = replace(configuration, destination_rules=(*configuration.destination_rules, *more))
    said = {name: getattr(configuration, name) for name in _SAID}
    return said | {"claim_keys": _claim_keys(configuration), "selector_keys": _selector_keys(configuration)}


def told(
    found: Iterable[Issue],
    configuration: Configuration,
    services: Mapping[ServiceKey, Service],
    config_cluster: ClusterId,
) -> tuple[Issue, ...]:
    """Everything that is wrong, once."""
    backends = backend_issues(configuration.attachments, services, config_cluster)
    mirrors = mirrors_without_port(configuration.virtual_services, services, config_cluster)
    return tuple(sorted({*found, *configuration.issues, *backends, *mirrors}))


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
