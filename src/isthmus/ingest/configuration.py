"""Configuration: what the config cluster's own objects say about the mesh as a whole, its policies and its routes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field
from typing import TypeVar, cast

from isthmus.api import envoy_filter, federation, networking, proxy_config, security, telemetry, virtual_service
from isthmus.api.core import ConfigMap
from isthmus.api.gateway import Gateway
from isthmus.api.global_names import GlobalTrafficPolicy
from isthmus.api.meta import KubernetesObject, ObjectMeta
from isthmus.ingest.cache import IngestCache
from isthmus.ingest.delegation import with_delegates
from isthmus.ingest.destination_rules import destination_rule_of
from isthmus.ingest.discovery_selectors import discovered
from isthmus.ingest.envoy_filters import envoy_filter_of
from isthmus.ingest.gateway_api.objects import inputs_of, objects_of
from isthmus.ingest.gateway_api.reading import GatewayApi, gateway_api_of
from isthmus.ingest.gateway_conflicts import gateway_conflicts
from isthmus.ingest.gateways import exposures_of, servers_of
from isthmus.ingest.inputs import NOTHING_BESIDES, Besides, ClusterInput, network_of
from isthmus.ingest.mesh_config import CONFIG_MAP, from_config_map
from isthmus.ingest.mesh_peers import mesh_peer_of, told_apart
from isthmus.ingest.peer_bundles import with_fetched
from isthmus.ingest.policies import authorization_policy_of, peer_authentication_of, request_authentication_of
from isthmus.ingest.proxy_configs import proxy_config_of
from isthmus.ingest.quotas import allowances_of, rules_within
from isthmus.ingest.revisions import is_of, revisions_of
from isthmus.ingest.service_entries import Candidate, ServiceEntry, Where, service_entry_of, workload_entry_of
from isthmus.ingest.sidecars import sidecar_of
from isthmus.ingest.targets import without_gateway
from isthmus.ingest.telemetry import telemetry_of, unknown_providers
from isthmus.ingest.token_keys import addresses_of, with_keys
from isthmus.ingest.virtual_services import virtual_service_of
from isthmus.model.attachments import Attachments
from isthmus.model.envoy_filters import EnvoyFilter
from isthmus.model.federation import ClosedPeer, MeshPeer
from isthmus.model.gateways import Server
from isthmus.model.issues import Issue
from isthmus.model.names import NetworkId
from isthmus.model.proxy_config import ProxyConfigRule
from isthmus.model.quotas import Allowances, QuotaUse
from isthmus.model.routing import VirtualService
from isthmus.model.security import (
    AuthorizationPolicy,
    FetchedKeys,
    KeySource,
    PeerAuthentication,
    RequestAuthentication,
)
from isthmus.model.sidecars import Sidecar
from isthmus.model.snapshot import Exposure, MeshSettings
from isthmus.model.telemetry import Telemetry
from isthmus.model.topology import ClusterNetwork, NetworkGateway
from isthmus.model.traffic import DestinationRule
from isthmus.model.values import dataclass

Read = TypeVar("Read", bound=KubernetesObject)
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """Everything sorted, so that the order in which objects came says nothing."""

    settings: MeshSettings
    exposures: tuple[Exposure, ...] = ()
    servers: tuple[Server, ...] = ()
    peer_authentications: tuple[PeerAuthentication, ...] = ()
    authorization_policies: tuple[AuthorizationPolicy, ...] = ()
    request_authentications: tuple[RequestAuthentication, ...] = ()
    key_addresses: tuple[str, ...] = ()
    destination_rules: tuple[DestinationRule, ...] = ()
    virtual_services: tuple[VirtualService, ...] = ()
    sidecars: tuple[Sidecar, ...] = ()
    envoy_filters: tuple[EnvoyFilter, ...] = ()
    telemetries: tuple[Telemetry, ...] = ()
    proxy_config_rules: tuple[ProxyConfigRule, ...] = ()
    service_entries: tuple[ServiceEntry, ...] = ()
    workload_entries: tuple[Candidate, ...] = ()
    network_gateways: tuple[NetworkGateway, ...] = ()
    attachments: Attachments = field(default_factory=Attachments)
    mesh_peers: tuple[MeshPeer, ...] = ()
    closed_peers: tuple[ClosedPeer, ...] = ()
    global_policies: tuple[GlobalTrafficPolicy, ...] = ()
    allowances: Allowances = field(default_factory=dict)
    quotas: tuple[QuotaUse, ...] = ()
    issues: tuple[Issue, ...] = field(default=())


def configuration_of(
    settings: MeshSettings,
    cluster: ClusterInput | None,
    cache: IngestCache,
    besides: Besides = NOTHING_BESIDES,
) -> Configuration:
    """`settings` are the control plane's own; the answer has them as MeshConfig changes them. Without a config cluster, no more."""
    if cluster is None:
        return Configuration(settings=settings)
    reader = _Reader(cluster, cache, revisions_of(cluster, settings))
    settings = with_fetched(reader.settings(settings), besides.bundles)
    allowances, unreadable = allowances_of(cluster, settings)
    found = discovered(cluster, settings.discovery)
    cluster, quotas, over = rules_within(found, allowances, settings, cache, reader.revisions)
    reader.cluster = cluster
    reader.issues += (*unreadable, *over)
    network = reader.network = network_of(cluster, settings)
    domain = settings.dns_domain
    where = Where(cluster=cluster.id, network=network, trust_domain=settings.trust_domain)
    exposed = cast("Mapping[object, Gateway]", cluster.objects.get("Gateway", {}))
    routes = reader.gateway_api(settings)
    own = [server for found in reader.each(Gateway, lambda obj: servers_of(obj, cluster.id)) for server in found]
    servers = tuple(sorted([*own, *routes.servers], key=lambda each: (each.created, each.gateway, each.bound_by, each)))
    reader.issues += gateway_conflicts(servers, cluster.id)
    telemetries = tuple(sorted(reader.each(telemetry.Telemetry, lambda obj: telemetry_of(obj, cluster.id))))
    reader.issues += unknown_providers(telemetries, settings.telemetry, cluster.id)
    tokens = reader.each(security.RequestAuthentication, lambda obj: request_authentication_of(obj, cluster.id))
    written: list[MeshPeer | ClosedPeer] = reader.each(
        federation.MeshPeer, lambda obj: mesh_peer_of(obj, cluster.id, settings), settings
    )
    peers, closed, wrong = told_apart(written, cluster.id, settings.peer_trust_domains)
    reader.issues += wrong
    policies = reader.each(security.AuthorizationPolicy, lambda obj: authorization_policy_of(obj, cluster.id))
    gateways = cluster.objects.get("KubernetesGateway", {})
    reader.issues += without_gateway(telemetries, "Telemetry", gateways, cluster.id)
    reader.issues += without_gateway(tokens, "RequestAuthentication", gateways, cluster.id)
    reader.issues += without_gateway(policies, "AuthorizationPolicy", gateways, cluster.id)
    return Configuration(
        settings=settings,
        mesh_peers=peers,
        closed_peers=closed,
        allowances=allowances,
        quotas=quotas,
        exposures=tuple(
            sorted(
                [
                    *(
                        found
                        for gateway in exposed.values()
                        if is_of(gateway, reader.revisions)
                        for found in exposures_of(gateway)
                    ),
                    *routes.exposures,
                ],
            )
        ),
        servers=servers,
        peer_authentications=tuple(
            sorted(reader.each(security.PeerAuthentication, lambda obj: peer_authentication_of(obj, cluster.id)))
        ),
        authorization_policies=tuple(sorted(policies)),
        request_authentications=tuple(sorted(reader.with_keys(tokens, besides.keys, settings.key_source))),
        key_addresses=addresses_of(tokens, settings.key_source),
        destination_rules=tuple(
            sorted(
                [
                    *reader.each(networking.DestinationRule, lambda obj: destination_rule_of(obj, cluster.id, domain)),
                    *routes.destination_rules,
                ],
                key=_age,
            )
        ),
        virtual_services=tuple(sorted([*reader.virtual_services(domain), *routes.virtual_services], key=_age)),
        sidecars=tuple(
            sorted(reader.each(networking.Sidecar, lambda obj: sidecar_of(obj, cluster.id, domain)), key=_age)
        ),
        telemetries=telemetries,
        proxy_config_rules=tuple(
            sorted(reader.each(proxy_config.ProxyConfig, lambda obj: proxy_config_of(obj, cluster.id)), key=_age)
        ),
        envoy_filters=tuple(
            sorted(
                reader.each(envoy_filter.EnvoyFilter, lambda obj: envoy_filter_of(obj, cluster.id)),
                key=lambda each: (each.priority, each.namespace != settings.root_namespace, each.created, each.name),
            )
        ),
        service_entries=tuple(
            sorted(reader.each(networking.ServiceEntry, lambda obj: service_entry_of(obj, where)), key=_age)
        ),
        workload_entries=tuple(
            sorted(
                reader.each(networking.WorkloadEntry, lambda obj: (workload_entry_of(obj, where), ())),
                key=lambda candidate: (candidate.workload.namespace, candidate.workload.name),
            )
        ),
        global_policies=tuple(
            sorted(reader.each(GlobalTrafficPolicy, lambda obj: (obj, ())), key=lambda each: _oldest(each.metadata))
        ),
        network_gateways=routes.network_gateways,
        attachments=routes.attachments,
        issues=tuple(reader.issues),
    )


class _Reader:
    """Reads each object once, and gathers what is wrong."""

    def __init__(self, cluster: ClusterInput, cache: IngestCache, revisions: frozenset[str]) -> None:
        self.cluster = cluster
        self.revisions = revisions
        self.network = ClusterNetwork(default=NetworkId(""))
        self._cache = cache
        self.issues: list[Issue] = []

    def settings(self, settings: MeshSettings) -> MeshSettings:
        found = self.cluster.objects.get("ConfigMap", {}).get((settings.root_namespace, CONFIG_MAP))
        config_map = cast("ConfigMap | None", found)
        changed, issues = self._cache.once(
            ("mesh config", settings), (config_map,), lambda: from_config_map(settings, config_map, self.cluster.id)
        )
        self.issues += issues
        return changed

    def virtual_services(self, domain: str) -> tuple[VirtualService, ...]:
        """The oldest first, with their delegates' rules."""
        found = self.each(virtual_service.VirtualService, lambda obj: virtual_service_of(obj, self.cluster.id, domain))
        found.sort(key=_age)
        whole, issues = self._cache.once("delegates", tuple(found), lambda: with_delegates(found, self.cluster.id))
        self.issues += issues
        return whole

    def gateway_api(self, settings: MeshSettings) -> GatewayApi:
        """Read as one, because its objects hold only together: a route at a listener, a reference by a grant."""
        objects = objects_of(self.cluster, settings)
        if objects is None:
            return GatewayApi()
        rules = self._cache.once("rules of gateway api", (), IngestCache)
        found = self._cache.once(("gateway api", settings), inputs_of(objects), lambda: gateway_api_of(objects, rules))
        self.issues += found.issues
        return found

    def with_keys(
        self, found: Sequence[RequestAuthentication], keys: Mapping[str, FetchedKeys], source: KeySource
    ) -> Iterator[RequestAuthentication]:
        for each in found:
            rule, issues = with_keys(each, keys, source, self.cluster.id)
            self.issues += issues
            yield rule

    def each(
        self,
        kind: type[Read],
        read: Callable[[Read], tuple[Value | None, tuple[Issue, ...]]],
        settings: MeshSettings | None = None,
    ) -> list[Value]:
        """The values of all objects of a kind; `read` gives None for one that says nothing. `settings`, where it looks at them, too."""
        found: list[Value] = []
        objects = cast("Mapping[tuple[str, str], Read]", self.cluster.objects.get(kind.__name__, {}))
        for name, obj in objects.items():
            if not is_of(obj, self.revisions):
                continue
            key = (kind.__name__, name, self.network, settings)
            value, issues = self._cache.once(key, (obj,), lambda obj=obj: read(obj))  # type: ignore[misc]
            self.issues += issues
            if value is not None:
                found.append(value)
        return found


def _oldest(metadata: ObjectMeta) -> tuple[str, str, str]:
    return (metadata.creation_timestamp, metadata.name, metadata.namespace)


def _age(value: DestinationRule | VirtualService | ServiceEntry | Sidecar | ProxyConfigRule) -> tuple[str, str, str]:
    """The oldest first; what one command has written is of one second, and goes by name, then namespace, as in Istio."""
    return (value.created, value.name, value.namespace)
