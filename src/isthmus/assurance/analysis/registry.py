"""The list of analyzers. A new one is a function in the module of its subject, and a line here."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from isthmus.assurance.analysis import (
    control_plane,
    credentials,
    destination_rules,
    destinations,
    envoy_filters,
    gateway_routes,
    gateways,
    injection,
    mutual_tls,
    selectors,
    service_entries,
    services,
    statuses,
    telemetry,
    virtual_services,
    webhooks,
)
from isthmus.assurance.analysis.across import agreement, discovery, networks, trust
from isthmus.assurance.analysis.across.whole_mesh import WholeMesh
from isthmus.assurance.analysis.annotations import annotated
from isthmus.assurance.analysis.items import Index
from isthmus.model.issues import Issue

Analyzer = Callable[[Index], Iterator[Issue]]

OF_ONE_CLUSTER: tuple[Analyzer, ...] = (
    annotated,
    webhooks.external_control_planes,
    webhooks.injection_webhooks,
    gateways.gateway_ports,
    gateways.conflicting_gateways,
    gateways.duplicate_certificates,
    credentials.gateway_credentials,
    injection.injection,
    injection.proxy_images,
    injection.image_auto,
    services.port_names,
    services.application_users,
    services.deployments,
    selectors.sidecars,
    selectors.telemetries,
    selectors.authorization_policies,
    selectors.gateway_api_selectors,
    virtual_services.conflicting_mesh_hosts,
    virtual_services.bound_gateways,
    virtual_services.token_claims,
    destinations.destination_hosts,
    destinations.subsets,
    destinations.ingress_subsets,
    gateway_routes.references,
    gateway_routes.against_virtual_services,
    destination_rules.server_verification,
    destination_rules.subset_workloads,
    service_entries.needed_addresses,
    service_entries.conflicting_protocols,
    mutual_tls.conflicts,
    envoy_filters.patches,
    telemetry.providers,
    telemetry.outdated_providers,
    statuses.conditions,
    statuses.crd_versions,
    control_plane.mesh_networks,
    control_plane.key_fetching,
)

MeshAnalyzer = Callable[[WholeMesh], Iterator[Issue]]

OF_THE_MESH: tuple[MeshAnalyzer, ...] = (
    networks.clusters_without_network,
    networks.label_and_settings,
    networks.overlapping_ranges,
    networks.exposures,
    networks.gateways_of_unknown_networks,
    networks.single_gateways,
    networks.headless_services,
    discovery.cluster_ids,
    discovery.secrets,
    discovery.both_ways,
    discovery.ignored_configuration,
    discovery.exports,
    discovery.names_that_do_not_resolve,
    trust.roots,
    trust.roots_in_namespaces,
    trust.trust_domains,
    trust.webhook_bundles,
    agreement.rules,
    agreement.subsets_of_rules,
    agreement.subset_workloads,
    agreement.mesh_settings,
    agreement.inert_localities,
)
